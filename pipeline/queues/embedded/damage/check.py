"""Checks the embedded queue's file as a whole: its pages, and whether tables and indexes say the same.

Errors of reading and writing are noticed as they happen; this finds what nothing has met yet. Runs in a thread of its
own with a connection of its own, beside the mail: 4.4 s for 1,000,000 messages, 4 GB in the page cache.
Bound: BUDGET seconds. SQLite keeps no checksums, so a changed byte within a body is not found.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pipeline.queues.embedded.file import LATEST, Store
from pipeline.queues.embedded.segments import ends, file_of

BUDGET = 120.0  # seconds
MOST = 5  # findings that are named
AT_ONCE = 500  # messages mended in one transaction
STEPS = 20_000  # of SQLite's machine between looks at the clock

_TABLE = "SELECT count(*) FROM messages NOT INDEXED"
_BY_INDEX = """SELECT (SELECT count(*) FROM messages INDEXED BY ready WHERE lane = '' AND due = 0)
+ (SELECT count(*) FROM messages INDEXED BY waiting WHERE lane = '' AND due > 0)
+ (SELECT count(*) FROM messages INDEXED BY parked WHERE lane <> '')"""
_APART = "SELECT count(*) FROM messages NOT INDEXED WHERE segment IS NOT NULL"
_APART_BY_INDEX = "SELECT count(*) FROM messages INDEXED BY contents WHERE segment IS NOT NULL"
_ENDS = """SELECT segment, max(start + octets) FROM messages INDEXED BY contents WHERE segment IS NOT NULL
GROUP BY segment ORDER BY segment"""
_COUNTED = "SELECT coalesce(sum(n), 0) FROM counts"


# SQLite does not enforce types: another program, or a changed bit, may have put anything into a column.
_ODD = f"""SELECT id FROM messages NOT INDEXED WHERE typeof(queue) <> 'text' OR typeof(lane) <> 'text'
OR typeof(body) <> 'blob' OR typeof(due) NOT IN ('real', 'integer') OR due < 0 OR due > {LATEST}
OR typeof(queued) NOT IN ('real', 'integer') OR queued < 0 OR queued > {LATEST}
OR typeof(expires) NOT IN ('null', 'real', 'integer') OR expires > {LATEST} LIMIT {AT_ONCE}"""  # noqa: S608


class Checked(msgspec.Struct, frozen=True):
    """What a check has found.

    Attributes:
        damage: what is damaged, in a line, or None.
        odd: the ids of messages with columns that cannot be used as they are; `mend` can.
        miscounted: the counters are wrong; `mend` can count anew.
        whole: False where it ran out of time, and found nothing until then.
    """

    damage: str | None = None
    odd: tuple[int, ...] = ()
    miscounted: bool = False
    whole: bool = True


def check(path: Path, stopped: Callable[[], bool] = lambda: False, budget: float = BUDGET) -> Checked:
    """Check a queue's file. Never raises: what cannot be read is a finding."""
    end = time.monotonic() + budget
    try:
        where = f"{path.absolute().as_uri()}?mode=rw"  # a file that is missing must not be made
        db = sqlite3.connect(where, timeout=5, isolation_level=None, uri=True)
        try:
            db.execute("PRAGMA query_only = 1")
            db.set_progress_handler(lambda: time.monotonic() > end or stopped(), STEPS)
            return _findings(db, path)
        finally:
            db.close()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY):
            return Checked(whole=False)
        return Checked(" ".join(str(error).split()))


def _findings(db: sqlite3.Connection, path: Path) -> Checked:
    db.execute("BEGIN")  # all of one moment
    found = [row[0] for row in db.execute(f"PRAGMA quick_check({MOST})")]
    if found != ["ok"]:
        return Checked("; ".join(" ".join(str(line).split()) for line in found)[:500])
    if odd := tuple(row[0] for row in db.execute(_ODD)):
        return Checked(odd=odd)
    rows, indexed, counted = (db.execute(sql).fetchone()[0] for sql in (_TABLE, _BY_INDEX, _COUNTED))
    if rows != indexed:
        return Checked(f"the table has {rows:,} messages, its indexes {indexed:,}")
    if (lost := _lost(db, path)) is not None:
        return Checked(lost)
    return Checked(miscounted=rows != counted)


def _lost(db: sqlite3.Connection, path: Path) -> str | None:
    """What is missing of the contents that are apart; None where all is there."""
    if not db.execute("SELECT count(*) FROM pragma_table_info('messages') WHERE name = 'segment'").fetchone()[0]:
        return None  # of a release that had none
    apart, indexed = (db.execute(sql).fetchone()[0] for sql in (_APART, _APART_BY_INDEX))
    if apart != indexed:
        return f"the table has {apart:,} messages with contents apart, its index {indexed:,}"
    found = ends(path)
    missing = [segment for segment, end in db.execute(_ENDS) if found.get(segment, 0) < end]
    if not missing:
        return None
    return f"{len(missing):,} files of contents are missing or too short, the first is {file_of(path, missing[0])}"


def mend(store: Store, found: Checked) -> None:
    """Make what a check found odd usable: what is no text or no time becomes one. Raises `sqlite3.Error`."""
    store.restore(found.odd)
    if found.miscounted:
        store.recount()
