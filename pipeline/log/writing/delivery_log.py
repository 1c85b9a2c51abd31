"""The delivery log: every attempt and every received message as a line, written by a process of its own (`writer`).

Owns the way to that process (`buffer`), its life, and the process that turns rotated files into Parquet (`conversion`).
Hot path: `attempt` costs 4 microseconds on the loop, and nothing waits for the disk. Bounds: `buffer` (lines in
memory), one conversion at a time. What fails: a disk that is full or gone costs lines, never mail; a writer that ends
is started again on the same ring, which keeps its lines. Both are said (`trouble`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Received
from operators.deliveries.outcome import Outcome
from pipeline.log import schema
from pipeline.log.names import lock_name, untidy
from pipeline.log.writing.buffer import LineBuffer
from pipeline.log.writing.converter import Converter
from pipeline.log.writing.fault import LogFault, Report
from pipeline.log.writing.file import open_log
from pipeline.log.writing.writer import REOPEN
from pipeline.log.writing.writer_life import WriterLife
from pipeline.process.children import ChildFailed
from pipeline.process.rights import Account


class LogUnavailable(Exception):
    """A log file cannot be opened; one clear line."""


class _Log:
    """One of the logs: the mark of its lines, its file, what is wrong with it, and the lock of the writing process."""

    __slots__ = ("lock", "mark", "name", "path", "trouble")

    def __init__(self, mark: bytes, name: str, path: Path, trouble: LogFault) -> None:
        self.mark, self.name, self.path, self.trouble = mark, name, path, trouble
        self.lock = -1


class DeliveryLog:
    """Writes `send-log` and `received-log`.

    Args:
        send_log, received_log: the active files; None writes none.
        maxsize: bytes after which a file is rotated; 0 is never.
        history: rotated files kept of each log; 0 is all.
        instance: `server-id`.
        report: takes `Fault` where lines are lost and `Notice` where an operator should know; called on the loop.
        account: what the log's processes become before they begin.
        clock: epoch seconds.
    """

    def __init__(
        self,
        send_log: Path | None,
        received_log: Path | None,
        *,
        maxsize: int,
        history: int,
        instance: str,
        report: Report,
        account: Account | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._instance, self._account = instance, account
        self._maxsize, self._history = maxsize, history
        self._running = False

        def log(mark: bytes, name: str, path: Path | None) -> _Log | None:
            if path is None:
                return None
            path = path.absolute()
            return _Log(mark, name, path, LogFault(name, str(path), report, clock))

        self._sent = log(b"\x01", "send-log", send_log)
        self._received = log(b"\x02", "received-log", received_log)
        self._logs = {log.name: log for log in (self._sent, self._received) if log is not None}
        subject = ", ".join(str(log.path) for log in self._logs.values())
        self._trouble = LogFault("delivery-log", subject, report, clock)
        self.buffer = LineBuffer(self._trouble)
        self.writer = WriterLife(self._told, self.buffer.ended, self._trouble, account)
        self._converter = Converter(history, report, account, clock)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the log's disk now, or None."""
        troubles = (self._trouble, *(log.trouble for log in self._logs.values()))
        return next((trouble.now for trouble in troubles if trouble.now), None)

    def start(self) -> None:
        """Open the files and start the writer, and take up what a crash left of a rotation. Raises `LogUnavailable`."""
        for log in self._logs.values():
            try:
                log.lock = prepare(log.path, self._account)
            except OSError as error:
                raise LogUnavailable(f"{log.name}: cannot write {error.filename}: {error.strerror}") from None
        if not self._logs:
            return
        try:
            self.buffer.open()
            self.writer.start(self._plan(), [*self.buffer.files, *(log.lock for log in self._logs.values())])
        except ChildFailed as error:
            raise LogUnavailable(f"the process that writes the logs {error}") from None
        except OSError as error:
            raise LogUnavailable(f"there is no memory for the logs: {error.strerror}") from None
        self._running = True
        for log in self._logs.values():
            with contextlib.suppress(OSError):  # the archive itself says what is wrong with a folder
                if untidy(log.path, self._history):
                    self._converter.due(log.name, log.path)

    def attempt(self, delivery: Delivery, outcome: Outcome, when: float, retry_at: float | None = None) -> None:
        """Log what came of a delivery, unless it is neither an attempt nor an end.

        It survives kill -9 from here on.

        Args:
            delivery, outcome: what came of it.
            when: epoch seconds.
            retry_at: epoch seconds at which it comes back, with `retry`.
        """
        if self._sent is not None and outcome.next not in schema.NOT_LOGGED:
            record = schema.attempt(delivery, outcome, when, retry_at, self._instance)
            self.buffer.append(self._sent.mark + schema.line(record))

    async def room(self) -> None:
        """Wait, for a while, until lines are on their way to the disk and none wait in memory: for many at once."""
        await self.buffer.room()

    def received(self, event: Received) -> None:
        """Log a received message; as `attempt`."""
        if self._received is not None:
            self.buffer.append(self._received.mark + schema.line(schema.reception(event, self._instance)))

    def reopen(self) -> None:
        """Go on with what is now at the files' paths (SIGHUP): the lines from now on."""
        if self._running:
            self.buffer.append(REOPEN)

    async def close(self) -> None:
        """Have everything written, unless the disk is gone; a long conversion is left to the next start."""
        if not self._running:
            return
        self._running = False
        self._sent = self._received = None  # whatever comes now comes too late
        await self.buffer.close()
        if not await self.writer.close():
            self._trouble.lost(0, f"process {self.writer.pid} is held up, and writes the last lines alone")
        self.buffer.discard()
        for log in self._logs.values():
            os.close(log.lock)
        await self._converter.close()

    def _plan(self) -> str:
        """For the writer."""
        logs = [(log.mark.decode(), log.name, str(log.path), self._maxsize, log.lock) for log in self._logs.values()]
        return json.dumps([self.buffer.files, logs])

    def _told(self, line: bytes) -> None:
        """By the writer."""
        what, *rest = json.loads(line)
        if what == "ready":
            self.buffer.begun()
            return
        log = self._logs[rest.pop(0)]
        match what, rest:
            case "lost", [int(lines), str(why)]:
                log.trouble.lost(lines, why)
            case "written", [int(lines)]:
                log.trouble.over(lines)
            case "complaint", [str(text)]:
                log.trouble.complain(text)
            case "rotated", []:
                self._converter.due(log.name, log.path)


def prepare(path: Path, account: Account | None) -> int:
    """Make a log's folder, the file, and its lock, which are that account's then. Raises OSError.

    Returns the lock, open, and held unless a writer of before still writes. It falls when this program and its writer
    have both ended.
    """
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(open_log(path))
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    lock = os.open(lock_name(path), flags, 0o600)  # or whoever may read it could hold it
    os.fchmod(lock, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if account is not None:
        for file in (path, lock_name(path), *([path.parent] if made else [])):
            os.chown(file, account[0], account[1], follow_symlinks=False)  # or a link could give it any file
    return lock
