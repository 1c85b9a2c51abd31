"""Destinations of the program log: a file, standard error or output, syslog; each with a thread of its own.

A log call only puts a line into memory: neither a full pipe nor a hung disk nor a stuck syslog delays who logs,
or another destination. Bounds: LINES lines and BYTES bytes wait for each destination; further ones are lost. What fails
raises nothing: lines that are lost are counted, `trouble` says why, and the destination itself says how many there were
once it works again.
"""

from __future__ import annotations

import contextlib
import logging.handlers
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Protocol

SYSLOG = "/dev/log"
LINES, BYTES = 5_000, 4_000_000  # that wait for a destination
LONGEST = 64_000  # characters of an entry, its traceback included
AGAIN = 1.0  # seconds between two tries to open what cannot be opened
STUCK = 5.0  # seconds for one write, after which it counts as trouble
LARGEST = 8_000  # bytes of an entry for syslog: rsyslog takes as many; a larger datagram may be refused (EMSGSIZE)
TOGETHER = 100  # lines handed over at once

Entry = tuple[int, bytes]  # level, and whole lines


class Unwritable(Exception):
    """A destination cannot be written now; the text says why, in a few words."""


class Sink(Protocol):
    """Where a destination's thread writes."""

    name: str

    def write(self, entries: list[Entry]) -> None:
        """Write them; blocks as long as it takes. Raises OSError."""

    def reopen(self) -> None:
        """Go on with what is there now, at the next write."""


class Destination:
    """A bounded queue, and the thread that empties it.

    Args:
        sink: where to.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: deque[Entry] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._busy_since: float | None = None
        self._unsaid = 0  # lost lines that the destination does not know of
        self._why = ""
        self._closed = False
        self.lost = 0  # lines, since the start
        self._thread = threading.Thread(target=self._run, name="program-log", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """What is wrong now, or None."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > STUCK:
            return f"{self._sink.name}: does not take what is written; {self.lost:,} lines are lost"
        return f"{self._sink.name}: {self._why}; {self.lost:,} lines are lost" if self._why else None

    def put(self, level: int, line: bytes) -> None:
        """Take a line. Waits for nothing, and raises nothing."""
        with self._changed:
            if len(self._waiting) >= LINES or self._bytes + len(line) > BYTES:
                self._lose(1)
                return
            self._waiting.append((level, line))
            self._bytes += len(line)
            self._changed.notify_all()

    def reopen(self) -> None:
        """The file may have been moved away (SIGHUP)."""
        self._sink.reopen()

    def flush(self, patience: float) -> bool:
        """Wait until all is written; False where that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._busy_since is None, patience)

    def close(self, patience: float) -> None:
        """Write what waits, where that is soon, and end."""
        self.flush(patience)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while entries := self._next():
            unsaid = self._unsaid
            try:
                self._sink.write(_with_loss(entries, unsaid))
            except Exception as error:  # whatever it is, no other part could report it
                why = error.strerror if isinstance(error, OSError) else None
                self._written(why or str(error) or type(error).__name__, lost=len(entries))
            else:
                self._written(getattr(self._sink, "trouble", ""), said=unsaid)

    def _next(self) -> list[Entry]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            entries = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            self._bytes -= sum(len(line) for _, line in entries)
            self._busy_since = time.monotonic() if entries else None
            return entries

    def _written(self, why: str, *, lost: int = 0, said: int = 0) -> None:
        with self._changed:
            self._lose(lost)
            self._unsaid -= said
            self._why, self._busy_since = why, None
            self._changed.notify_all()

    def _lose(self, lines: int) -> None:
        self.lost += lines
        self._unsaid += lines


def let_go_of_terminal() -> None:
    """Before the end: where standard output or error takes nothing, what libraries print then would hold that up."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                if not select.select([], [descriptor], [], 0)[1]:
                    os.dup2(nowhere.fileno(), descriptor)


def _with_loss(entries: list[Entry], lost: int) -> list[Entry]:
    """The entries, after one that says how many are missing before them."""
    if not lost:
        return entries
    return [(logging.WARNING, f"mailrace: {lost:,} lines of this log were lost before this one\n".encode()), *entries]


class FileSink:
    """A file, followed as `logrotate` moves it: what is at the path is looked at before each write.

    Where the path cannot be opened any more, lines go on into the file of before, which `trouble` says.

    Raises:
        OSError: it cannot be opened at first.
    """

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        self.trouble = ""
        self._torn = False  # the last write ended in the middle of a line
        self._next_try = 0.0
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = self._open()

    def write(self, entries: list[Entry]) -> None:
        self._follow()
        if os.fstat(self._fd).st_nlink == 0:
            raise Unwritable(f"it was removed, and cannot be made again: {self.trouble}")
        rest = memoryview(b"".join([b"\n" if self._torn else b"", *(line for _, line in entries)]))
        self._torn = True
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._torn = False

    def reopen(self) -> None:
        self._next_try = 0.0

    def _follow(self) -> None:
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._fd)):
                self.trouble = ""
                return
        except OSError:
            pass  # there is nothing at the path, or its folder cannot be read: opening it says which
        if time.monotonic() < self._next_try:
            return
        try:
            fresh = self._open()
        except OSError as error:
            self._next_try = time.monotonic() + AGAIN
            self.trouble = f"cannot be opened again ({error.strerror}); lines go into the file of before"
            return
        os.close(self._fd)
        self._fd, self._torn, self.trouble = fresh, False, ""

    def _open(self) -> int:
        """Not blocking, or a FIFO without a reader would block the start."""
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


class StreamSink:
    """Standard error or output, by its descriptor: Python's own object has a lock that ends could wait for."""

    def __init__(self, name: str) -> None:
        self.name, self._stream = name, getattr(sys, name)

    @property
    def is_terminal(self) -> bool:
        return self._stream is not None and bool(self._stream.isatty())

    def write(self, entries: list[Entry]) -> None:
        text = b"".join(line for _, line in entries)
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, OSError, ValueError):  # closed, or something of a test's
            self._write_object(text)
            return
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # another process that shares the pipe has set it so
                select.select([], [descriptor], [])

    def reopen(self) -> None:
        pass

    def _write_object(self, text: bytes) -> None:
        if self._stream is None:
            raise Unwritable("is closed")
        self._stream.write(text.decode(errors="backslashreplace"))
        self._stream.flush()


class SyslogSink:
    """The system's log, facility `mail`; a datagram an entry, over a connection that is made anew where it fails.

    Raises:
        OSError: there is none at first.
    """

    _LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self, path: str) -> None:
        self.name, self._path = f"syslog ({path})", path
        self._socket: socket.socket | None = None
        self._end = b""  # of an entry, where the socket is a stream
        self._connect()

    def write(self, entries: list[Entry]) -> None:
        for level, line in entries:
            severity = next((number for least, number in self._LEVELS if level >= least), 7)
            head = f"<{logging.handlers.SysLogHandler.LOG_MAIL << 3 | severity}>mailrace[{os.getpid()}]: "
            self._send(head.encode() + line.rstrip(b"\n"))

    def reopen(self) -> None:
        pass

    def _send(self, datagram: bytes) -> None:
        for again in (True, False):
            try:
                if self._socket is None:
                    self._connect()
                assert self._socket is not None
                self._socket.sendall(datagram[:LARGEST] + self._end)
                return
            except OSError:
                if self._socket is not None:
                    self._socket.close()
                self._socket = None
                if not again:
                    raise

    def _connect(self) -> None:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            connection = socket.socket(socket.AF_UNIX, kind)
            try:
                connection.connect(self._path)
                self._socket, self._end = connection, b"\n" if kind == socket.SOCK_STREAM else b""
                return
            except OSError:
                connection.close()
                if kind == socket.SOCK_STREAM:
                    raise
