"""The figures of the queues on RabbitMQ.

Depths and consumers are asked over AMQP (passive declares), which any account may; what other clients do - unacked
messages, rates - only the management API knows. Owner of: its connections and the totals of the last SPAN seconds,
while people look.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import msgspec

from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.rabbitmq.amqp.broker import Broker
from pipeline.queues.rabbitmq.amqp.management import Management, Said, Totals
from pipeline.queues.rabbitmq.held import HeldResults
from pipeline.queues.rabbitmq.lending import BrokerLending
from pipeline.queues.rabbitmq.names import QueueNames
from pipeline.queues.rabbitmq.parked import ParkedQueues
from pipeline.queues.survey import AskSurvey, QueueRow, Survey
from settings import Settings
from settings.config.values import masked

ANSWER = 5.0  # seconds for a look
SPAN = 10  # seconds that rates are taken over

Depths = Callable[[], Awaitable[Mapping[str, tuple[int, int]]]]


class BrokerSurveys:
    """Looks at the queues.

    Args:
        settings: the keys `rabbitmq-*`.
        names, broker, parked, lending, held: the queue's parts.
        depths: (messages that are ready, consumers) by queue, as AMQP says it.
    """

    def __init__(
        self,
        settings: Settings,
        names: QueueNames,
        broker: Broker,
        parked: ParkedQueues,
        lending: BrokerLending,
        held: HeldResults,
        depths: Depths,
    ) -> None:
        self._settings, self._names, self._broker, self._depths = settings, names, broker, depths
        self._parked, self._lending, self._held = parked, lending, held

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[AskSurvey]:
        """While people look; each call is a look."""
        own, rates = self._settings.rabbitmq_management, Rates()
        address = own.get_secret_value() if own is not None else None
        async with Management(address, self._settings.rabbitmq_verify) as management:

            async def ask() -> Survey:
                try:
                    async with asyncio.timeout(ANSWER):
                        return await self._look(management, rates)
                except TimeoutError:
                    raise QueueUnavailable(f"RabbitMQ is away: no answer in {ANSWER:.0f} seconds") from None

            yield ask

    async def _look(self, management: Management, rates: Rates) -> Survey:
        depths, address, names = await self._depths(), self._address(), self._names
        said = await management.queues(address, names.outbox, depths)
        rows = list(_rows(names, depths, self._parked.counts, rates.of(said or {})))
        rows += [QueueRow(name=f"{name}, held here", ready=n) for name, n in (await self._held.counts()).items()]
        lent = self._lending.lent + self._lending.fresh
        if said is None:
            rows = [msgspec.structs.replace(row, unacked=lent) if row.name == names.outbox else row for row in rows]
        return Survey(
            where=masked(address),
            source="amqp" if said is None else "management",
            note=management.why,
            waiting=sum(ready for name, (ready, _) in depths.items() if names.delays(name)),
            rows=tuple(rows),
            temporary=sum(map(names.delays, {*depths, *(said or ())})) + self._parked.queues,
            outbox=depths.get(names.outbox, (0, 0))[0] + self._lending.fresh,
            rated=said is not None,
            shared=True,
        )

    def _address(self) -> str:
        """The address in use, with its password: for asking, never to show."""
        link = self._broker.link
        if link is None:
            raise QueueUnavailable(f"RabbitMQ is away: {self._broker.why}")
        given = self._settings.rabbitmq_address
        assert given is not None
        return next(one for one in given.get_secret_value().split(",") if masked(one) == link.address)


def _rows(
    names: QueueNames, depths: Mapping[str, tuple[int, int]], parked: Mapping[str, int], said: Mapping[str, Rated]
) -> Iterator[QueueRow]:
    """The outbox, what waits in all its steps, the others, the parked ones."""
    delays = [name for name in {**depths, **said} if names.delays(name)]
    lanes = {names.parked(lane): lane for lane in parked}
    yield _row(names.outbox, names.outbox, depths, said)
    waiting = [_row(name, name, depths, said) for name in delays]
    yield QueueRow(
        name=f"{names.outbox}, waiting for a time",
        ready=sum(row.ready for row in waiting),
        into=sum(row.into or 0.0 for row in waiting) if said else None,
    )
    for name in sorted(depths):
        if name != names.outbox and not names.temporary(name):
            yield _row(name, name, depths, said)
    counts = {name: (parked[lane], 0) for name, lane in lanes.items()}
    found = [name for name in said if names.temporary(name) and not names.delays(name)]
    for name in sorted({**counts, **dict.fromkeys(found)}, key=lambda name: -counts.get(name, (0, 0))[0]):
        shown = f"{names.outbox}.parked.{lanes[name]}" if name in lanes else name
        yield _row(shown, name, counts, said)


def _row(shown: str, name: str, depths: Mapping[str, tuple[int, int]], said: Mapping[str, Rated]) -> QueueRow:
    """AMQP's counts are of this moment; the API's are up to five seconds old."""
    if (rated := said.get(name)) is None:
        ready, consumers = depths.get(name, (0, 0))
        return QueueRow(name=shown, ready=ready, consumers=consumers)
    more = rated.said
    ready, consumers = depths.get(name, (more.messages_ready, more.consumers))
    return QueueRow(
        name=shown,
        ready=ready,
        unacked=more.messages_unacknowledged,
        consumers=consumers,
        into=rated.into,
        out=rated.out,
        ack=rated.ack,
    )


class Rated(msgspec.Struct, frozen=True):
    """What the API says of a queue, with messages a second since SPAN ago; None at first."""

    said: Said
    into: float | None = None
    out: float | None = None
    ack: float | None = None


class Rates:
    """The totals of the last SPAN seconds, by queue."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._past: collections.deque[tuple[float, Mapping[str, Said]]] = collections.deque(maxlen=SPAN + 1)

    def of(self, said: Mapping[str, Said]) -> dict[str, Rated]:
        """The same, with their rates."""
        if not said:
            self._past.clear()
            return {}
        self._past.append((self._clock(), said))
        first, before = self._past[0]
        took = self._past[-1][0] - first
        return {name: self._rated(one, before.get(name), took) for name, one in said.items()}

    @staticmethod
    def _rated(one: Said, before: Said | None, took: float) -> Rated:
        if not took:
            return Rated(one)
        now, then = one.message_stats, before.message_stats if before else Totals()
        pairs = ((now.publish, then.publish), (now.deliver_get, then.deliver_get), (now.ack, then.ack))
        return Rated(one, *(round(max(0, new - old) / took, 1) for new, old in pairs))
