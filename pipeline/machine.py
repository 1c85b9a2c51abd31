"""The machine: assembles the running mail transfer agent, and starts and stops its parts in order.

Owner of: the one event stream, and every part's life. Bound: the queue's credit (`rabbitmq-qos`).
When a part fails to start, those started before are stopped, and the error says in one line what is wrong.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable

import reactivex as rx
import structlog
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject

from operators.assign import assign
from operators.conclude import conclude
from operators.decode import decode
from operators.deliver import deliver
from operators.delivery import Delivery
from operators.events import Assigned, Event, Fault, Parked, Received, Settled, Taken
from operators.expire import expire
from operators.lanes import Lane, Lanes
from operators.limits import Limits
from operators.resolve import Resolving, resolve
from operators.settle import settle
from operators.slots import Slots
from operators.tap import tap
from pipeline.dns import Resolver
from pipeline.host import MtaIps, Names
from pipeline.intake.smtp import SmtpIntake
from pipeline.log import DeliveryLog
from pipeline.queues import open_queue, result_queues
from pipeline.smtp import Transport
from pipeline.telemetry import Telemetry
from settings import Settings

log = structlog.get_logger("mailrace")


class Machine:
    """The running mail transfer agent.

    Attributes:
        settings: the configuration in force.
        events: the one event stream; subscribe, never push.
        queue, log, telemetry, slots, lanes, resolver, transport, intake: its parts.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.scheduler = AsyncIOScheduler(self.loop)
        self._events: Subject[Event] = Subject()
        self.ips = MtaIps(settings)
        self.names = Names(settings.server_id or socket.gethostname())
        self.slots = Slots(settings.max_connections)
        self.telemetry = Telemetry(self.events, self.slots, self.scheduler)
        self.queue = open_queue(settings)
        self.log = DeliveryLog(settings, self.report)
        self.resolver = Resolver(settings, self.ips.all)
        self.resolving = Resolving(self.resolver.lookup, lambda: max(1, self.queue.free // 2))
        self.transport = Transport(self.slots, settings, self.names.ehlo, self.report)
        self.lanes = self._lanes()
        self.intake = SmtpIntake(settings, self.queue.publish, self.report, self.ips.mappable)
        self._running: list[DisposableBase] = []
        self._underway = 0

    @property
    def events(self) -> Observable[Event]:
        """Everything that happens, as it happens."""
        return self._events

    def report(self, event: Event) -> None:
        """Tell the event stream."""
        self._events.on_next(event)

    # -- the chain ----------------------------------------------------------------------------------------------

    def _chain(self) -> Observable[Delivery]:
        """A message's way, a stage a line."""
        s, failed = self.settings, self._failed
        return self.queue.consume(s.rabbitmq_qos).pipe(
            decode(s.smtp_maxsize * 2, time.monotonic),
            tap("taken", self._taken, failed),
            expire(s.max_delivertime, time.time, failed),
            resolve(self.resolving, failed),
            assign(self.ips.allowed, self.lanes.outlook, failed),
            tap("assigned", self._assigned, failed, ended=False),
            self.lanes.throttle(failed),
            deliver(self.transport.deliver, failed),
            conclude(s.max_delivertime, s.retry_interval, s.max_attempts, time.time, random.random, failed),
            self.log.record(failed),
            settle(self.queue.settle, result_queues(s), s.max_delivertime, time.time, self.scheduler, failed),
            tap("settled", self._settled, failed),
            tap("freed", self.lanes.settled, failed),
        )

    def _lanes(self) -> Lanes:
        return Lanes(
            slots=self.slots,
            limits=self._limits,
            free=lambda: self.queue.free,
            recall=self.queue.recall,
            parked=self.queue.parked,
            scheduler=self.scheduler,
            clock=time.monotonic,
            blocked=self.resolving.waits,
        )

    def _limits(self, lane: Lane) -> Limits:
        return self._defaults

    def _taken(self, delivery: Delivery) -> None:
        self._underway += 1
        self.report(Taken(time=time.time(), delivery=delivery))

    def _assigned(self, delivery: Delivery) -> None:
        self.report(Assigned(time=time.time(), delivery=delivery))

    def _settled(self, delivery: Delivery) -> None:
        self._underway -= 1
        outcome = delivery.outcome
        assert outcome is not None
        self.report(Settled(time=time.time(), delivery=delivery, outcome=outcome, retry_at=outcome.until))

    def _failed(self, stage: str, delivery: Delivery, error: Exception) -> None:
        """An operator's exception ends one delivery's attempt; it is logged with its traceback."""
        log.error("operator failed", stage=stage, message_id=delivery.message.message_id, exc_info=error)
        self.report(Fault(time=time.time(), where=stage, detail=f"{type(error).__name__}: {error}"[:500]))

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, the queue first and intake last.

        Raises:
            StartError: a part cannot start; what had started is stopped.
        """
        self._defaults = default_limits(self.settings)
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        self.log.start()
        await self.queue.start()
        await self.names.learn(self.ips.default)
        for lane, count in self.queue.parked().items():
            self.report(Parked(time=time.time(), lane=lane, count=count))
        self._listen(self._events.pipe(ops.filter(lambda event: isinstance(event, Received))), self.log.received)
        self._listen(rx.interval(1.0), lambda _: self.lanes.sweep())
        self.transport.start()
        self._running.append(self._chain().subscribe(on_error=self._broken, scheduler=self.scheduler))
        await self.intake.start()

    def _listen(self, source: Observable[object], act: Callable[..., None]) -> None:
        self._running.append(source.subscribe(act, scheduler=self.scheduler))

    def _broken(self, error: Exception) -> None:
        """The chain itself ended, which no message can make it do: only a fault of ours. Said loudly."""
        log.critical("the chain has ended", exc_info=error)
        self.report(Fault(time=time.time(), where="chain", detail=str(error)))

    async def stop(self) -> None:
        """Stop taking messages, let what is in flight finish within `shutdown-timeout`, return the rest."""
        await self.intake.close()
        self.queue.pause()
        self.lanes.close()
        deadline = self.loop.time() + self.settings.shutdown_timeout
        while self._underway and self.loop.time() < deadline:
            await asyncio.sleep(0.05)
        await self.transport.close()
        for part in self._running:
            part.dispose()
        await self.queue.close()
        await self.resolver.close()
        self.log.close()

    def reopen_logs(self) -> None:
        """SIGHUP: the log files may have been moved away."""
        self.log.reopen()


def default_limits(settings: Settings) -> Limits:
    """The limits that the configuration gives, where no rule says otherwise."""
    return Limits(
        domain_messages=settings.domain_maxmessages,
        domain_connects=settings.domain_maxconnects,
        domain_connections=settings.domain_maxconnections,
        ip_messages=settings.ip_maxmessages,
        ip_connects=settings.ip_maxconnects,
        ip_connections=settings.ip_maxconnections,
        connection_messages=settings.connection_maxmessages,
        connection_idle=settings.connection_maxidle,
        connection_security=settings.connection_secure,
        queue=settings.domain_maxqueue,
    )
