"""Latest: work that takes a while, started again and again, of which one runs at a time and only the last matters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from nicegui import background_tasks

log = structlog.get_logger("console")


class Latest:
    """Runs `work`; what is asked for while it runs is done once after it, however often it was asked for.

    `failed` is told the error's text, where it is one of `expected`; any other is logged.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        expected: tuple[type[Exception], ...] = (),
        failed: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._work, self._expected, self._failed = work, expected, failed
        self._running = self._again = False

    def __call__(self) -> None:
        """Ask for it."""
        if self._running:
            self._again = True
            return
        self._running = True
        background_tasks.create(self._run())

    def idly(self) -> None:
        """Ask for it, but not while it runs: for what a timer asks."""
        if not self._running:
            self()

    async def _run(self) -> None:
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._one()
        finally:
            self._running = False

    async def _one(self) -> None:
        try:
            await self._work()
        except self._expected as error:
            self._failed(str(error))
        except Exception:
            log.exception("a page could not be updated")
