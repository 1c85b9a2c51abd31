"""Hashing passwords: one thread a lane, one hash at a time in it, so that who guesses holds up nobody in another lane.

argon2 takes 40 ms on several cores by design. A lane for those who may be guessing is `humble`: its thread, and those
that argon2 starts from it, give way to the mail and to everybody else (Linux knows a niceness of each thread).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

HUMBLE = 15  # niceness
_Result = TypeVar("_Result")


class HashingLane:
    """One thread, started when it is first needed."""

    def __init__(self, *, humble: bool = False) -> None:
        self._thread = ThreadPoolExecutor(1, "hashing", _give_way if humble else None)

    async def run(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """What `work` returns or raises, once all that came before is done."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _give_way() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such thing
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HUMBLE)
