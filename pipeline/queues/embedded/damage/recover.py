"""Saves what can be saved of a damaged queue file: `mailrace queue recover`.

What can be read goes into a new file beside it, which then takes its name; the damaged one is kept under another. A
kill at any moment leaves the damaged file or the new one in place, and it can be run again. Nobody else may have the
file open meanwhile. What was delivered, and whose end the damaged file did not take any more, is sent again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.embedded.damage.check import check
from pipeline.queues.embedded.damage.salvage import Salvaged, Wreck
from pipeline.queues.embedded.file import DOTS, EIGHTBIT, LATEST, Row, Store
from pipeline.queues.embedded.segments import ends, link

GROUP, GROUP_BYTES = 500, 8 * 2**20  # messages, and bytes of bodies, in a transaction
TRIES = 3  # where others write to the file meanwhile
PATIENCE = 3600.0  # seconds for the check of a file


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What it came to.

    Attributes:
        damage: what was wrong; None: the file is in order, and nothing was done.
        messages: how many are in the queue now.
        missing: the ids of those that the indexes know of, and that could not be read.
        unread: rows that were found, and could not be read; some may be among `missing`.
        aside: where the damaged file is now.
    """

    damage: str | None
    messages: int = 0
    missing: tuple[int, ...] = ()
    unread: int = 0
    aside: Path | None = None


def recover(path: Path, clock: Callable[[], float] = time.time) -> Recovered:
    """Save what can be saved. Raises `QueueUnavailable` where there is no such file, or no room for a new one."""
    complete(path)
    if not path.exists():
        raise QueueUnavailable(f"{path}: there is no queue")
    found = check(path, budget=PATIENCE)
    if found.damage is None and found.whole:
        return Recovered(damage=None)
    try:
        messages, missing, unread = _rebuilt(path)
        _part(path, "recovering").replace(_part(path, "recovered"))
        aside = _move_aside(path, clock())
        link(path, aside)  # what no message of the new file refers to is dropped, and may still be wanted
        complete(path)
    except OSError as error:
        raise QueueUnavailable(f"{path}: cannot be recovered: {error.strerror}") from None
    except sqlite3.Error as error:
        raise QueueUnavailable(f"{path}: cannot be recovered: the new file: {error}") from None
    _part(path, "recovering.lock").unlink(missing_ok=True)
    damage = found.damage or "it could not be checked whole"
    return Recovered(damage=damage, messages=messages, missing=missing, unread=unread, aside=aside)


def complete(path: Path) -> None:
    """End what a kill has left: the new file is whole, and the damaged one is aside already.

    Its log must not stay beside the new one: SQLite would write it into that.
    """
    if not path.exists() and _part(path, "recovered").exists():
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}-wal").replace(_part(path, "damaged-wal"))
        Path(f"{path}-shm").unlink(missing_ok=True)
        _part(path, "recovered").replace(path)


def _part(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}.{name}")


def _rebuilt(path: Path) -> tuple[int, tuple[int, ...], int]:
    """Build the new file, again where another process has written to the old one meanwhile."""
    for _ in range(TRIES):
        before = _state(path)
        done = _rebuild(path, _part(path, "recovering"))
        if _state(path) == before:
            return done
    raise QueueUnavailable(f"{path}: is in use: others write to it")


def _state(path: Path) -> list[tuple[int, int]]:
    files = [path, Path(f"{path}-wal")]
    return [(found.st_size, found.st_mtime_ns) for found in (file.stat() for file in files if file.exists())]


def _rebuild(path: Path, new: Path) -> tuple[int, tuple[int, ...], int]:
    for old in (new, *(new.with_name(f"{new.name}{end}") for end in ("-wal", "-shm"))):
        old.unlink(missing_ok=True)
    wreck = Wreck(path)
    store = Store(new, writes=True)
    try:
        ids: set[int] = set()
        lost: set[int] = set()  # whose content is gone
        for group in _groups(row for row in wreck.messages() if row.id > 0 and row.id not in ids):
            rows = [row for row in map(_usable, group) if _has_content(path, row)]
            store.insert(rows)
            ids.update(row[0] for row in rows)
            lost.update(row.id for row in group if row.id not in ids)
        return len(ids), tuple(sorted((wreck.known | lost) - ids)), wreck.unread
    finally:
        store.close()
        wreck.close()


def _groups(rows: Iterator[Salvaged]) -> Iterator[list[Salvaged]]:
    """What goes into one transaction."""
    group: dict[int, Salvaged] = {}
    size = 0
    for row in rows:
        group.setdefault(row.id, row)
        size += len(row.body) if isinstance(row.body, bytes | str) else 0
        if len(group) >= GROUP or size >= GROUP_BYTES:
            yield list(group.values())
            group, size = {}, 0
    if group:
        yield list(group.values())


def _usable(row: Salvaged) -> Row:
    """With columns of the right types, whatever was found in them."""
    expires = None if row.expires is None else _time(row.expires, 0.0)
    body = row.body.encode() if isinstance(row.body, str) else row.body
    queued = _time(row.queued, time.time())
    place = (row.segment, row.start, row.octets)
    known = all(isinstance(one, int) for one in place)
    content = (
        (*place, row.flags if isinstance(row.flags, int) else EIGHTBIT | DOTS) if known else (None, None, None, None)
    )
    return row.id, _text(row.queue), _text(row.lane), _time(row.due, 0.0), expires, queued, body or b"", *content


def _has_content(path: Path, row: Row) -> bool:
    """Whether what it refers to is there."""
    segment, start, octets = row[7:10]
    return segment is None or ends(path).get(segment, 0) >= (start or 0) + (octets or 0)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _time(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value <= LATEST else otherwise


def _move_aside(path: Path, now: float) -> Path:
    """The damaged file, then its log: a kill between the two is seen to by `complete`."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}")
    for end in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{end}").replace(f"{aside}{end}")
    Path(f"{path}-shm").unlink(missing_ok=True)
    return aside
