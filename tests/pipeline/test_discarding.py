"""Deleting where there are workers: each does its part, and the head waits for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.queues.contract import QueueUnavailable
from pipeline.views.bulk import Progress, Selection
from pipeline.workers.discarding import HeadDiscarding


class Asked:
    """What the head asks of two workers."""

    def __init__(self) -> None:
        self.asked: dict[Hashable, tuple[Any, ...]] = {}
        self.begun = asyncio.Event()
        self.discarded: Any = None

    def rows(self) -> list[SimpleNamespace]:
        """Both."""
        return [SimpleNamespace(number=1), SimpleNamespace(number=2)]

    def ask(self, name: Hashable, *message: Any) -> None:
        """Something begins."""
        self.asked[name] = message
        self.begun.set()

    def ask_no_more(self, name: Hashable) -> None:
        """It is over."""
        del self.asked[name]


async def deleted(asked: Asked, *words: tuple[int, Progress, bool, str]) -> list[Progress]:
    """What a deletion says, when the workers say this of it."""
    deleting, found = HeadDiscarding(asked), list[Progress]()  # type: ignore[arg-type]

    async def run() -> None:
        async for progress in deleting.delete(Selection(domain=("a.example",))):
            found.append(progress)

    task = asyncio.ensure_future(run())
    await asyncio.wait_for(asked.begun.wait(), 5)
    [(kind, number, selection)] = asked.asked.values()
    assert (kind, selection["domain"]) == ("discard", ("a.example",))
    for worker, done, over, error in words:
        asked.discarded(worker, number, list(done), over, error)
    await task
    assert not asked.asked
    return found


async def test_it_is_over_when_all_have_done_their_part() -> None:
    """What one of them says that was started anew meanwhile counts in place of what was said before."""
    first, again = (1, (50, 100, 5), False, ""), (1, (100, 100, 9), True, "")
    found = await deleted(Asked(), first, (2, (10, 10, 1), True, ""), again)
    assert found[-1] == (110, 110, 10)


async def test_a_worker_whose_queue_does_not_answer_is_said() -> None:
    """Once, when the others are done."""
    with pytest.raises(QueueUnavailable, match=r"^the disk is full$"):
        await deleted(Asked(), (1, (0, 9, 0), True, "the disk is full"), (2, (9, 9, 9), True, "the disk is full"))
