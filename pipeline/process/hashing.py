"""Hashing passwords: one hash at a time in each lane, so that guesses in one lane delay no other lane.

argon2 takes 40 ms on several cores by design. The lane of those who may be guessing is a process (`hasher`) that gives
way to the mail and to everybody else. It starts when it is first needed, and anew where it has ended; where it cannot
start, that is a fault, and a thread does its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.process.children import Child, ChildFailed, ChildKind
from pipeline.process.passwords import DamagedHash, answer, matches
from pipeline.process.supervisor import spawn, supervisor

HASHER = ChildKind("hasher", "pipeline.process.hasher")
_Result = TypeVar("_Result")


class HashingLane:
    """One thread, started when it is first needed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "hashing")

    async def run(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """What `work` returns or raises, once all that came before is done."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def matches(self, kept: str, password: str) -> bool:
        """Whether the password belongs to the hash, once all that came before are done. Raises `DamagedHash`."""
        return await self.run(matches, kept, password)


class HumbleLane:
    """One process, for those who may be guessing."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._hasher: _Hasher | None = None
        self._instead = HashingLane()

    async def matches(self, kept: str, password: str) -> bool:
        """Whether the password belongs to the hash, once all that came before are done. Raises `DamagedHash`."""
        await self._turn.acquire()
        # It is finished also where nothing waits for it any more: the next one must not get its answer.
        found = await asyncio.shield(spawn(self._asked(kept, password), HASHER.part))
        if found not in ("0", "1"):
            raise DamagedHash(found)
        return found == "1"

    async def _asked(self, kept: str, password: str) -> str:
        try:
            if self._hasher is None or self._hasher.over:
                self._hasher = _Hasher()
            return await self._hasher.ask(kept, password)
        except (ChildFailed, OSError) as error:
            supervisor().failed(HASHER.part, error)
            return await self._instead.run(answer, kept, password)
        finally:
            self._turn.release()


class _Hasher:
    """The process. Raises `ChildFailed` and OSError."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[str] | None = None
        self.over = False
        reads, self._writes = os.pipe()
        try:
            self._child = Child(HASHER, [str(reads)], self._told, self._ended, files=[reads])
        except BaseException:
            os.close(self._writes)
            raise
        finally:
            os.close(reads)

    async def ask(self, kept: str, password: str) -> str:
        """Its answer; one at a time, so the pipe always has room for a line."""
        self._answer = asyncio.get_running_loop().create_future()
        os.write(self._writes, json.dumps([kept, password]).encode() + b"\n")
        return await self._answer

    def _told(self, line: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(line.decode(errors="replace"))

    def _ended(self, _: int, why: str) -> None:
        self.over = True
        with contextlib.suppress(OSError):
            os.close(self._writes)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ChildFailed(why))
