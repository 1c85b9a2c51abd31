"""The files of several workers as one queue, for people: figures, listing, changing, and putting in.

Nothing is lent here: each file's worker consumes it. Owns a connection to each. A message's number is that of its file
times FILES, and the file's. What is published goes to one file after another; its worker notices within half a second.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec
import reactivex as rx
from reactivex import Observable

from operators.deliveries.delivery import Lease
from pipeline.queues.contract import Body, Confirmed, QueueFigures, Settlement
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.survey import surveys
from pipeline.queues.listing import EVERYTHING, Action, Browsed, Filter, Listed, OpenedMessage, Place
from pipeline.queues.survey import AskSurvey

FILES = 1024
T = TypeVar("T")


class ManyFiles:
    """The queue contract's part for people, over several files.

    Args:
        files: an embedded queue each, not started.
        outbox: the name of the queue.
    """

    def __init__(self, files: Sequence[EmbeddedQueue], outbox: str) -> None:
        self._files, self._outbox = files, outbox
        self._turn = itertools.count()
        self.free = self.lent = 0  # by what the workers say

    async def start(self) -> None:
        """Open all. Raises `QueueUnavailable`."""
        for file in self._files:
            await file.start()

    async def close(self) -> None:
        """Close all."""
        await asyncio.gather(*(file.close() for file in self._files))

    def cease(self) -> None:
        """Nothing is lent here."""

    def consume(self, credit: int) -> Observable[Lease]:
        """Nothing is lent here."""
        return rx.never()

    def settle(self, lease: Lease, settlement: Settlement, confirmed: Confirmed) -> None:
        """Nothing is lent here."""
        raise NotImplementedError

    def recall(self, lane: str, most: int) -> None:
        """Its workers call parked messages in."""

    def publish(self, messages: Sequence[tuple[str, Body]], confirmed: Confirmed, delay: float = 0.0) -> None:
        """Into the next file."""
        self._files[next(self._turn) % len(self._files)].publish(messages, confirmed, delay)

    @property
    def withdrawable(self) -> None:
        """Each file's worker takes messages out of it."""
        return None

    @property
    def apart(self) -> None:
        """Which file a message goes to is not known before: each is whole."""

    @property
    def full(self) -> str | None:
        """Of the first file that is."""
        return next((file.full for file in self._files if file.full), None)

    @property
    def fault(self) -> str | None:
        """Of the first file that has one."""
        return next((file.fault for file in self._files if file.fault), None)

    @property
    def troubles(self) -> Sequence[str]:
        """Of all."""
        return [trouble for file in self._files for trouble in file.troubles]

    def notice(self, parked: Mapping[str, int]) -> None:
        """Each file's parked messages are its own."""

    def parked(self) -> Mapping[str, int]:
        """Of all, added up."""
        found: collections.Counter[str] = collections.Counter()
        for file in self._files:
            found.update(file.parked())
        return found

    async def answers(self) -> None:
        """Raises `QueueUnavailable` where it does not."""
        await self.figures()

    async def figures(self) -> QueueFigures:
        """Of all, added up."""
        all_ = [await file.figures() for file in self._files]
        other: collections.Counter[str] = collections.Counter()
        for one in all_:
            other.update(one.other)
        return QueueFigures(
            ready=max(0, sum(one.ready for one in all_) - self.lent),
            waiting=sum(one.waiting for one in all_),
            unsettled=self.lent,
            parked=self.parked(),
            other=other,
        )

    def surveys(self) -> AbstractAsyncContextManager[AskSurvey]:
        """While people look at the queues: asks what each holds."""
        return surveys(self._outbox, self.figures)

    async def browse(self, filter: Filter = EVERYTHING, after: Place = (0, 0), limit: int = 50) -> Browsed:
        """A page of all files' messages together, in one order."""
        pages = [await file.browse(filter, _after(after, number), limit) for number, file in enumerate(self._files)]
        found: list[tuple[Place, Listed]] = []
        bound: Place | None = None
        for number, page in enumerate(pages):
            for listed in page.messages:
                shown = msgspec.structs.replace(listed, id=listed.id * FILES + number)
                found.append((((listed.due if filter.waiting else 0.0), shown.id), shown))
            if page.after is not None:
                place = (page.after[0] if filter.waiting else 0.0, page.after[1] * FILES + number)
                bound = place if bound is None else min(bound, place)
        found.sort(key=lambda pair: pair[0])
        kept = [pair for pair in found if bound is None or pair[0] <= bound]
        if len(kept) > limit:
            kept = kept[:limit]
            bound = kept[-1][0]
        return Browsed([listed for _, listed in kept], bound)

    async def read(self, id: int) -> OpenedMessage | None:
        """One message."""
        file, inner = self._of(id)
        found = await file.read(inner) if file is not None else None
        if found is None:
            return None
        return OpenedMessage(msgspec.structs.replace(found.listed, id=id), found.body)

    async def change(self, action: Action, ids: Sequence[int]) -> int:
        """Do this with these messages; returns how many."""
        by_file: dict[int, list[int]] = collections.defaultdict(list)
        for id in ids:
            by_file[id % FILES].append(id // FILES)
        known = [(self._files[number], inner) for number, inner in by_file.items() if number < len(self._files)]
        return await _sum([file.change(action, inner) for file, inner in known])

    async def flush(self) -> int:
        """What waits for a time becomes ready now."""
        return await _sum([file.flush() for file in self._files])

    async def purge(self, queue: str | None = None, lane: str | None = None) -> int:
        """Remove the messages of a queue, or of one lane's parked queue."""
        return await _sum([file.purge(queue, lane) for file in self._files])

    def _of(self, id: int) -> tuple[EmbeddedQueue | None, int]:
        number = id % FILES
        return (self._files[number] if number < len(self._files) else None), id // FILES


def _after(after: Place, number: int) -> Place:
    """The place in one file that comes to one in all files together."""
    due, shown = after
    inner, of = divmod(shown, FILES)
    return due, (inner if number <= of else inner - 1)


async def _sum(work: Sequence[Awaitable[Any]]) -> int:
    return sum([await one for one in work])
