"""A desk in front of a queue: it publishes, works off what is lent, and waits for confirmations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from reactivex import abc

from operators.deliveries.delivery import Lease
from pipeline.queues.contract import Park, Queue, Settlement

PATIENCE = 20.0  # seconds until a test gives up waiting for what must come
SHORT = 0.15  # seconds in which what must not come would have come
LANE = "127.0.0.1/example.com"


class Clock:
    """Epoch seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A queue, what it has lent so far, and calls that wait for their confirmation."""

    def __init__(self, queue: Queue, clock: Clock | None) -> None:
        self.queue, self._clock = queue, clock
        self.leases: list[Lease] = []
        self.subscription: abc.DisposableBase | None = None

    def consume(self, credit: int = 100, work: Callable[[Lease], None] | None = None) -> None:
        def take(lease: Lease) -> None:
            self.leases.append(lease)
            if work is not None:
                work(lease)

        self.subscription = self.queue.consume(credit).subscribe(take)

    async def publish(self, *bodies: bytes, queue: str = "outbox", delay: float = 0.0) -> None:
        """Publish in one call, and wait until it is confirmed."""
        await confirmation(lambda confirmed: self.queue.publish([(queue, body) for body in bodies], confirmed, delay))

    async def settle(self, lease: Lease, settlement: Settlement = Settlement()) -> None:  # noqa: B008
        await confirmation(lambda confirmed: self.queue.settle(lease, settlement, confirmed))

    async def lent(self, number: int) -> list[Lease]:
        """Wait until so many have been lent in all; the new ones since the last call."""
        await until(lambda: len(self.leases) >= number)
        return self.leases[:number]

    async def next(self, number: int = 1) -> list[Lease]:
        """Wait for so many more, and take them off the list."""
        await until(lambda: len(self.leases) >= number)
        taken, self.leases[:number] = self.leases[:number], []
        return taken

    async def nothing_more(self) -> None:
        """Nothing is lent for a while."""
        before = len(self.leases)
        await asyncio.sleep(SHORT)
        assert [lease.body for lease in self.leases[before:]] == []

    def pass_time(self, seconds: float) -> None:
        """Let time pass, where the queue's clock can be set."""
        if self._clock is None:
            pytest.skip("this queue's clock is the broker's")
        self._clock.now += seconds

    @property
    def now(self) -> float:
        if self._clock is None:
            pytest.skip("this queue's clock is the broker's")
        return self._clock.now


async def confirmation(call: Callable[[Callable[[Exception | None], None]], None]) -> None:
    """Make the call, wait for its answer, and raise it where it is an error."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def confirmed(error: Exception | None) -> None:
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    call(confirmed)
    await asyncio.wait_for(answer, PATIENCE)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - it may be anything, also in another process
            await asyncio.sleep(0.001)


async def inside(desk: Desk, work: str | Callable[[Any], Any]) -> Any:
    """The rows of a statement, or what `work` gives, in the thread that writes the embedded queue's file.

    The one place where tests reach in there: they bring about what a disk does, which no public call does.
    """
    queue: Any = desk.queue
    return await queue._writer.run(
        (lambda store: store._db.execute(work).fetchall()) if isinstance(work, str) else work
    )


def bodies(number: int, start: int = 0) -> list[bytes]:
    """So many different ones."""
    return [b'{"n":%d}' % n for n in range(start, start + number)]


async def park(desk: Desk, *wanted: bytes, lane: str = LANE, expires: float | None = None) -> None:
    """Publish these, take them, and park them."""
    await desk.publish(*wanted)
    for lease in await desk.next(len(wanted)):
        await desk.settle(lease, Settlement(then=Park(lane, expires)))
