"""The embedded queue's file: its tables, and everything that is said to SQLite, one connection a `Store`.

Owns the file `queue.db` and its write-ahead log; a `Store` is used by one thread. A kill at any moment leaves whole
groups only (WAL, synchronous=FULL). Memory is the connection's page cache, a few MB whatever the file holds.

One statement does a whole group. Each call into SQLite gives the interpreter's lock away, and while the event loop
is busy it takes a switch interval (5 ms) to get it back; so a group of 50 messages added and 50 removed by insert,
delete and commit took 23 ms beside a spinning thread, and takes 10 ms as one insert into the view `work`, whose
triggers do the rest (2.1 ms instead of 3.2 ms beside an idle one). For the same reason reads come as one row: a JSON
list of the columns, and one blob of all bodies.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline.process import private
from pipeline.queues.contract import Body, LargeBody, NewContent, QueueUnavailable
from pipeline.queues.embedded.damage.condition import SAVE, is_damage
from pipeline.queues.embedded.segments import Segments, StoredContent, file_of, numbers
from settings.sqlite import write_ahead

VERSION = 2  # of the tables; 1 had no contents apart, in PRAGMA user_version
APPLICATION = 0x4D52_4351  # "MRCQ", in PRAGMA application_id: whose file it is
PATIENCE = 10.0  # seconds to wait for another process's transaction
CHUNK = 500  # rows that a flush or purge changes in one transaction, so that publishers get their turn
LARGE = 2**20  # bytes of a body from which on it is written and read in place, see `_execute_work` and `take`
PIECE = 2**20  # bytes of it at once
LATEST = 253402300799.0  # the last second of the year 9999; a due time is never later

LAST = 2**63 - 1  # no id is larger

ADD, DONE, PARK, RETRY = range(4)
EIGHTBIT, DOTS = 1, 2
LEFT = 4  # a segment of which less than a quarter is left is thinned out

_TABLES = """
CREATE TABLE messages(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    lane TEXT NOT NULL DEFAULT '',      -- parked there; '' is not parked
    due REAL NOT NULL DEFAULT 0,        -- waits until then, epoch seconds; 0 is ready
    expires REAL,                       -- parked at the latest until then, epoch seconds
    queued REAL NOT NULL,               -- came in then, epoch seconds
    body BLOB NOT NULL,
    segment INTEGER,                    -- what follows the header is there, see `segments`; NULL: in the body
    start INTEGER,
    octets INTEGER,
    flags INTEGER                       -- of the content: EIGHTBIT, DOTS
);
CREATE INDEX contents ON messages(segment) WHERE segment IS NOT NULL;
CREATE INDEX ready ON messages(queue) WHERE lane = '' AND due = 0;
CREATE INDEX waiting ON messages(queue, due) WHERE lane = '' AND due > 0;
CREATE INDEX parked ON messages(queue, lane) WHERE lane <> '';
CREATE INDEX expiring ON messages(queue, expires) WHERE expires IS NOT NULL;

CREATE TABLE counts(queue TEXT, lane TEXT, waiting INTEGER, n INTEGER, PRIMARY KEY(queue, lane, waiting)) WITHOUT ROWID;
CREATE TRIGGER count_added AFTER INSERT ON messages BEGIN
    INSERT INTO counts VALUES(NEW.queue, NEW.lane, NEW.due > 0, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER count_removed AFTER DELETE ON messages BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = OLD.queue AND lane = OLD.lane AND waiting = (OLD.due > 0);
END;
CREATE TRIGGER count_moved AFTER UPDATE OF lane, due ON messages
WHEN OLD.lane <> NEW.lane OR (OLD.due > 0) <> (NEW.due > 0) BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = OLD.queue AND lane = OLD.lane AND waiting = (OLD.due > 0);
    INSERT INTO counts VALUES(NEW.queue, NEW.lane, NEW.due > 0, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER lane_empty AFTER UPDATE ON counts WHEN NEW.n <= 0 AND NEW.lane <> '' BEGIN
    DELETE FROM counts WHERE queue = NEW.queue AND lane = NEW.lane AND waiting = NEW.waiting;
END;

CREATE VIEW work AS SELECT 0 kind, 0 id, '' name, 0.0 due, 0.0 expires, 0.0 queued, x'' body;
CREATE TRIGGER work_add INSTEAD OF INSERT ON work WHEN NEW.kind = 0 BEGIN
    INSERT INTO messages(id, queue, due, queued, body) VALUES(NEW.id, NEW.name, NEW.due, NEW.queued, NEW.body);
END;
CREATE TRIGGER work_done INSTEAD OF INSERT ON work WHEN NEW.kind = 1 BEGIN
    DELETE FROM messages WHERE id = NEW.id;
END;
CREATE TRIGGER work_park INSTEAD OF INSERT ON work WHEN NEW.kind = 2 BEGIN
    UPDATE messages SET lane = NEW.name, due = 0, expires = NEW.expires WHERE id = NEW.id;
END;
CREATE TRIGGER work_retry INSTEAD OF INSERT ON work WHEN NEW.kind = 3 BEGIN
    UPDATE messages SET lane = '', due = NEW.due, expires = NULL, body = NEW.body WHERE id = NEW.id;
END;
"""

_UPGRADES = {
    1: """
ALTER TABLE messages ADD COLUMN segment INTEGER;
ALTER TABLE messages ADD COLUMN start INTEGER;
ALTER TABLE messages ADD COLUMN octets INTEGER;
ALTER TABLE messages ADD COLUMN flags INTEGER;
CREATE INDEX contents ON messages(segment) WHERE segment IS NOT NULL;
""",
}

_WORK = """INSERT INTO work
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, coalesce(substr(?1, value->>6, value->>7), x'')
FROM json_each(?2)"""

# What can be lent, oldest first, by where it is. Parameters: queue, after (an id, a time, or a lane), how many, the
# last id.
_SOURCES = {
    "ready": "lane = '' AND due = 0 AND id > ?2 AND id <= ?4 ORDER BY id",
    "waiting": "lane = '' AND due > 0 AND due <= ?2 ORDER BY due, id",
    "parked": "lane <> '' AND lane = ?2 ORDER BY id",
    "expiring": "expires IS NOT NULL AND expires <= ?2 ORDER BY expires, id",
}
_LIST = {
    source: f"""SELECT json_group_array(json_array(id, size)) FROM
    (SELECT id, length(body) AS size FROM messages INDEXED BY {source} WHERE queue = ?1 AND ?4 AND {where} LIMIT ?3)"""  # noqa: S608
    for source, where in _SOURCES.items()
}
# Another program may have put anything into a column: SQLite does not enforce types, and infinity is no JSON.
_APART = "json_array({})".format(
    ", ".join(f"coalesce(CAST({name} AS INTEGER), 0)" for name in ("segment", "start", "octets", "flags"))
)
_TAKE = f"""SELECT
    CAST(json_group_array(json_array(
        id, min(max(CAST(queued AS REAL), 0.0), {LATEST}), CAST(lane AS TEXT), length(body), blob,
        iif(segment IS NULL, NULL, {_APART}))) AS BLOB),
    CAST(group_concat(body, '') AS BLOB)
FROM (SELECT m.id, m.queued, m.lane, m.segment, m.start, m.octets, m.flags,
    typeof(m.body) = 'blob' AND length(m.body) >= {LARGE} AS blob,
    iif(typeof(m.body) = 'blob' AND length(m.body) >= {LARGE}, x'', CAST(m.body AS BLOB)) AS body
    FROM json_each(?) AS wanted CROSS JOIN messages AS m ON m.id = wanted.value)"""  # noqa: S608
_PLACES = f"""SELECT json_group_array(json_array(
    m.id, min(max(CAST(m.queued AS REAL), 0.0), {LATEST}), CAST(m.lane AS TEXT)))
FROM json_each(?) AS wanted CROSS JOIN messages AS m ON m.id = wanted.value"""  # noqa: S608
_ODD = f"""SELECT id, CAST(CAST(queue AS BLOB) AS TEXT), CAST(CAST(lane AS BLOB) AS TEXT),
    iif(typeof(due) IN ('real', 'integer') AND due BETWEEN 0 AND {LATEST}, due, 0.0),
    iif(typeof(expires) IN ('real', 'integer') AND expires BETWEEN 0 AND {LATEST}, expires, NULL),
    iif(typeof(queued) IN ('real', 'integer') AND queued BETWEEN 0 AND {LATEST}, queued, ?), CAST(body AS BLOB),
    segment, start, octets, flags
FROM messages WHERE id IN (SELECT value FROM json_each(?))"""  # noqa: S608
_INSERT = f"INSERT INTO messages VALUES({', '.join('?' * 11)})"
_SEGMENT = "SELECT min(segment) FROM messages INDEXED BY contents WHERE segment IS NOT NULL AND segment > ?"
_HELD = "SELECT id, start, octets, coalesce(flags, 3) FROM messages INDEXED BY contents WHERE segment = ?"
_GONE = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))"
_PLACE = "UPDATE messages SET segment = ?, start = ?, octets = ?, flags = ? WHERE id = ?"
_NEXT = """SELECT
(SELECT min(due) FROM messages INDEXED BY waiting WHERE queue = ?1 AND lane = '' AND due > 0 AND due > ?2),
(SELECT min(expires) FROM messages INDEXED BY expiring WHERE queue = ?1 AND expires IS NOT NULL AND expires > ?2)"""

# The time has come by the operator's word. The body, which may name another time, is not written again, so that this
# works on a full disk: a number of the same length is changed in place.
RELEASED = 1.0 + 2**-20
_FLUSH = f"""UPDATE messages SET due = {RELEASED} WHERE id IN
(SELECT id FROM messages INDEXED BY waiting WHERE queue = ? AND lane = '' AND due > 0 AND due > {RELEASED} LIMIT ?)"""  # noqa: S608
_PURGE = "DELETE FROM messages WHERE id IN (SELECT id FROM messages INDEXED BY {} WHERE queue = ? AND {} LIMIT ?)"
_PURGE_LANE = _PURGE.format("parked", "lane <> '' AND lane = ?")
_PURGE_QUEUE = [
    _PURGE.format("ready", "lane = '' AND due = 0"),
    _PURGE.format("waiting", "lane = '' AND due > 0"),
    _PURGE.format("parked", "lane <> ''"),
]


class StoredRow(NamedTuple):
    """A message as it is read to be lent."""

    id: int
    queued: float
    lane: str
    body: bytes
    content: StoredContent | None = None


# A message as `insert` takes it: the columns in their order.
Row = tuple[int, str, str, float, float | None, float, bytes, int | None, int | None, int | None, int | None]


class Work:
    """A group of changes in the making: rows for the view `work`, and their bodies one after another."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, str, float, float | None, float, int, int]] = []
        self.bodies: list[bytes] = []
        self.large: list[tuple[int, bytes]] = []  # new messages whose bodies are written by themselves
        self.contents: list[tuple[int, NewContent]] = []  # of new messages
        self.whole: list[int] = []  # messages whose new body has their content
        self.gone: list[int] = []  # many messages that go at once
        self.added = 0
        self._size = 0

    def add(self, queue: str, body: Body, due: float, queued: float) -> None:
        """A new message. Ids are given in the order of the calls."""
        if isinstance(body, LargeBody):
            self.contents.append((self.added, body.content))
            body = body.head
        if len(body) >= LARGE:
            self.large.append((self.added, body))
            self.rows.append((ADD, self.added, queue, due, None, queued, 0, 0))
        else:
            self.rows.append((ADD, self.added, queue, due, None, queued, self._put(body), len(body)))
        self.added += 1

    def done(self, id: int) -> None:
        """The message goes."""
        self.rows.append((DONE, id, "", 0, None, 0, 0, 0))

    def park(self, id: int, lane: str, expires: float | None) -> None:
        """The message waits in this lane."""
        self.rows.append((PARK, id, lane, 0, expires, 0, 0, 0))

    def retry(self, id: int, body: bytes, due: float, whole: bool = False) -> None:
        """The message waits for its time with a new body. `whole`: that has the content, too."""
        if whole:
            self.whole.append(id)
        self.rows.append((RETRY, id, "", due, None, 0, self._put(body), len(body)))

    def _put(self, body: bytes) -> int:
        position = self._size + 1  # SQL counts from 1
        self._size += len(body)
        self.bodies.append(body)
        return position


class Store:
    """One connection to the file. Raises `QueueUnavailable` with one clear line where it cannot be opened."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path = path
        self._next = 0  # the id of the next message, unless another process takes it
        self._version = 0
        self.segments = Segments(path)
        with self._explained():
            if writes:
                _create(path)
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(writes)
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close it; the last one to close folds the write-ahead log into the file."""
        self._db.close()
        self.segments.close()

    def write(self, work: Work) -> int:
        """Do all of it, durably, or nothing; returns the id of the first message added.

        Raises:
            sqlite3.Error: and nothing has changed.
        """
        if not (work.rows or work.gone):
            return 0
        first = self._next
        bodies = b"".join(work.bodies)
        if work.contents:
            self.segments.write([content for _, content in work.contents])
        try:
            self._execute_work(work, bodies, first)
        except sqlite3.IntegrityError:
            # Another process took these ids: go on after its last one.
            first = self._last() + 1
            self._execute_work(work, bodies, first)
        self._next = first + work.added
        return first

    def save(self, path: Path) -> None:
        """Write all that it holds into a new file. Raises `sqlite3.Error` where there is one, or no room."""
        self._db.execute("VACUUM INTO ?", (str(path),))
        path.chmod(0o600)

    def probe(self) -> None:
        """Write something that changes nothing. Raises `sqlite3.Error` where nothing can be written."""
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def changed(self) -> bool:
        """Whether another process has changed the file since the last call."""
        version = int(self.one("PRAGMA data_version"))
        changed, self._version = version != self._version, version
        return changed

    def counts(self) -> list[tuple[str, str, bool, int]]:
        """(queue, lane, waiting, number of messages)."""
        found = self.select(
            "SELECT json_group_array(json_array(CAST(queue AS TEXT), CAST(lane AS TEXT), waiting, n)) FROM counts"
        )
        return [(queue, lane, bool(waiting), n) for queue, lane, waiting, n in found if n > 0]

    def due(self, queue: str, now: float) -> int:
        """How many messages were waiting for a time that has come."""
        where = "queue = ? AND lane = '' AND due > 0 AND due <= ?"
        return int(self.one(f"SELECT count(*) FROM messages INDEXED BY waiting WHERE {where}", queue, now))  # noqa: S608

    def find(self, source: str, queue: str, after: float | str, most: int, until: int = LAST) -> list[tuple[int, int]]:
        """(id, size) of the oldest messages in a source: `ready` (up to this id), `waiting`, `parked` or `expiring`."""
        return [(id, size) for id, size in self.select(_LIST[source], queue, after, most, until)]

    def take(self, ids: Collection[int]) -> dict[int, StoredRow]:
        """These messages, as far as they are still there."""
        columns, bodies = self._db.execute(_TAKE, (_json(list(ids)),)).fetchone()
        rows, position = {}, 0
        for id, queued, lane, size, blob, where in msgspec.json.decode(columns.decode(errors="replace")):
            content = self._content(*where) if where else None
            if blob:
                rows[id] = StoredRow(id, queued, lane, self._blob(id), content)
                continue
            rows[id] = StoredRow(id, queued, lane, bodies[position : position + size], content)
            position += size
        return rows

    def places(self, ids: Collection[int]) -> dict[int, StoredRow]:
        """These messages without their bodies, as far as they are still there: a tenth of what reading them costs."""
        return {id: StoredRow(id, queued, lane, b"") for id, queued, lane in self.select(_PLACES, _json(list(ids)))}

    def _content(self, segment: int, start: int, octets: int, flags: int) -> StoredContent:
        is_ascii, dots = not flags & EIGHTBIT, bool(flags & DOTS)
        return StoredContent(file_of(self.path, segment), segment, start, octets, is_ascii, dots)

    def used(self) -> set[int]:
        """The segments that messages refer to."""
        found: set[int] = set()
        last = self.one(_SEGMENT, -1)
        while last is not None:
            found.add(last)
            last = self.one(_SEGMENT, last)
        return found

    def drop_segments(self, lent: Collection[int]) -> int:
        """Remove segments that no message is in any more, `lent` ones neither; returns how many."""
        return self.segments.drop(self.used() | set(lent)) if numbers(self.path) else 0

    def thin_out(self, lent: Collection[int]) -> None:
        """Look at the next segment: where little of it is left, that is moved to the current one, and it can go.

        Else one mail that waits for days would keep all that came with it on the disk. Raises `sqlite3.Error`.
        """
        segment = self.segments.next(lent)
        if segment is None:
            return
        rows = self._db.execute(_HELD, (segment,)).fetchall()
        if sum({start: octets for _, start, octets, _ in rows}.values()) * LEFT > self.segments.size(segment):
            return
        found = {start: self._content(segment, start, octets, flags) for _, start, octets, flags in rows}
        with contextlib.suppress(OSError):  # who sends it will be told
            moved = {start: NewContent(one.read(), one.size, one.ascii, one.dots) for start, one in found.items()}
            self.segments.write(list(moved.values()))
            with self.writing():
                for id, start, *_ in rows:
                    self._place(id, moved[start])

    def _blob(self, id: int) -> bytes:
        with self._db.blobopen("messages", "body", id, readonly=True) as blob:
            return blob.read()

    def upcoming(self, queue: str, now: float) -> tuple[float, float]:
        """When the next waiting message is due, and the next parked one expires; infinity where there is none."""
        due, expires = self._db.execute(_NEXT, (queue, now)).fetchone()
        return due or float("inf"), expires or float("inf")

    def select(self, sql: str, *parameters: Any) -> list[Any]:
        """What a query gives whose answer is one JSON list. Bodies may hold anything, also what is no UTF-8."""
        found = self.one(f"SELECT CAST(({sql}) AS BLOB)", *parameters)
        listed: list[Any] = msgspec.json.decode(found.decode(errors="replace"))
        return listed

    def change(self, sql: str, *parameters: Any) -> int:
        """Do one statement, in a transaction of its own; returns how many rows it changed."""
        return self._db.execute(sql, parameters).rowcount

    def fold(self, keep: bool = False) -> None:
        """Fold the write-ahead log into the file, as far as no reader needs it now.

        Args:
            keep: its room, to write it from the beginning again; else that is given back to the disk.

        Raises:
            sqlite3.Error: there is no room in the file for it.
        """
        self._db.execute("PRAGMA busy_timeout = 0")
        try:
            self.one(f"PRAGMA wal_checkpoint({'RESTART' if keep else 'TRUNCATE'})")
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")

    def shrink(self, pages: int) -> None:
        """Give up to so many free pages back to the disk. Raises `sqlite3.Error`."""
        self._db.executescript(f"PRAGMA incremental_vacuum({pages})")  # `execute` would give one page back, and stop

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """What is read inside is of one moment."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def flush(self, queue: str) -> int:
        """Make some of what waits ready; returns how many, 0 when there is no more."""
        return self.change(_FLUSH, queue, CHUNK)

    def purge(self, queue: str, lane: str | None) -> int:
        """Remove some messages of the queue, or of a lane's parked queue; returns how many, 0 when there is no more."""
        if lane is not None:
            return self.change(_PURGE_LANE, queue, lane, CHUNK)
        for purge in _PURGE_QUEUE:
            if removed := self.change(purge, queue, CHUNK):
                return removed
        return 0

    def insert(self, rows: Sequence[Row]) -> None:
        """Add whole rows with their ids, in one transaction. Raises `sqlite3.Error`."""
        with self.writing():
            self._db.executemany(_INSERT, rows)

    def restore(self, ids: Sequence[int]) -> None:
        """Write messages again whose columns have got other types: a time that is none is now. Raises `sqlite3.Error`.

        Their triggers keep the counters right, so each goes and comes.
        """
        wanted = _json(list(ids))
        with self.writing():
            rows = self._db.execute(_ODD, (time.time(), wanted)).fetchall()
            self._db.execute("DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
            self._db.executemany(_INSERT, rows)

    def recount(self) -> None:
        """Work out the counters anew. Raises `sqlite3.Error`."""
        with self.writing():
            self._db.execute("DELETE FROM counts")
            self._db.execute("INSERT INTO counts SELECT queue, lane, due > 0, count(*) FROM messages GROUP BY 1, 2, 3")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """What is changed inside is changed whole, or not at all. Raises `sqlite3.Error`."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _execute_work(self, work: Work, bodies: bytes, first: int) -> None:
        rows = [(row[0], first + row[1], *row[2:]) if row[0] == ADD else row for row in work.rows]
        if not (work.large or work.contents or work.whole or work.gone):
            self._db.execute(_WORK, (bodies, _json(rows)))
            return
        with self.writing():
            self._db.execute(_WORK, (bodies, _json(rows)))
            for number, body in work.large:
                self._write_in_place(first + number, body)
            for number, content in work.contents:
                self._place(first + number, content)
            if work.gone:
                self._db.execute(_GONE, (_json(work.gone),))
            for id in work.whole:
                self._db.execute(_PLACE, (None, None, None, None, id))

    def _place(self, id: int, content: NewContent) -> None:
        assert isinstance(content.stored, StoredContent)
        _, segment, start, octets, is_ascii, dots = content.stored
        flags = (0 if is_ascii else EIGHTBIT) | (DOTS if dots else 0)
        self._db.execute(_PLACE, (segment, start, octets, flags, id))

    def _write_in_place(self, id: int, body: bytes) -> None:
        """A body from the view `work` is there five times over while the statement runs; this takes a few pages."""
        self._db.execute("UPDATE messages SET body = zeroblob(?) WHERE id = ?", (len(body), id))
        with self._db.blobopen("messages", "body", id) as blob, memoryview(body) as view:
            for start in range(0, len(body), PIECE):
                blob.write(view[start : start + PIECE])

    def _last(self) -> int:
        return int(self.one("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0)"))

    def one(self, sql: str, *parameters: Any) -> Any:
        """The only value that a query gives."""
        return self._db.execute(sql, parameters).fetchone()[0]

    def _prepare(self, writes: bool) -> None:
        self._db.execute("PRAGMA cache_size = -8000" if writes else "PRAGMA cache_size = -2000")  # KiB
        if writes:
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file: it can shrink again, see `shrink`
            write_ahead(self._db, PATIENCE)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA wal_autocheckpoint = 4000")  # pages of 4 KiB
            self._db.execute(f"PRAGMA journal_size_limit = {64 * 2**20}")
            self._migrate()
            self.changed()
            self._next = self._last() + 1
        else:
            self._db.execute("PRAGMA query_only = 1")

    def _migrate(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        version, owner = self.one("PRAGMA user_version"), self.one("PRAGMA application_id")
        empty = not self.one("SELECT count(*) FROM sqlite_schema")
        if not empty and owner != APPLICATION:
            raise QueueUnavailable(f"{self.path}: is a database of something else, not a Mailrace queue")
        if version > VERSION:
            raise QueueUnavailable(
                f"{self.path}: was written by a newer Mailrace (version {version}, known: {VERSION})"
            )
        for statement in _statements(_TABLES if empty else _UPGRADES.get(version, "")):
            self._db.execute(statement)
        if empty:
            self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        if version != VERSION:
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            help = f"; {SAVE}" if is_damage(error) else ""
            raise QueueUnavailable(f"{self.path}: cannot be used as the queue: {reason}{help}") from None


def _create(path: Path) -> None:
    """Only the owner may read mail; SQLite gives its log the same mode. A user who may open the lock could hold it."""
    if not path.parent.exists():
        private.folder(path.parent)
    for end in ("-wal", "-shm", ".lock", ".reserve"):
        file = path.with_name(f"{path.name}{end}")
        if file.exists() and not file.is_file():
            raise QueueUnavailable(f"{file}: is no file, and the queue needs this name: remove it")
    for file in (path.with_name(f"{path.name}.lock"), path):
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _json(value: Sequence[Any]) -> str:
    return msgspec.json.encode(value).decode()
