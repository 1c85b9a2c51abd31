"""Event loops for tests: one on a thread of its own, for peers that run beside a test, and one on virtual time."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Coroutine
from typing import Any


class _Leaping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Where a loop would sleep, its clock goes on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes as soon as nothing else is to be done; not for sockets and threads."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Virtual seconds."""
        return float(self._leaping.now)


class Loop:
    """A running loop; a context manager that ends it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do this on the loop, and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_end_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


async def _end_others() -> None:
    """Whatever a peer still does."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
