"""Withdrawing: what waits for a time, in a lane's parked queue or for its turn ends when a forced error is made for it.

Runs beside the chain, and decides by its stages (decode, expire, force), message by message; what it saves is their
turn, and a transaction each: hundreds of messages end in one. Each has its result, its line in the log and its
notification, as in the chain. What the rule is not certain for before the route is known is put back, and so is what
is no message. What the queue has lent to the chain ends there.

Owner of: the withdrawals, one under way at a time, the last KEPT remembered. Bounds: a part of the queue in memory at
once, see `Queue.withdraw`; SLICE messages in one turn of the event loop. What fails: a queue that does not answer is
asked again each AGAIN seconds; after a kill it begins anew at the next start, for each forced error that is in force.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
from reactivex import Observable
from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Event, Settled, Taken
from operators.deliveries.outcome import Next, Outcome
from pipeline.machine.custom_operators import Custom
from pipeline.process.supervisor import spawn
from pipeline.queues.contract import QueueUnavailable, Withdrawable, confirmed, parts
from pipeline.queues.listing import Sought
from settings.rules import ForcedError, Snapshot

EARLY = ("decode", "expire")  # stages before it is known whether a message is stopped
KEPT = 100
SLICE = 50
AGAIN = 1.0  # seconds
FINAL = (Next.FAIL, Next.DELIVERED)
Publish = list[tuple[str, bytes]]
End = tuple[Delivery, Outcome]
Stages = Callable[[Observable[Lease]], Observable[Delivery]]


class Withdrawal(msgspec.Struct, kw_only=True):
    """A forced error on its way through the queue: messages looked at, of how many, and ended. Times: epoch seconds."""

    rule: int
    looked: int = 0
    total: int = 0
    ended: int = 0
    begun: float = 0.0
    over: float | None = None
    error: str = ""


class Withdrawing:
    """Ends what waits already, for each forced error that is new.

    Args:
        queue: takes messages out.
        stages: decode what is lent, and decide; what they do not end is put back.
        owed: the messages that an end owes to other queues.
        note: writes the end to the delivery log.
        room: waits until the log has room.
        report: told of events.
        clock: epoch seconds.
    """

    def __init__(
        self,
        queue: Withdrawable,
        stages: Stages,
        owed: Callable[[Delivery], Iterable[tuple[str, bytes]]],
        note: Callable[[Delivery, Outcome, float], None],
        room: Callable[[], Any],
        report: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._queue, self._owed, self._note, self._room = queue, owed, note, room
        self._report, self._clock = report, clock
        self._leases: Subject[Lease] = Subject()
        self._decided: list[Delivery] = []
        stages(self._leases).subscribe(self._decided.append, _raised)
        self._rules: collections.deque[ForcedError] = collections.deque()
        self._seen: set[str] = set()
        self._known: collections.deque[Withdrawal] = collections.deque(maxlen=KEPT)
        self._task: asyncio.Task[None] | None = None

    @property
    def all(self) -> list[Withdrawal]:
        """The withdrawals, newest first."""
        return list(reversed(self._known))

    def changed(self, snapshot: Snapshot) -> None:
        """The rules have changed."""
        errors: Iterable[Any] = snapshot.rules("errors")
        now = {rule.model_dump_json(): rule for rule in errors}
        self._rules += [rule for key, rule in now.items() if key not in self._seen and self._wanted(rule)]
        self._seen = set(now)
        if self._rules and (self._task is None or self._task.done()):
            self._task = spawn(self._work(), "withdrawing")

    async def finished(self) -> None:
        """Wait until none is under way."""
        if self._task is not None:
            await self._task

    def close(self) -> None:
        """Withdraw no more; what is not ended is in the queue."""
        if self._task is not None:
            self._task.cancel()

    def _wanted(self, rule: Any) -> bool:
        return isinstance(rule, ForcedError) and withdraws(rule) and not rule.ended(self._clock())

    async def _work(self) -> None:
        while self._rules:
            rule = self._rules.popleft()
            found = Withdrawal(rule=rule.id, begun=self._clock())
            self._known.append(found)
            await self._withdraw(rule, found)
            found.over = self._clock()

    async def _withdraw(self, rule: ForcedError, found: Withdrawal) -> None:
        sought = Sought(tag=rule.tag or "", domains=(rule.domain,) if rule.domain else ())
        while True:
            try:
                found.looked, found.total = 0, await self._queue.size()
                async with contextlib.aclosing(self._queue.withdraw(sought)) as withdrawn:
                    async for part in withdrawn:
                        await self._part(part.leases, found)
                        found.looked += part.looked
                return
            except QueueUnavailable as error:
                found.error = str(error)
                await asyncio.sleep(AGAIN)

    async def _part(self, leases: list[Lease], found: Withdrawal) -> None:
        """While a group is ended, the next one is decided. Whatever fails, what is not ended is in the queue again."""
        ending: asyncio.Task[None] | None = None
        try:
            for group in parts(leases):
                await self._room()
                ends, publish = await self._decided_of(group)
                if ending is not None:
                    await ending
                ending = spawn(self._finish(ends, publish, found), "withdrawing") if ends else None
        finally:
            if ending is not None:
                await ending
            self._queue.put_back(leases)

    async def _decided_of(self, leases: Sequence[Lease]) -> tuple[list[End], Publish]:
        ends: list[End] = []
        publish: Publish = []
        for some in parts(leases, SLICE):
            for delivery, outcome in self._decide(some):
                publish += self._owed(delivery)
                self._note(delivery, outcome, self._clock())
                ends.append((delivery, outcome))
            await asyncio.sleep(0)
        return ends, publish

    async def _finish(self, ends: list[End], publish: Publish, found: Withdrawal) -> None:
        await self._end([delivery.lease for delivery, _ in ends], publish, found)
        for some in parts(ends, SLICE):
            self._tell(some)
            await asyncio.sleep(0)
        found.ended += len(ends)

    def _decide(self, leases: Sequence[Lease]) -> Iterator[End]:
        for lease in leases:
            self._leases.on_next(lease)
        decided, self._decided[:] = self._decided[:], []
        for delivery in decided:
            if (outcome := delivery.outcome) is not None and outcome.next in FINAL:
                yield delivery, outcome

    async def _end(self, leases: Sequence[Lease], publish: Publish, found: Withdrawal) -> None:
        while True:
            try:
                await confirmed(partial(self._queue.end, leases, publish))
            except Exception as error:  # whatever it is, they are still withdrawn
                found.error = str(error)
                await asyncio.sleep(AGAIN)
            else:
                found.error = ""
                return

    def _tell(self, ends: Sequence[End]) -> None:
        now = self._clock()
        for delivery, outcome in ends:
            self._report(Taken(time=now, delivery=delivery))
            self._report(Settled(time=now, delivery=delivery, outcome=outcome))


def can_withdraw(customs: Iterable[Custom]) -> bool:
    """Not where a custom operator sees messages before it is known which are stopped: only the chain asks it."""
    return not any(custom.stage in EARLY for custom in customs)


def together(reports: Iterable[Any]) -> list[Withdrawal]:
    """Those of several workers, added up by their rule; each knows the last time that it was made."""
    found: dict[int, Withdrawal] = {}
    for report in reports:
        latest = {one.rule: one for one in reversed(msgspec.convert(report, list[Withdrawal]))}
        for one in latest.values():
            found[one.rule] = one if one.rule not in found else _sum(found[one.rule], one)
    return sorted(found.values(), key=lambda one: -one.begun)


def _sum(one: Withdrawal, other: Withdrawal) -> Withdrawal:
    return Withdrawal(
        rule=one.rule,
        looked=one.looked + other.looked,
        total=one.total + other.total,
        ended=one.ended + other.ended,
        begun=min(one.begun, other.begun),
        over=None if one.over is None or other.over is None else max(one.over, other.over),
        error=one.error or other.error,
    )


def _raised(error: Exception) -> None:
    """Only what is pushed here flows here: it fails who pushes."""
    raise error


def withdraws(rule: ForcedError) -> bool:
    """Whether a rule's messages are known before their route is, and end for good."""
    return not (rule.ip or rule.pool or rule.remote_ip) and rule.code // 100 != 4
