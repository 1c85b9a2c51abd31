"""The journal: lines from the event loop into a pipe, whose other end is the writer process's (`scribe`).

Nobody waits: what the pipe has taken is with the kernel, and survives kill -9 of the program, since the scribe reads
on to the end. It gets the lines of a turn of the loop together: a write of its own for each costs 14 microseconds,
since another thread takes the interpreter meanwhile. The queue has them flushed before it settles anything. Only where
the pipe is full (the scribe is a third of a second behind at 2,500 mails a second) do lines stay in the program's
memory until there is room again, and would end with it.

Bound: CAPACITY bytes in the pipe, MOST in memory; lines beyond that are dropped. The disk is taken for gone where
nothing leaves the pipe for PATIENCE seconds. Both are said (`trouble`).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import termios

from pipeline.log.trouble import Trouble

MOST = 16 * 1024 * 1024  # bytes of lines in memory, about 40,000 attempts
CAPACITY = 1024 * 1024  # bytes of the pipe; Linux grants so many to everyone, elsewhere it stays at 64 KiB
PIECE = 64 * 1024  # bytes a write
PATIENCE = 3.0  # seconds


class Journal:
    """The pipe, from the loop's side.

    Args:
        trouble: told where lines are dropped, where the disk does not answer, and when that is over.

    Attributes:
        outlet: the end to read from. It stays open here, too: so a scribe that ends takes nothing with it.
    """

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.outlet = self._inlet = -1
        self._lines: list[bytes] = []  # of this turn of the loop
        self._pending = 0  # bytes of them
        self._held = bytearray()  # what the pipe has not taken yet
        self._fed = 0  # bytes that it has taken, ever
        self._passed = 0  # bytes that had left it at the last look
        self._waited = False  # at the last look there was something in it
        self._stuck = False
        self._emptied: asyncio.Event | None = None

    @property
    def inside(self) -> int:
        """Bytes in the pipe."""
        count = array.array("i", [0])
        fcntl.ioctl(self._inlet, termios.FIONREAD, count)
        return count[0]

    def open(self) -> None:
        """Make the pipe. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self.outlet, self._inlet = os.pipe()
        os.set_blocking(self._inlet, False)
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._watch = self._loop.call_later(PATIENCE, self._look)

    def append(self, line: bytes) -> None:
        """Hand over a line, with the others of this turn of the loop. Raises nothing."""
        self._lines.append(line)
        self._pending += len(line)
        if len(self._lines) == 1:
            self._loop.call_soon(self.flush)
        elif self._pending > PIECE:
            self.flush()

    def flush(self) -> None:
        """Hand over what was appended in this turn of the loop."""
        if not self._lines:
            return
        lines, self._lines, self._pending = self._lines, [], 0
        self._take(b"".join(lines), len(lines))

    def _take(self, lines: bytes, count: int) -> None:
        if not self._held:
            try:
                taken = os.write(self._inlet, lines)
            except BlockingIOError:
                taken = 0
            self._fed += taken
            if taken == len(lines):
                return
            self._held += lines[taken:]
            self._loop.add_writer(self._inlet, self._feed)
        elif len(self._held) + len(lines) <= MOST:
            self._held += lines
        else:
            self._trouble.lost(count, f"{len(self._held):,} bytes wait for the disk")

    def begun(self) -> None:
        """A scribe reads from now on."""
        self._waited = False  # it has PATIENCE anew
        self._trouble.over()

    async def close(self) -> None:
        """Feed the pipe what is in memory, unless the disk is gone, and end it: the scribe then comes to its end."""
        self.flush()
        self._watch.cancel()
        if self._held and not self._stuck:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), PATIENCE)
        if self._held:
            self._loop.remove_writer(self._inlet)
            self._trouble.lost(self._held.count(b"\n"), "the disk has not answered until the end")
        os.close(self._inlet)
        self._inlet = -1  # or a line that comes too late would go to whatever has its number next

    def discard(self) -> None:
        """Let go of what the scribe has not read."""
        os.close(self.outlet)

    def _feed(self) -> None:
        """There is room in the pipe again."""
        with contextlib.suppress(BlockingIOError):
            taken = os.write(self._inlet, self._held[:PIECE])
            self._fed += taken
            del self._held[:taken]
        if not self._held:
            self._loop.remove_writer(self._inlet)
            if self._emptied is not None:
                self._emptied.set()

    def _look(self) -> None:
        """Every PATIENCE seconds: has anything left the pipe since the last time?"""
        self._watch = self._loop.call_later(PATIENCE, self._look)
        inside = self.inside
        passed = self._fed - inside
        moved = passed > self._passed
        self._stuck = self._waited and not moved
        self._passed, self._waited = passed, inside > 0
        if self._stuck:
            self._trouble.lost(0, f"the disk has not answered for {PATIENCE:.0f} s")
        elif moved and not self._held:
            self._trouble.over()
