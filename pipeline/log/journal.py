"""The journal: lines from the event loop to a file, by a thread of its own.

Owns the lines that are not with the kernel yet. One batch is written at a time, and what comes meanwhile is the
next one, so batches grow with the load. Whoever hands in a line may wait for it (`then`): a delivery is settled
only after its line is written, so kill -9 loses no line of a settled message.

Bound: MOST bytes. The disk is taken for gone where a write fails, or takes longer than PATIENCE: then nobody
waits for it, and lines that do not fit are dropped. That is said at once, every SAY_AGAIN seconds with the count,
and when it is over.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable

from operators.events import Event, Fault, Notice
from pipeline.log.file import LogFile

Then = Callable[[], None]
Report = Callable[[Event], None]

MOST = 16 * 1024 * 1024  # bytes of lines in memory, about 40,000 attempts
PATIENCE = 3.0  # seconds
# Seconds between two batches at least. Waking the thread and the loop costs 20 microseconds a batch: at 5,000 lines
# a second that is 2 a line with this pause, and 15 without. A line that comes after a quieter moment does not wait.
PAUSE = 0.002
SAY_AGAIN = 60.0  # seconds


class _Batch:
    """Lines that are written together, and who waits for them."""

    __slots__ = ("lines", "size", "thens")

    def __init__(self, lines: list[bytes], thens: list[Then], size: int) -> None:
        self.lines, self.thens, self.size = lines, thens, size


class Journal:
    """One log, from the loop's side.

    Args:
        name: the configuration key, for what is said.
        file: the file; after `start` only the journal's thread touches it.
        report: takes events, on the loop.
        clock: epoch seconds.
        rotated: called in the journal's thread after each rotation.
    """

    def __init__(
        self, name: str, file: LogFile, report: Report, clock: Callable[[], float], rotated: Callable[[], None]
    ) -> None:
        self.name, self._file, self._report, self._clock, self._rotated = name, file, report, clock, rotated
        self._lines: list[bytes] = []  # for the next batch
        self._thens: list[Then] = []
        self._held = 0  # bytes in memory, those of the batch included
        self._batch: _Batch | None = None  # with the thread
        self._scheduled = False
        self._next = 0.0  # loop time before which no batch goes
        self._watched: _Batch | None = None
        self._stuck = False
        self._trouble: str | None = None
        self._lost = 0  # lines, since the trouble began
        self._say_at = 0.0
        self._quiet: asyncio.Future[None] | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the disk now, or None."""
        return self._trouble

    def start(self) -> None:
        """Open the file and start the thread. Raises OSError."""
        self._file.open()
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._watch = self._loop.call_later(PATIENCE, self._look)

    def append(self, line: bytes, then: Then | None = None) -> None:
        """Write a line. `then` is called once it is with the kernel, or lost; where the disk is gone, at once."""
        if self._held + len(line) > MOST:
            self._drop(1, f"{self._held:,} bytes wait for the disk")
        else:
            self._held += len(line)
            self._lines.append(line)
            if then is not None and not self._stuck:
                self._thens.append(then)
                then = None
            if self._batch is None and not self._scheduled:
                self._schedule()
        if then is not None:
            self._call(then)

    def reopen(self) -> None:
        """Close the file after what is under way; the next line goes to what is then at its path."""
        self._work.put(self._file.close)

    async def close(self) -> None:
        """Write what is in memory, unless the disk is gone, and end the thread."""
        if (self._batch is not None or self._lines) and not self._stuck:
            self._quiet = self._loop.create_future()
            await self._quiet
        self._watch.cancel()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join, PATIENCE)

    # -- on the loop ------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._scheduled = True
        if (wait := self._next - self._loop.time()) > 0:
            self._loop.call_later(wait, self._hand_over)
        else:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._scheduled = False
        self._next = self._loop.time() + PAUSE
        self._batch = batch = _Batch(self._lines, self._thens, self._held)
        self._lines, self._thens = [], []
        self._work.put(functools.partial(self._write, batch))

    def _written(self, batch: _Batch, error: OSError | None) -> None:
        self._batch = None
        self._held -= batch.size
        self._stuck = False
        if error is not None:
            self._drop(len(batch.lines), error.strerror or str(error))
        elif self._trouble is not None:
            self._recovered()
        for then in batch.thens:
            self._call(then)
        if self._lines:
            self._schedule()
        else:
            self._fall_quiet()

    def _look(self) -> None:
        """Every PATIENCE seconds: is the batch still the one of last time?"""
        self._watch = self._loop.call_later(PATIENCE, self._look)
        if self._batch is not None and self._batch is self._watched and not self._stuck:
            self._give_up(self._batch)
        self._watched = self._batch

    def _give_up(self, batch: _Batch) -> None:
        """Nobody waits for this disk any longer; the lines stay, in case it comes back."""
        self._stuck = True
        waiting = [*batch.thens, *self._thens]
        batch.thens, self._thens = [], []
        self._drop(0, f"the disk has not answered for {PATIENCE:.0f} s")
        for then in waiting:
            self._call(then)
        self._fall_quiet()

    def _fall_quiet(self) -> None:
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _call(self, then: Then) -> None:
        try:
            then()
        except Exception as error:
            self._report(Fault(time=self._clock(), where=self.name, detail=f"{type(error).__name__}: {error}"))

    # -- what is said -----------------------------------------------------------------------------------------

    def _drop(self, lines: int, why: str) -> None:
        self._lost += lines
        if self._trouble is None:
            self._say_at = 0.0
        self._trouble = why
        self._complain(f"{why}; {self._lost:,} lines are lost so far, mail goes on")

    def _complain(self, what: str) -> None:
        now = self._clock()
        if now >= self._say_at:
            self._say_at = now + SAY_AGAIN
            self._report(Fault(time=now, where=self.name, detail=f"{self._file.path}: {what}"))

    def _recovered(self) -> None:
        text = f"{self._file.path} is written again; {self._lost:,} lines were lost"
        self._report(Notice(time=self._clock(), kind="log", text=text, fields={"lost": self._lost}))
        self._trouble, self._lost = None, 0

    # -- in the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            try:
                job()
            except RuntimeError:  # the loop is closed: nobody waits for an answer
                break
        self._file.close()

    def _write(self, batch: _Batch) -> None:
        failed = None
        try:
            self._file.append(b"".join(batch.lines))
        except OSError as error:
            failed = error
        self._loop.call_soon_threadsafe(self._written, batch, failed)
        if failed is None:
            self._rotate()

    def _rotate(self) -> None:
        try:
            if self._file.rotate():
                self._rotated()
        except OSError as error:
            self._loop.call_soon_threadsafe(self._complain, f"cannot be rotated: {error.strerror}")
