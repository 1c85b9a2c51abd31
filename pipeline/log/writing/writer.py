"""The log writer: the process that writes the logs, as postlogd does for Postfix.

It takes the program's lines out of the ring (`ring`) until the program has ended, so kill -9 of that loses none of
them; and whatever the disk does, it does not do it to the program. It owns the active files: torn last lines,
rotation, and which process writes (a lock, for which the writer after a crash waits). What goes wrong, and each
rotation, is told on standard output: a JSON list a line, of what, the log's name, and more.

A line begins with its log's mark, a byte that no JSON text has in it; REOPEN is a line of its own. Bound: what
the ring holds, in memory. It imports next to nothing: 12 MB resident, and 30 ms to start. Run as
`-m pipeline.log.writing.writer PLAN`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from pathlib import Path

from pipeline.log.writing.file import LogFile
from pipeline.process.ring import Outlet

REOPEN = b"\x1f\n"  # close the files; the next line goes to what is then at their paths
# Seconds to let lines gather after a write: nobody waits for it. At 2,500 mails a second, with two lines each, the
# writer takes 16 microseconds of a processor for each mail with 2 ms, 9 with 10 ms, 6 with 20 ms, 4.5 with 50 ms.
PAUSE = 0.02
TELL_AGAIN = 1.0  # seconds
LOOK = 1.0  # seconds between looks whether a log that could not be written can be, where no line comes


def tell(*what: object) -> None:
    """Tell the program, where there is one still; nothing waits until it listens."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(what).encode() + b"\n")


class Log:
    """One log, and what is wrong with it.

    Args:
        name: the configuration key.
        path: the active file.
        maxsize: bytes after which it is rotated; 0 is never.
        lock: the open file that the writing process has locked; the program has it open, too.
    """

    def __init__(self, name: str, path: str, maxsize: int, lock: int) -> None:
        self.name, self._lock = name, lock
        self.file = LogFile(Path(path), maxsize, time.time)
        self.failing = False
        self._unknown = True  # the program may know of a fault from the writer before, until a write shows it
        self._lost = 0  # lines that the program does not know of yet
        self._tell_at = 0.0

    def lock(self) -> None:
        """Wait for the writer of a program that was killed: it still has lines to write."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("complaint", self.name, "waits until the process that wrote it before has finished")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def write(self, lines: list[bytes]) -> None:
        """Append lines, and rotate where the file is full; a line is whole in it, or lost and told."""
        try:
            self.file.append(b"".join(lines))
        except OSError as error:
            self._fail(len(lines), error.strerror or str(error))
            return
        if self.failing or self._unknown:
            self._recover()
        try:
            if self.file.rotate():
                tell("rotated", self.name)
        except OSError as error:
            tell("complaint", self.name, f"cannot be rotated: {error.strerror}")

    def _fail(self, lines: int, why: str) -> None:
        self._lost += lines
        now = time.monotonic()
        if now >= self._tell_at or not self.failing:
            self._tell_at = now + TELL_AGAIN
            tell("lost", self.name, self._lost, why)
            self._lost = 0
        self.failing = True

    def _recover(self) -> None:
        tell("written", self.name, self._lost)
        self.failing = self._unknown = False
        self._lost = 0

    def look(self) -> None:
        """Whether a log that could not be written can be: after the last line of a busy day none may come for hours."""
        if self.failing and time.monotonic() >= self._tell_at and self.file.has_room():
            self._recover()


class LineWriter:
    """Sorts lines by their marks.

    Args:
        logs: by mark.
    """

    def __init__(self, logs: dict[bytes, Log]) -> None:
        self._logs = logs

    def run(self, source: Outlet) -> None:
        """Write all that comes."""
        while source.wait(LOOK if any(log.failing for log in self._logs.values()) else None):
            for log in self._logs.values():
                log.look()
            while lines := source.peek():
                self.write(lines)
                source.taken(len(lines))
                time.sleep(PAUSE)

    def write(self, data: bytes) -> None:
        """Write whole lines."""
        first, *others = data.split(REOPEN)
        self._sort(first)
        for part in others:
            for log in self._logs.values():
                log.file.close()
            self._sort(part)

    def _sort(self, data: bytes) -> None:
        lines = data.splitlines(keepends=True)
        for mark, log in self._logs.items():
            if own := [line[1:] for line in lines if line[:1] == mark]:
                log.write(own)


def main(plan: str) -> None:
    """Write the logs until the program has ended.

    Args:
        plan: JSON: the files of an `Outlet`, and a list of (mark, name, path, maxsize, lock).
    """
    source, logs = json.loads(plan)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the end comes with that of the program
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(1, False)
    by_mark = {mark.encode(): Log(*log) for mark, *log in logs}
    for log in by_mark.values():
        log.lock()
    tell("ready")
    LineWriter(by_mark).run(Outlet(*source))
