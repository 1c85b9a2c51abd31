"""Segments: the files beside the embedded queue's that hold large mail, one content after another.

A body in SQLite is written to the log, then to the file, and its pages are freed again; in a segment it is written
once, and the file goes as a whole when no message refers to it any more. The queue's file says what lies where. So a
content is synced before the row that names it is committed; what a kill leaves without a row is never looked at.

Owned by the thread that writes: it appends, and drops. Others read by place, a piece at a time, and hold no descriptor.
Two processes never append to one segment: each makes its own, and holds a lock on it while it does. Bounds: a segment
ends at SEGMENT bytes, and one content more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.process import private
from pipeline.queues.contract import NewContent, Writes

APART = 32_768  # bytes of a content; below that SQLite is as quick, and a segment would hold thousands
OWN = 8 * 2**20  # bytes of a content that has a segment of its own
SEGMENT = 32 * 2**20  # bytes; smaller ones go sooner, larger ones are fewer
PIECE = 2**20  # bytes copied at once
WARM = 2**20  # bytes that are read ahead, in a thread, of what will be sent
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class SegmentError(sqlite3.OperationalError):
    """A segment cannot be written. Told as SQLite tells of its own file, since for the queue it is the same."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"{error.filename or 'a segment'}: {error.strerror}")
        self.sqlite_errorcode = sqlite3.SQLITE_FULL if error.errno in _NO_ROOM else sqlite3.SQLITE_IOERR


class StoredContent(NamedTuple):
    """A content in a segment. Reading it raises OSError where it is not there any more."""

    file: str
    segment: int
    start: int
    size: int
    ascii: bool
    dots: bool

    @property
    def place(self) -> tuple[str, int, int]:
        """(file, where it begins, bytes)."""
        return self.file, self.start, self.size

    def pieces(self, size: int) -> Iterator[bytes]:
        """All of it, in pieces of at most `size` bytes."""
        for begin in range(0, self.size, size):
            yield self._part(begin, min(size, self.size - begin))

    def read(self) -> bytes:
        """All of it at once."""
        return self._part(0, self.size)

    def warm(self) -> None:
        """Have the beginning in the system's memory, so that the event loop does not wait for the disk."""
        with (
            contextlib.suppress(OSError),  # the sender of the message is told
            Path(self.file).open("rb", 0) as file,
            Path(os.devnull).open("wb", 0) as nowhere,  # which takes pages without a copy of them
        ):
            os.sendfile(nowhere.fileno(), file.fileno(), self.start, min(WARM, self.size))

    def _part(self, begin: int, size: int) -> bytes:
        file = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if begin + size < self.size:
                os.posix_fadvise(file, self.start + begin + size, size, os.POSIX_FADV_WILLNEED)
            found = os.pread(file, size, self.start + begin)
        finally:
            os.close(file)
        if len(found) != size:
            raise OSError(errno.EIO, "is shorter than the queue knows it", self.file)
        return found


def folder(path: Path) -> Path:
    """Where the segments of this queue file are."""
    return path.with_name(f"{path.name}.bodies")


def file_of(path: Path, segment: int) -> str:
    """The file of one segment of this queue file."""
    return str(folder(path) / f"{segment:08}")


def link(path: Path, other: Path) -> None:
    """The segments of `path` are those of `other`, too: hard links. Raises OSError."""
    if folder(path).is_dir():
        private.folder(folder(other))
        for number in numbers(path):
            with contextlib.suppress(FileExistsError):
                os.link(file_of(path, number), file_of(other, number))


def numbers(path: Path) -> list[int]:
    """The segments that there are."""
    try:
        return sorted(int(file.name) for file in folder(path).iterdir() if file.name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []


def ends(path: Path) -> dict[int, int]:
    """The segments that there are, each with its size."""
    found = {}
    for number in numbers(path):
        with contextlib.suppress(OSError):
            found[number] = Path(file_of(path, number)).stat().st_size
    return found


class Segments:
    """Writes the segments of one queue file. Nothing is made before the first content comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._number = 0
        self._end = 0
        self._looked = 0  # the last one that was looked at, see `next`
        self._idle: set[int] = set()  # without a message at the last look
        self.dropped = 0

    def close(self) -> None:
        """Let the file go; the next content begins a new one."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._number, self._end = None, 0, 0

    def write(self, contents: Collection[NewContent]) -> None:
        """Append these, durably; each is told where it is. Raises `SegmentError`, and nothing counts."""
        new = list({id(content): content for content in contents if content.stored is None}.values())
        number, end = self._number, self._end
        try:
            for content in new:
                self._add(content)
            if new and self._file is not None:
                os.fdatasync(self._file)
        except OSError as error:
            self._undo(end if number == self._number else 0)
            for content in new:
                content.stored = None
            raise SegmentError(error) from None

    def _undo(self, end: int) -> None:
        """What was appended behind `end` belongs to nobody; a full disk needs its room."""
        self._end = end
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)

    def _add(self, content: NewContent) -> None:
        if self._file is None or self._end >= SEGMENT:
            self._begin()
        assert self._file is not None
        start = self._end
        at = start
        for piece in content.pieces(PIECE):
            view = memoryview(piece)
            while view:
                done = os.pwrite(self._file, view, at)
                view, at = view[done:], at + done
        self._end = at
        content.stored = StoredContent(
            file_of(self._path, self._number), self._number, start, at - start, content.ascii, content.dots
        )

    def _begin(self) -> None:
        if self._file is not None:
            os.fdatasync(self._file)
        file, number = _begun(self._path)
        self.close()
        self._file, self._number, self._end = file, number, 0

    def drop(self, used: Collection[int]) -> int:
        """Remove the segments that were not in use at the last look either; returns how many."""
        idle = {number for number in numbers(self._path) if number not in used}
        gone = [number for number in idle & self._idle if self._remove(number)]
        self._idle = idle - set(gone)
        self.dropped += len(gone)
        return len(gone)

    def next(self, lent: Collection[int]) -> int | None:
        """The one to look at next: in turn all that nobody appends to, and that no `lent` message is in."""
        others = [number for number in numbers(self._path) if number != self._number and number not in lent]
        after = [number for number in others if number > self._looked]
        self._looked = min(after or others, default=0)
        return self._looked or None

    def size(self, number: int) -> int:
        """Bytes of a segment."""
        return Path(file_of(self._path, number)).stat().st_size

    def _remove(self, number: int) -> bool:
        """False where another process appends to it."""
        with contextlib.suppress(OSError):
            file = os.open(file_of(self._path, number), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if number == self._number:
                    self.close()
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(file_of(self._path, number)).unlink()
                return True
            finally:
                os.close(file)
        return False


class SegmentKeeper:
    """Takes contents that are not in memory: one of OWN bytes or more is written in the caller's thread, into a segment
    of its own, so that nobody's small mail waits for it; others go through a file without a name.
    """

    least = APART

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, size: int, write: Writes) -> NewContent:
        """See `Apart`. Until `data` is closed the segment is not dropped."""
        if size < OWN:
            file = tempfile.TemporaryFile(dir=self._path.parent, buffering=0)  # noqa: SIM115 - its caller closes it
            is_ascii, dots = write(file)
            return NewContent(file, file.tell(), is_ascii, dots)
        number, segment = _begun(self._path)
        own = os.fdopen(number, "w+b", buffering=0)
        try:
            is_ascii, dots = write(own)
            os.fdatasync(number)
        except BaseException:
            Path(file_of(self._path, segment)).unlink()
            own.close()
            raise
        stored = StoredContent(file_of(self._path, segment), segment, 0, own.tell(), is_ascii, dots)
        return NewContent(own, stored.size, is_ascii, dots, stored)


def _begun(path: Path) -> tuple[int, int]:
    """A new segment, locked: its descriptor and number. Its name is on the disk before anything refers to it."""
    private.folder(folder(path))
    number = max(numbers(path), default=0) + 1
    while True:
        try:
            file = os.open(file_of(path, number), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            break
        except FileExistsError:  # another one was faster
            number += 1
    fcntl.flock(file, fcntl.LOCK_EX)
    _sync_folder(folder(path))
    return file, number


def _sync_folder(path: Path) -> None:
    for one in (path, path.parent):
        file = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
