"""Adopting: the messages of a file that has no worker any more go into one that has.

Exactly once, whatever happens in between: SQLite commits two files one after the other (sqlite.org/lang_attach.html).
So the target notes in the same transaction up to where it has the source, and what is noted is removed there first.
Segments are the target's as well by a hard link, under numbers of their own.
Synchronous; call it in a thread, while neither of them is consumed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from pipeline.process import private
from pipeline.queues.embedded.segments import file_of, folder, numbers

SOME = 500  # messages at once
PATIENCE = 30.0  # seconds for another process's lock
_COLUMNS = "queue, lane, due, expires, queued, body, segment, start, octets, flags"
_SEGMENT = 7  # the place of `segment` behind the id
_TABLES = """CREATE TABLE IF NOT EXISTS adopted(source TEXT PRIMARY KEY, upto INTEGER);
CREATE TABLE IF NOT EXISTS adopted_segments(source TEXT, old INTEGER, new INTEGER, PRIMARY KEY(source, old));"""


def adopt(source: Path, target: Path) -> int:
    """Move all messages; returns how many. Both files must be there, and of this version.

    Raises:
        sqlite3.Error, OSError: one of them cannot be used; what was moved is moved.
    """
    with contextlib.closing(_opened(source)) as old, contextlib.closing(_opened(target)) as new:
        new.execute("PRAGMA synchronous = FULL")
        new.executescript(_TABLES)
        name = source.parent.name
        if (noted := new.execute("SELECT upto FROM adopted WHERE source = ?", (name,)).fetchone()) is not None:
            old.execute("DELETE FROM messages WHERE id <= ?", noted)
        moved = 0
        while rows := old.execute(f"SELECT id, {_COLUMNS} FROM messages ORDER BY id LIMIT {SOME}").fetchall():  # noqa: S608
            _put(new, name, rows, source, target)
            old.execute("DELETE FROM messages WHERE id <= ?", (rows[-1][0],))
            moved += len(rows)
        for table in ("adopted", "adopted_segments"):
            new.execute(f"DELETE FROM {table} WHERE source = ?", (name,))  # noqa: S608
    return moved


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None)


def _put(new: sqlite3.Connection, name: str, rows: list[tuple[Any, ...]], source: Path, target: Path) -> None:
    """These messages, and that they are there, in one transaction."""
    new.execute("BEGIN IMMEDIATE")
    linked = dict(new.execute("SELECT old, new FROM adopted_segments WHERE source = ?", (name,)).fetchall())
    for segment in {row[_SEGMENT] for row in rows} - {None, *linked}:
        linked[segment] = _link(segment, source, target)
        new.execute("INSERT INTO adopted_segments VALUES(?, ?, ?)", (name, segment, linked[segment]))
    places = ", ".join("?" * len(_COLUMNS.split(",")))
    new.executemany(
        f"INSERT INTO messages({_COLUMNS}) VALUES({places})",
        [(*row[1:_SEGMENT], linked.get(row[_SEGMENT]), *row[_SEGMENT + 1 :]) for row in rows],
    )
    new.execute("INSERT OR REPLACE INTO adopted VALUES(?, ?)", (name, rows[-1][0]))
    new.execute("COMMIT")


def _link(segment: int, source: Path, target: Path) -> int:
    """The segment under a new number of the target, safe on the disk."""
    private.folder(folder(target))
    number = max(numbers(target), default=0) + 1
    there, here = file_of(source, segment), file_of(target, number)
    try:
        os.link(there, here)
    except OSError:  # a file system without hard links
        shutil.copyfile(there, here)
    for path in (here, str(folder(target))):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    return number


def remove(path: Path) -> None:
    """The emptied file and what lies beside it."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.rmtree(folder(path), ignore_errors=True)
