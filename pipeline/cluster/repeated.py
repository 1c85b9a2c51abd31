"""Work that is asked for again and again, as often as others like: done one time after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.process.supervisor import spawn


class RepeatedWork:
    """Does it when it is called; what is asked for while it is under way is done once more, and no oftener.

    Args:
        work: what to do.
        part: of the program, for the supervisor.
        apart: seconds from one beginning to the next, at least.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], part: str, apart: float = 0.0) -> None:
        self._work, self._part, self._apart = work, part, apart
        self._asked = False
        self._running: asyncio.Task[None] | None = None
        self._begun = float("-inf")

    def __call__(self) -> None:
        """It is wanted."""
        self._asked = True
        if self._running is None or self._running.done():
            self._running = spawn(self._run(), self._part)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            await asyncio.sleep(self._begun + self._apart - loop.time())
            self._asked, self._begun = False, loop.time()
            await self._work()
