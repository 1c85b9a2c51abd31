"""The life of the log writer: starts it, starts it again when it ends, and waits for its end when it is to stop.

Owns the writer's process. Bound: one, started again after FIRST seconds, and twice as many with each failure, up to
LAST. What the ring holds meanwhile, the next one writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from pipeline.log.writing.fault import LogFault
from pipeline.process.children import Child, ChildFailed, ChildKind
from pipeline.process.rights import Account

FIRST, LAST = 0.1, 30.0  # seconds
LOG_WRITER = ChildKind("log-writer", "pipeline.log.writing.writer", outlives=True)
LINGER = 5.0  # seconds that it may take to write what is in the ring, in the end


class WriterLife:
    """One log writer, with what starts it again.

    Args:
        told: called on the loop with what it tells.
        ended: called on the loop where it has ended by itself.
        trouble: told where it has ended.
        account: what it becomes.
    """

    def __init__(
        self,
        told: Callable[[bytes], None],
        ended: Callable[[], None],
        trouble: LogFault,
        account: Account | None = None,
    ) -> None:
        self._told, self._gone, self._trouble, self._account = told, ended, trouble, account
        self._child: Child | None = None
        self._wait = FIRST
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._finished = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The writer's process number; None while there is none."""
        return self._child.pid if self._child else None

    def start(self, plan: str, files: Sequence[int]) -> None:
        """Start it.

        Args:
            plan: what it is to do.
            files: the open files that the plan names.

        Raises:
            ChildFailed: it cannot be started.
        """
        self._loop = asyncio.get_running_loop()
        self._plan, self._files = plan, files
        self._begin()

    async def close(self) -> bool:
        """Wait for its end, which comes with the buffer's; False where the disk holds it up: it goes on alone."""
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
        self._child = Child(LOG_WRITER, [self._plan], self._told, self._ended, files=self._files, account=self._account)
        self._began = self._loop.time()

    def _again(self) -> None:
        self._timer = None
        try:
            self._begin()
        except ChildFailed as error:
            self._later(str(error))

    def _ended(self, code: int, why: str) -> None:
        self._child = None
        if self._closing and code == 0:
            self._finished.set()
            return
        if self._loop.time() - self._began > LAST:
            self._wait = FIRST
        self._gone()
        self._later(f"{why}, and what it had in hand may be there twice")

    def _later(self, what: str) -> None:
        self._trouble.lost(0, f"the process that writes it {what}; it is started again")
        self._timer = self._loop.call_later(self._wait, self._again)
        self._wait = min(2 * self._wait, LAST)
