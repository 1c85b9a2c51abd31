"""The keeper of the scribe: starts it, starts it again where it ends, and waits for its end when that is asked for.

Owns the scribe's process. Bound: one, started again after FIRST seconds, and twice as many with each failure, up to
LAST. What the ring holds meanwhile, the next one writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from pipeline.log.child import Child
from pipeline.log.trouble import Trouble

FIRST, LAST = 0.1, 30.0  # seconds
LINGER = 5.0  # seconds that it may take to write what is in the ring, in the end


class Keeper:
    """One scribe.

    Args:
        told: called on the loop with what it tells.
        trouble: told where it has ended.
    """

    def __init__(self, told: Callable[[bytes], None], trouble: Trouble) -> None:
        self._told, self._trouble = told, trouble
        self._child: Child | None = None
        self._wait = FIRST
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._finished = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The scribe's number; None between two."""
        return self._child.pid if self._child else None

    def start(self, plan: str, files: Sequence[int]) -> None:
        """Start it.

        Args:
            plan: what it is to do.
            files: the open files that the plan names.

        Raises:
            OSError: it cannot be started.
        """
        self._loop = asyncio.get_running_loop()
        self._plan, self._files = plan, files
        self._begin()

    async def close(self) -> bool:
        """Wait for its end, which the journal's brings about; False where the disk holds it up: it goes on alone."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._again()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), LINGER)
        if self._timer is not None:
            self._timer.cancel()
        return self._finished.is_set()

    def _begin(self) -> None:
        command = ["-S", "-m", "pipeline.log.scribe", self._plan]  # -S: it needs nothing but Python's own
        self._child = Child(command, self._told, self._ended, pass_fds=self._files)
        self._began = self._loop.time()

    def _again(self) -> None:
        self._timer = None
        try:
            self._begin()
        except OSError as error:
            self._later(f"cannot be started: {error.strerror}")

    def _ended(self, code: int) -> None:
        self._child = None
        if self._closing and code == 0:
            self._finished.set()
            return
        if self._loop.time() - self._began > LAST:
            self._wait = FIRST
        self._later(f"has ended with {code}, and what it had in hand may be there twice")

    def _later(self, what: str) -> None:
        self._trouble.lost(0, f"the process that writes it {what}; it is started again")
        self._timer = self._loop.call_later(self._wait, self._again)
        self._wait = min(2 * self._wait, LAST)
