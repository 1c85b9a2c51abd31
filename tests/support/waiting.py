"""Waiting for what another process, thread or task brings about, and for which there is no event. No test sleeps
itself: a wait ends as soon as what it waits for is so, and fails where that never comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LOOK = 0.02  # seconds between two looks


def until(
    holds: Callable[[], object], what: str = "it did not come", patience: float = 60.0, every: float = LOOK
) -> None:
    """Wait until this is so."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(every)


async def comes(holds: Callable[[], object], patience: float = 20) -> None:
    """Let the loop run until this is so."""
    async with asyncio.timeout(patience):
        while not holds():  # noqa: ASYNC110 - it may be anything, also in another process
            await asyncio.sleep(0.001)
