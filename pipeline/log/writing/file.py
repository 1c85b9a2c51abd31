"""One log file on disk, the side that writes.

Owns the active file. All calls come from one thread, the writer's. A line is whole or not there: a write that
fails half way is taken back, and a last line that a crash has torn is ended with a newline, so that what follows
is readable. Nothing here calls fsync: what write(2) has taken survives the death of the process, and the
log is not what a power failure must spare; the queue is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from pipeline.log.names import free_name

PAGE = 4096


class LogFile:
    """A file that lines are appended to, renamed once it has `maxsize` bytes.

    Args:
        path: the active file.
        maxsize: bytes; 0 never rotates.
        clock: epoch seconds, for the name of a rotated file.
    """

    def __init__(self, path: Path, maxsize: int, clock: Callable[[], float]) -> None:
        self.path = path
        self._maxsize = maxsize
        self._clock = clock
        self._fd: int | None = None

    def open(self) -> None:
        """Open or create the file, and end a torn last line. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = open_log(self.path)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                os.write(fd, b"\n")
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def follow(self) -> None:
        """Begin a new file where this one was moved away, without a signal for that."""
        if self._fd is None:
            return
        try:
            moved = self.path.stat().st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            moved = True
        if moved:
            self.close()

    def append(self, lines: bytes) -> None:
        """Hand whole lines to the kernel. Raises OSError; then none of them is in the file.

        A file that was moved away is written until SIGHUP, as logrotate wants it; one that was removed is nowhere.
        """
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self.close()
        if self._fd is None:
            self.open()
        fd = self._fd
        assert fd is not None
        start = os.fstat(fd).st_size
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, start)
            self.close()
            raise

    def has_room(self) -> bool:
        """Whether a page of lines could be written now: to a file beside it. False where it is no file."""
        probe = self.path.with_name(f".{self.path.name}.probe")
        try:
            if self._fd is None:
                self.open()
            if self._fd is None or not stat.S_ISREG(os.fstat(self._fd).st_mode):
                return False
            fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            return os.write(fd, b"\n" * PAGE) == PAGE
        except OSError:
            return False
        finally:
            os.close(fd)
            probe.unlink(missing_ok=True)

    def rotate(self) -> bool:
        """Rename the file where it is full; the next append begins a new one. True where it did. Raises OSError."""
        if self._fd is None or not self._maxsize or os.fstat(self._fd).st_size < self._maxsize:
            return False
        self.path.rename(free_name(self.path, self._clock()))
        self.close()
        return True

    def close(self) -> None:
        """Close it; the next append opens what is then at the path (SIGHUP, after a rotation by others)."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_log(path: Path) -> int:
    """Open a log, or make it. Raises OSError, also for a FIFO that nobody reads: its lines would be nowhere."""
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    if not path.is_fifo():
        return os.open(path, flags | os.O_RDWR, 0o640)
    fd = os.open(path, flags | os.O_WRONLY | os.O_NONBLOCK)  # or it would wait for a reader
    os.set_blocking(fd, True)
    return fd
