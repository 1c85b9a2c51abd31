"""The queues' figures as one stream, for the AMQP monitor: depths, unacked, consumers, rates; of either queue.

Owner of: what is counted while somebody looks: the messages in, out and settled in the last SPAN seconds, and TREND
depths of each queue that is shown. Bound: ROWS queues. Asks once in PERIOD seconds, however many look, and not at all
while nobody does. While the broker is away each answer says so, and why.

On RabbitMQ depths and consumers are asked over AMQP (passive declares), which any account may; what the others do -
unacked messages, rates - only the management API knows. Without it these are what this instance itself has seen.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec
import reactivex as rx
import structlog
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from operators.deliveries.events import Event, Received, Settled, Taken
from operators.deliveries.outcome import Next
from pipeline.process.supervisor import spawn
from pipeline.queues.contract import QueueFigures, QueueUnavailable
from pipeline.queues.rabbitmq.amqp.management import Management, Said, Totals
from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue
from settings.config.values import masked

log = structlog.get_logger("queues")

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

ANSWER = 5.0  # seconds for a look
PERIOD = 1.0  # seconds
SPAN = 10  # seconds that rates are taken over
TREND = 60  # depths kept of each queue
ROWS = 100  # queues


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, or all of its kind. None is what nobody says.

    Attributes:
        into, out, ack: messages put into it, lent, and settled, a second.
        trend: its depths, once a second.
    """

    name: str
    ready: int
    unacked: int | None = None
    consumers: int | None = None
    into: float | None = None
    out: float | None = None
    ack: float | None = None
    trend: tuple[int, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the queues hold now.

    Attributes:
        connected: the queue answers.
        where: its address, without the password; where it does not answer, why.
        source: embedded; management, for all clients; amqp, where rates are those of this instance.
        note: why there is nothing of the management API.
        waiting, in_memory, parked: messages that wait for their time, are lent to this instance, are parked.
        rows: the outbox, what waits, the others, the parked ones; at most ROWS.
        total: how many there are.
        temporary: queues that vanish when they are empty.
        received: messages put into the outbox, a second.
        processed: messages that this instance was lent of it, a second.
    """

    connected: bool
    where: str
    source: str = "embedded"
    note: str = ""
    waiting: int = 0
    in_memory: int = 0
    parked: int = 0
    rows: tuple[QueueRow, ...] = ()
    total: int = 0
    temporary: int = 0
    received: float = 0.0
    processed: float = 0.0


class QueueMonitor:
    """Watches the queue of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._queue, self._outbox = machine, machine.queue, machine.settings.rabbitmq_outbox
        self.stream: Observable[Seen] = rx.create(self._watch).pipe(ops.share())

    def _watch(
        self, observer: abc.ObserverBase[Seen], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        task = spawn(self._run(observer), "queue-monitor", grave=False)

        def end() -> None:
            task.cancel()

        return Disposable(end)

    async def _run(self, observer: abc.ObserverBase[Seen]) -> None:
        settings, flow, rates, trends = self._machine.settings, Flow(), Rates(), Trends()
        counting = self._machine.events.subscribe(flow.count)
        own = settings.rabbitmq_management
        management = Management(own.get_secret_value() if own is not None else None, settings.rabbitmq_verify)
        try:
            async with management:
                while True:
                    observer.on_next(trends.of(await self._look(flow, rates, management)))
                    await asyncio.sleep(PERIOD)
        finally:
            counting.dispose()

    async def _look(self, flow: Flow, rates: Rates, management: Management) -> Seen:
        try:
            if isinstance(self._queue, RabbitQueue):
                async with asyncio.timeout(ANSWER):
                    return await self._look_at(self._queue, flow, rates, management)
            figures = await self._queue.figures()
        except QueueUnavailable as error:
            return self._away(str(error))
        except TimeoutError:
            return self._away(f"RabbitMQ is away: no answer in {ANSWER:.0f} seconds")
        except Exception:  # or the stream would end, for all who look
            log.exception("the queues could not be looked at")
            return self._away("the queues cannot be looked at: the program's log says why")
        rows = [*self._outbox_rows(figures, flow), *self._others(figures.other), *self._parked(figures)]
        return Seen(
            connected=True,
            where="the embedded queue",
            waiting=figures.waiting,
            in_memory=figures.unsettled,
            parked=sum(figures.parked.values()),
            rows=tuple(rows[:ROWS]),
            total=len(rows),
            temporary=len(figures.parked),
            received=flow.rate("into"),
            processed=flow.rate("out"),
        )

    def _away(self, why: str) -> Seen:
        """What is in memory ends all the same, and its results wait there."""
        in_memory = len(self._queue.loans) if isinstance(self._queue, RabbitQueue) else 0
        parked = sum(self._queue.parked().values())
        return Seen(connected=False, where=why, source="", in_memory=in_memory, parked=parked)

    # -- the embedded queue -----------------------------------------------------------------------------------------

    def _outbox_rows(self, figures: QueueFigures, flow: Flow) -> Iterator[QueueRow]:
        yield QueueRow(
            name=self._outbox,
            ready=figures.ready,
            unacked=figures.unsettled,
            consumers=1,
            into=flow.rate("into"),
            out=flow.rate("out"),
            ack=flow.rate("ack"),
        )
        yield QueueRow(name=f"{self._outbox}, waiting for a time", ready=figures.waiting, unacked=0, consumers=0)

    def _others(self, other: Mapping[str, int]) -> Iterator[QueueRow]:
        for name, count in sorted(other.items()):
            yield QueueRow(name=name, ready=count, unacked=0, consumers=0)

    def _parked(self, figures: QueueFigures) -> Iterator[QueueRow]:
        for lane, count in sorted(figures.parked.items(), key=lambda pair: -pair[1]):
            yield QueueRow(name=f"{self._outbox}.parked.{lane}", ready=count)

    # -- RabbitMQ -----------------------------------------------------------------------------------------------------

    async def _look_at(self, queue: RabbitQueue, flow: Flow, rates: Rates, management: Management) -> Seen:
        depths, address, parked = await queue.views.depths(), self._address(queue), dict(queue.parked())
        said = await management.queues(address, self._outbox, depths)
        lent = queue.lending.lent + queue.lending.fresh
        rows = list(_rabbit_rows(queue, depths, parked, rates.of(said or {})))
        rows += [QueueRow(name=f"{name}, held here", ready=n) for name, n in (await queue.held.counts()).items()]
        if said is None:
            ready = depths.get(self._outbox, (0, 0))[0]
            flow.level(ready + queue.lending.fresh)
            own = {"unacked": lent, "into": flow.risen(), "out": flow.rate("out"), "ack": flow.rate("ack")}
            rows = [msgspec.structs.replace(row, **own) if row.name == self._outbox else row for row in rows]
        received = next((row.into for row in rows if row.name == self._outbox), None)
        delays = sum(map(queue.names.delays, {*depths, *(said or ())}))
        return Seen(
            connected=True,
            where=masked(address),
            source="amqp" if said is None else "management",
            note=management.why,
            waiting=sum(ready for name, (ready, _) in depths.items() if queue.names.delays(name)),
            in_memory=queue.lending.lent,
            parked=sum(parked.values()),
            rows=tuple(rows[:ROWS]),
            total=len(rows),
            temporary=delays + queue.parked_queues.queues,
            received=received or 0.0,
            processed=flow.rate("out"),
        )

    def _address(self, queue: RabbitQueue) -> str:
        """The address in use, with its password: for asking, never to show."""
        link = queue.broker.link
        if link is None:
            raise QueueUnavailable(f"RabbitMQ is away: {queue.broker.why}")
        given = self._machine.settings.rabbitmq_address
        assert given is not None
        return next(one for one in given.get_secret_value().split(",") if masked(one) == link.address)


def _rabbit_rows(
    queue: RabbitQueue, depths: Mapping[str, tuple[int, int]], parked: Mapping[str, int], said: Mapping[str, Rated]
) -> Iterator[QueueRow]:
    """The outbox, what waits in all its steps, the others, the parked ones."""
    names = queue.names
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


class Flow:
    """What this instance puts into the outbox, is lent of it and settles, by the second; and how its depth changes."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._begun = clock, clock()
        self._seconds: dict[str, dict[int, int]] = {"into": {}, "out": {}, "ack": {}}
        self._levels: collections.deque[tuple[float, int]] = collections.deque(maxlen=SPAN + 1)

    def count(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Received):
            self._add("into", event.time)
        elif isinstance(event, Settled):
            self._add("ack", event.time)
            if event.outcome.next in (Next.RETRY, Next.POSTPONE):
                self._add("into", event.time)
        elif isinstance(event, Taken) and event.delivery.lease.recalled is None:
            self._add("out", event.time)

    def _add(self, name: str, when: float) -> None:
        seconds, second = self._seconds[name], int(when)
        if second not in seconds:
            for old in [old for old in seconds if not second - SPAN <= old <= second]:
                del seconds[old]
        seconds[second] = seconds.get(second, 0) + 1

    def rate(self, name: str) -> float:
        """A second, over the last SPAN."""
        now = self._clock()
        counted = sum(count for second, count in self._seconds[name].items() if now - SPAN <= second + 1)
        return round(counted / min(SPAN, max(1.0, now - self._begun)), 1)

    def level(self, depth: int) -> None:
        """So many are in the outbox now."""
        self._levels.append((self._clock(), depth))

    def risen(self) -> float:
        """Messages put into the outbox a second, by whomever: what it has grown by, and what was lent of it."""
        (first, before), (last, now) = self._levels[0], self._levels[-1]
        growth = (now - before) / (last - first) if last > first else 0.0
        return round(max(0.0, growth + self.rate("out")), 1)


class Trends:
    """The depths of the queues that are shown."""

    def __init__(self) -> None:
        self._depths: dict[str, collections.deque[int]] = {}

    def of(self, seen: Seen) -> Seen:
        """The same, with the trends."""
        known, self._depths = self._depths, {}
        rows = []
        for row in seen.rows:
            depth = row.ready + (row.unacked or 0)
            trend = self._depths[row.name] = known.get(row.name) or collections.deque([depth], maxlen=TREND)
            trend.append(depth)
            rows.append(msgspec.structs.replace(row, trend=tuple(trend)))
        return msgspec.structs.replace(seen, rows=tuple(rows))
