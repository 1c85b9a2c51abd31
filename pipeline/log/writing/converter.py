"""The converter: a process (`conversion`) turns rotated files into Parquet, and deletes those that are too many.

Owns that process and the list of what is due. Bounds: one process, each log once in the list. It is ended with the
program where it takes longer than LINGER: what it did not do is done at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from operators.deliveries.events import Notice
from pipeline.log.writing.fault import Report
from pipeline.process.children import Child, ChildFailed, ChildKind
from pipeline.process.rights import Account
from pipeline.process.supervisor import supervisor

ARCHIVE = ChildKind("archive", "pipeline.log.writing.conversion")
LINGER = 1.0  # seconds


class Converter:
    """The rotated files of all logs.

    Args:
        history: the most rotated files that are kept of each; 0 is all.
        report: takes a `Notice` for each thing that an operator should know.
        clock: epoch seconds.
        account: what its process becomes.
    """

    def __init__(
        self, history: int, report: Report, account: Account | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._history, self._report, self._clock, self._account = history, report, clock, account
        self._due: dict[str, Path] = {}
        self._child: Child | None = None
        self._closing = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    def due(self, name: str, path: Path) -> None:
        """There is something to do for this log, by its configuration key and its active file."""
        self._due[name] = path
        if self._child is None:
            self._next()

    async def close(self) -> None:
        """End, with what is under way where that is soon."""
        self._due.clear()
        self._closing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._at_rest.wait(), LINGER)
        if self._child is not None:
            self._child.kill()  # it may be killed at any moment; SIGTERM would wait for a process that is stopped
            await self._at_rest.wait()

    def _next(self) -> None:
        while self._due and self._child is None:
            name = next(iter(self._due))
            path = self._due.pop(name)
            plan = json.dumps([name, str(path), self._history])
            try:
                self._child = Child(ARCHIVE, [plan], self._told, self._ended, account=self._account)
                self._at_rest.clear()
            except ChildFailed as error:
                self._say(f"{path}: rotated files stay as they are, until the next rotation: its process {error}")
                supervisor().failed(ARCHIVE.part, error, grave=False)

    def _ended(self, code: int, why: str) -> None:
        self._child = None
        self._at_rest.set()
        if code and not self._closing:  # also where the system has killed it, for memory
            self._say(f"rotated files stay as they are, until the next rotation: the archive {why}")
            supervisor().failed(ARCHIVE.part, ChildFailed(why), grave=False)
        self._next()

    def _told(self, line: bytes) -> None:
        self._say(line.decode(errors="replace"))

    def _say(self, text: str) -> None:
        self._report(Notice(time=self._clock(), kind="log", text=text))
