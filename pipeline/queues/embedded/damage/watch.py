"""Watches the embedded queue's file from outside: whether it is still there, still the same one, and not shortened.

SQLite goes on with a file that was deleted or replaced as if nothing had happened, and all mail taken since then is
gone with the process (sqlite.org/howtocorrupt.html, 4). Used by the thread that writes. Owns one descriptor of the
file, which is closed after SQLite's own: closing one drops all locks of the process on the file (2.2).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pipeline.queues.embedded.file import Store

MAGIC = b"SQLite format 3\0"


class Watch:
    """Looks at one file.

    Attributes:
        gone: the file has no name any more, or it is another one's now: what it holds would go with the process.
        moved: it has a name, but another one.
        shortened: the file has become smaller since the last look, and may be damaged.
    """

    def __init__(self, path: Path) -> None:
        self.gone = self.moved = self.shortened = False
        self._path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._log = path.with_name(f"{path.name}-wal")
        self._log_id = _identity(self._log)
        self._size = os.fstat(self._file).st_size

    def close(self) -> None:
        """To be called after SQLite has closed the file."""
        with contextlib.suppress(OSError):
            os.close(self._file)

    def look(self, store: Store) -> str | None:
        """What has become of the file, as a predicate for its name; None where nothing has."""
        found = os.fstat(self._file)
        here = _identity(self._path)
        if here != (found.st_dev, found.st_ino):
            self.gone, self.moved = True, found.st_nlink > 0
            how = "moved away" if self.moved else "deleted"
            return f"was {how if here is None else 'replaced by another file'} while it was in use"
        if os.pread(self._file, len(MAGIC), 0) != MAGIC:
            return "has lost its header"
        log, self._log_id = self._log_id, _identity(self._log)
        if log is not None and log != self._log_id:
            self._log_id = log  # it stays so
            with contextlib.suppress(Exception):
                store.fold(keep=True)  # what the lost log holds goes into the file
            return "has lost its write-ahead log, which was deleted or replaced while it was in use"
        self.shortened = found.st_size < self._size
        self._size = found.st_size
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
