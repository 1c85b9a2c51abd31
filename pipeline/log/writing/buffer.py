"""The buffer: the program's lines on their way to the process that writes them (`writer`).

Nothing waits for the disk: what the ring has taken survives kill -9 of the program. Only where that is full (the
writer is a third of a second behind at 2,500 mails a second) do lines wait in the program's memory until there is room
again; these would be lost with it.

Bound: `ring.ROOM` bytes in the ring, MOST in memory; lines beyond that are dropped. The disk is taken for gone where
nothing leaves the ring for PATIENCE seconds. Both are said (`trouble`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from pipeline.log.writing.fault import LogFault
from pipeline.process.ring import Inlet

MOST = 16 * 1024 * 1024  # bytes of lines in memory, about 40,000 attempts
AGAIN = 0.02  # seconds between tries to hand over what waits in memory
PATIENCE = 3.0  # seconds


class LineBuffer:
    """The way to the writer.

    Args:
        trouble: told where lines are dropped, where the disk does not answer, and when that is over.
    """

    def __init__(self, trouble: LogFault) -> None:
        self._trouble = trouble
        self._held: deque[bytes] = deque()  # what the ring has no room for yet
        self._bytes = 0  # of them
        self._read = 0  # what the writer had read at the last look, in bytes since the beginning
        self._waited = False  # there was something in the ring then
        self._reading = False  # there is a writer; without one the disk is not to blame
        self._stuck = False
        self._emptied: asyncio.Event | None = None

    @property
    def inside(self) -> int:
        """Bytes in the ring."""
        return self._ring.inside

    @property
    def files(self) -> tuple[int, int]:
        """What the writer needs, see `Inlet`."""
        return self._ring.files

    def open(self) -> None:
        """Make the ring. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._ring = Inlet()
        self._watch = self._loop.call_later(PATIENCE, self._look)

    def append(self, line: bytes) -> None:
        """Hand over a line. It survives kill -9 of the program from then on. Raises nothing."""
        if self._held or not self._ring.put(line):
            self._hold(line)

    async def room(self) -> None:
        """Wait until nothing is held in memory; not for a disk that stands still."""
        while self._held and not self._stuck:  # noqa: ASYNC110 - the disk is asked every AGAIN seconds
            await asyncio.sleep(AGAIN)

    def begun(self) -> None:
        """A writer reads from now on."""
        self._reading, self._waited = True, False  # it has PATIENCE anew
        self._trouble.over()

    def ended(self) -> None:
        """The writer has ended; who starts it says why."""
        self._reading = False

    async def close(self) -> None:
        """Hand over what is in memory, unless the disk is gone; the writer then comes to its end."""
        self._watch.cancel()
        if self._held and not self._stuck:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), PATIENCE)
        if self._held:
            self._feeding.cancel()
            self._trouble.lost(len(self._held), "the disk has not answered until the end")
        self._ring.end()

    def discard(self) -> None:
        """Discard what the writer has not written."""
        self._ring.discard()

    def _hold(self, line: bytes) -> None:
        if self._bytes + len(line) > MOST:
            self._trouble.lost(1, f"{self._bytes:,} bytes wait for the disk")
            return
        if not self._held:
            self._feeding = self._loop.call_later(AGAIN, self._feed)
        self._held.append(line)
        self._bytes += len(line)

    def _feed(self) -> None:
        """Hand over what there is room for again."""
        while self._held and self._ring.put(self._held[0]):
            self._bytes -= len(self._held.popleft())
        if self._held:
            self._feeding = self._loop.call_later(AGAIN, self._feed)
        elif self._emptied is not None:
            self._emptied.set()

    def _look(self) -> None:
        """Every PATIENCE seconds: has the writer written anything since the last time?"""
        self._watch = self._loop.call_later(PATIENCE, self._look)
        read = self._ring.read
        moved = read > self._read
        self._stuck = self._reading and self._waited and not moved
        self._read, self._waited = read, self.inside > 0
        if self._stuck:
            self._trouble.lost(0, f"nothing was written for {PATIENCE:.0f} s: the disk or its process stands still")
        elif moved and not self._held:
            self._trouble.over()
