"""Adopting: the messages of a file that has no worker any more go into one that has.

Exactly once, whatever happens in between: SQLite commits two files one after the other (sqlite.org/lang_attach.html).
So the target notes in the same transaction up to where it has the source, and what is noted is removed there first.
Synchronous; call it in a thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

SOME = 500  # messages at once
PATIENCE = 30.0  # seconds for another process's lock
_COLUMNS = "queue, lane, due, expires, queued, body"


def adopt(source: Path, target: Path) -> int:
    """Move all messages; returns how many. Both files must be there, and nobody must consume the source.

    Raises:
        sqlite3.Error: one of them cannot be used; what was moved is moved.
    """
    moved = 0
    with contextlib.closing(sqlite3.connect(source, timeout=PATIENCE, isolation_level=None)) as old:
        if not old.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages'").fetchone():
            return 0
        with contextlib.closing(sqlite3.connect(target, timeout=PATIENCE, isolation_level=None)) as new:
            new.execute("PRAGMA synchronous = FULL")
            new.execute("CREATE TABLE IF NOT EXISTS adopted(source TEXT PRIMARY KEY, upto INTEGER)")
            name = source.parent.name
            noted = new.execute("SELECT upto FROM adopted WHERE source = ?", (name,)).fetchone()
            if noted is not None:
                old.execute("DELETE FROM messages WHERE id <= ?", noted)
            while rows := old.execute(f"SELECT id, {_COLUMNS} FROM messages ORDER BY id LIMIT {SOME}").fetchall():  # noqa: S608
                last = rows[-1][0]
                new.execute("BEGIN IMMEDIATE")
                new.executemany(
                    f"INSERT INTO messages({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?)",
                    [row[1:] for row in rows],
                )
                new.execute("INSERT OR REPLACE INTO adopted VALUES(?, ?)", (name, last))
                new.execute("COMMIT")
                old.execute("DELETE FROM messages WHERE id <= ?", (last,))
                moved += len(rows)
            new.execute("DELETE FROM adopted WHERE source = ?", (name,))
    return moved
