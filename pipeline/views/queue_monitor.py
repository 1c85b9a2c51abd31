"""The queues' figures as one stream, for the AMQP monitor: depths, unacked, consumers, rates; of either queue.

Owner of: what is counted while somebody looks: the messages in, out and settled in the last SPAN seconds, and TREND
depths of each queue that is shown. Bound: ROWS queues. Asks once in PERIOD seconds, however many look, and not at all
while nobody does. While the broker is away each answer says so, and why.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable
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
from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.survey import AskSurvey, QueueRow, Survey

log = structlog.get_logger("queues")

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

PERIOD = 1.0  # seconds
SPAN = 10  # seconds that rates are taken over
TREND = 60  # depths kept of each queue
ROWS = 100  # queues


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
        flow, trends = Flow(), Trends()
        counting = self._machine.events.subscribe(flow.count)
        try:
            async with self._queue.surveys() as ask:
                while True:
                    observer.on_next(trends.of(await self._look(flow, ask)))
                    await asyncio.sleep(PERIOD)
        finally:
            counting.dispose()

    async def _look(self, flow: Flow, ask: AskSurvey) -> Seen:
        try:
            survey = await ask()
        except QueueUnavailable as error:
            return self._away(str(error))
        except Exception:  # or the stream would end, for all who look
            log.exception("the queues could not be looked at")
            return self._away("the queues cannot be looked at: the program's log says why")
        rows = [self._counted(row, survey, flow) for row in survey.rows]
        return Seen(
            connected=True,
            where=survey.where,
            source=survey.source,
            note=survey.note,
            waiting=survey.waiting,
            in_memory=self._queue.lent,
            parked=sum(self._queue.parked().values()),
            rows=tuple(rows[:ROWS]),
            total=len(rows),
            temporary=survey.temporary,
            received=next((row.into for row in rows if row.name == self._outbox), None) or 0.0,
            processed=flow.rate("out"),
        )

    def _counted(self, row: QueueRow, survey: Survey, flow: Flow) -> QueueRow:
        """The outbox with the rates that this instance has seen, where the queue does not say those of all clients."""
        if row.name != self._outbox or survey.rated:
            return row
        if survey.shared:
            flow.level(survey.outbox)
        into = flow.risen() if survey.shared else flow.rate("into")
        return msgspec.structs.replace(row, into=into, out=flow.rate("out"), ack=flow.rate("ack"))

    def _away(self, why: str) -> Seen:
        """What is in memory ends all the same, and its results wait there."""
        parked = sum(self._queue.parked().values())
        return Seen(connected=False, where=why, source="", in_memory=self._queue.lent, parked=parked)


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
