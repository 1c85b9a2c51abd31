"""The delivery log: every attempt and every received message as a line.

Owns the two journals and the thread that turns rotated files into Parquet. Hot path: `attempt` costs about 6
microseconds on the loop. Bounds and failures: `journal` (lines in memory, disk gone), `archive` (rotated files).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from operators.delivery import Delivery
from operators.events import Notice, Received
from operators.outcome import Outcome
from pipeline.log import schema
from pipeline.log.archive import Archive
from pipeline.log.file import LogFile
from pipeline.log.journal import Journal, Report, Then

NICE = 10  # converting a rotated file yields to everything else


class LogUnavailable(Exception):
    """A log file cannot be opened; one clear line."""


class DeliveryLog:
    """Writes `send-log` and `received-log`.

    Args:
        send_log, received_log: the active files; None writes none.
        maxsize: bytes after which a file is rotated; 0 is never.
        history: rotated files kept of each log; 0 is all.
        instance: `server-id`.
        report: takes `Fault` where lines are lost and `Notice` where an operator should know; called on the loop.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._instance, self._report, self._clock = instance, report, clock
        self._tidying: queue.SimpleQueue[Archive | None] = queue.SimpleQueue()
        self._archives: list[Archive] = []
        self._thread = threading.Thread(target=self._tidy, name="log-archive", daemon=True)

        def journal(name: str, path: Path | None, record: type[schema.Record]) -> Journal | None:
            if path is None:
                return None
            archive = Archive(path, record, history)
            self._archives.append(archive)
            return Journal(name, LogFile(path, maxsize, clock), report, clock, lambda: self._tidying.put(archive))

        self._sent = journal("send-log", send_log, schema.Attempt)
        self._received = journal("received-log", received_log, schema.Reception)

    @property
    def _journals(self) -> list[Journal]:
        return [journal for journal in (self._sent, self._received) if journal is not None]

    @property
    def trouble(self) -> str | None:
        """What is wrong with the log's disk now, or None."""
        return next((journal.trouble for journal in self._journals if journal.trouble), None)

    def start(self) -> None:
        """Open the files, and take up what a crash left of a rotation. Raises `LogUnavailable`."""
        self._loop = asyncio.get_running_loop()
        for journal in self._journals:
            try:
                journal.start()
            except OSError as error:
                raise LogUnavailable(f"{journal.name}: cannot write {error.filename}: {error.strerror}") from None
        for archive in self._archives:
            self._tidying.put(archive)
        self._thread.start()

    def attempt(
        self, delivery: Delivery, outcome: Outcome, when: float, retry_at: float | None = None, then: Then | None = None
    ) -> None:
        """Log what came of a delivery, unless it is neither an attempt nor an end.

        Args:
            delivery, outcome: what came of it.
            when: epoch seconds.
            retry_at: epoch seconds at which it comes back, with `retry`.
            then: called on the loop once the line survives kill -9 (or is lost to a broken disk): settle then.
        """
        if self._sent is not None and outcome.next not in schema.NOT_LOGGED:
            self._sent.append(schema.line(schema.attempt(delivery, outcome, when, retry_at, self._instance)), then)
        elif then is not None:
            then()

    def received(self, event: Received, then: Then | None = None) -> None:
        """Log a received message; `then` as above: answer 250 then."""
        if self._received is not None:
            self._received.append(schema.line(schema.reception(event, self._instance)), then)
        elif then is not None:
            then()

    def reopen(self) -> None:
        """Go on with what is now at the files' paths (SIGHUP)."""
        for journal in self._journals:
            journal.reopen()

    async def close(self) -> None:
        """Write what is in memory; a conversion under way is ended at the next start if it takes too long."""
        for journal in self._journals:
            await journal.close()
        self._tidying.put(None)
        await asyncio.to_thread(self._thread.join, 1.0)

    def _tidy(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # a thread's own niceness: Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (archive := self._tidying.get()) is not None:
            for text in archive.tidy():
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._report, Notice(time=self._clock(), kind="log", text=text))
