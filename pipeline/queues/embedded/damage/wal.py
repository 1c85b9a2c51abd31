"""Looks at the write-ahead log that a kill has left, before SQLite does, which ends at the first frame it cannot read.

Whatever was confirmed after that frame would be gone without a word. The log is synced at each commit, so a whole
transaction behind an unreadable frame means that the log was damaged afterwards (sqlite.org/fileformat.html, 4).
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from pathlib import Path

MAGIC = (0x377F0682, 0x377F0683)
HEADER, FRAME = 32, 24  # bytes before the log, and before each page


def damage(path: Path) -> str | None:
    """What is lost of a queue file's log, in one line, and where a copy of it is; None where nothing is.

    To be called before anything else opens the file, where no other process has it open.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        commits = _commits(log)
        if commits == []:
            return None
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=5, uri=True)
        with contextlib.closing(db):
            read = int(db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
            lost = None if commits is None else sum(frame > read for frame in commits)
            return None if lost == 0 else _told(log, lost)
    except (OSError, sqlite3.Error):  # opening it in earnest will say why
        return None


def _told(log: Path, lost: int | None) -> str:
    copy = log.with_name(f"{log.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    shutil.copy2(log, copy)
    what = "its header" if lost is None else f"{lost:,} of its transactions"
    return f"{log} is damaged, {what} could not be read: mail that was confirmed last may be missing; a copy is {copy}"


def _commits(log: Path) -> list[int] | None:
    """The numbers of the frames that end a transaction; None where the log has no header. Raises OSError."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        head = file.read(HEADER)
        page = int.from_bytes(head[8:12], "big")
        if int.from_bytes(head[:4], "big") not in MAGIC or not 512 <= page <= 65536:
            return None if log.stat().st_size > HEADER else []
        found, whole = [], (log.stat().st_size - HEADER) // (FRAME + page)
        for number in range(1, whole + 1):
            frame = file.read(FRAME)
            if frame[8:16] == head[16:24] and int.from_bytes(frame[4:8], "big"):
                found.append(number)
            file.seek(page, 1)
        return found
