"""A long command says what it is doing, and ends by a deadline with what is missing."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType

EACH = 30.0  # seconds between two lines


class OverdueError(BaseException):
    """The deadline is over. No `Exception`, so that nothing on the way takes it for a fault of its own."""


class Progress:
    """What is being done now. Call it with that; `by` says it now and then, and ends it."""

    def __init__(self) -> None:
        self.doing = "starting"

    def __call__(self, doing: str) -> None:
        """From now on, this is done."""
        self.doing = doing

    @contextlib.contextmanager
    def by(self, seconds: float, name: str) -> Iterator[None]:
        """Raises `OverdueError` in the main thread after so many seconds, with what was done then and where."""
        over, begin = threading.Event(), time.monotonic()

        def say() -> None:
            while not over.wait(EACH):
                print(f"{name}: {time.monotonic() - begin:.0f} s: {self.doing}", file=sys.stderr, flush=True)

        def end(_: int, frame: FrameType | None) -> None:
            where = [f"{call.filename.rpartition('/')[2]}:{call.lineno}" for call in traceback.extract_stack(frame)]
            raise OverdueError(f"not done in {seconds:.0f} s: {self.doing} (at {' '.join(where[-4:])})")

        before = signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        threading.Thread(target=say, daemon=True).start()
        try:
            yield
        finally:
            over.set()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
