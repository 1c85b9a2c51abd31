"""Deleting queued messages where there are workers: each looks through its own queue, and says how far it is.

The head could ask for pages of all files, and delete them by their numbers; but only the one that lends messages can
take out what waits for its turn in the same moment, and look at it without writing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from pipeline.machine.machine import Machine
from pipeline.process.supervisor import spawn
from pipeline.queues.contract import QueueUnavailable
from pipeline.views.bulk import Bulk, Busy, Progress, Selection
from pipeline.workers.crew import Crew

EVERY = 0.2  # seconds between two words on how far it is


class Part(msgspec.Struct):
    """What one worker has done of it."""

    done: Progress = (0, 0, 0)
    over: bool = False
    error: str = ""


class HeadDiscarding:
    """Asks the workers; one that is started anew meanwhile is asked again.

    Owner of: the deletions under way, of which bulk actions have one at a time.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._numbers = itertools.count(1)
        self._parts: dict[int, dict[int, Part]] = {}  # by deletion, then by worker
        crew.discarded = self._heard

    async def delete(self, selection: Selection) -> AsyncGenerator[Progress, None]:
        """Looked at, of how many, deleted, while it goes on. Raises `QueueUnavailable` where a worker's queue does."""
        number = next(self._numbers)
        parts = self._parts[number] = {row.number: Part() for row in self._crew.rows()}
        self._crew.ask(("discard", number), "discard", number, msgspec.to_builtins(selection))
        try:
            while not all(part.over for part in parts.values()):
                await asyncio.sleep(EVERY)
                yield _together(parts)
        finally:
            del self._parts[number]
            self._crew.ask_no_more(("discard", number))
        if errors := dict.fromkeys(part.error for part in parts.values() if part.error):
            raise QueueUnavailable("; ".join(errors))

    def _heard(self, worker: int, number: int, done: list[int], over: bool, error: str) -> None:
        if (part := self._parts.get(number, {}).get(worker)) is not None:
            looked, total, changed = done
            part.done, part.over, part.error = (looked, total, changed), over, error


class WorkerDiscarding:
    """Deletes in the worker's own queue what the head asks for."""

    def __init__(self, machine: Machine, say: Callable[..., None]) -> None:
        self._bulk, self._say = Bulk(machine.queue, machine.settings.rabbitmq_outbox), say

    def begin(self, number: int, selection: dict[str, Any]) -> None:
        """Begin with it."""
        spawn(self._run(number, msgspec.convert(selection, Selection)), "bulk", grave=False)

    async def _run(self, number: int, selection: Selection) -> None:
        try:
            job = self._bulk.begin("delete", selection)
        except Busy as error:
            self._say("discarded", number, (0, 0, 0), True, str(error))
            return
        while job.ended is None:
            self._say("discarded", number, (job.looked, job.total, job.changed), False, "")
            await asyncio.sleep(EVERY)
        self._say("discarded", number, (job.looked, job.total, job.changed), True, job.error)


def _together(parts: dict[int, Part]) -> Progress:
    looked, total, changed = (sum(part.done[index] for part in parts.values()) for index in range(3))
    return looked, total, changed
