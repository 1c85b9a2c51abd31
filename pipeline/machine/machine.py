"""The machine: assembles the running mail transfer agent, and starts and stops its parts in order.

Owner of: the one event stream, and every part's life. Bound: the queue's credit (`rabbitmq-qos`).
When a part fails to start, those started before are stopped, and the error says in one line what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import reactivex as rx
import structlog
from reactivex import Observable
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler

from operators.deliveries.events import (
    Event,
    Fault,
    Notice,
    Parked,
    Received,
    Unparked,
)
from operators.deliveries.routes import address
from operators.lanes.floods import Active, Floods, at_once
from operators.lanes.lanes import Lanes
from operators.lanes.leases import Leases
from operators.lanes.pools import Pools
from operators.lanes.slots import Slots
from operators.lanes.unreached import UnreachedLanes
from operators.lanes.warming import Warming
from operators.stages.resolve import Resolving
from pipeline.cluster.cluster import Cluster
from pipeline.log.writing.delivery_log import LogUnavailable
from pipeline.machine.announcing import announcement
from pipeline.machine.chain import Chain
from pipeline.machine.custom_operators import load as load_customs
from pipeline.machine.effects import RuleEffects
from pipeline.machine.health import Health
from pipeline.machine.host import Here, HostNames, MtaIps
from pipeline.machine.lane_rules import LaneRules
from pipeline.machine.parts import open_log, open_resolver, open_rules, open_texts, relay_of
from pipeline.machine.warmup_book import FILE as WARMUPS
from pipeline.machine.warmup_book import WarmupFile
from pipeline.machine.withdrawing import Withdrawal, Withdrawing
from pipeline.process import descent
from pipeline.process.supervisor import Fanout, supervisor
from pipeline.queues import open_queue
from pipeline.queues.contract import Queue, QueueFigures, QueueUnavailable
from pipeline.signing.keys import Signing
from pipeline.signing.pool import Signers
from pipeline.smtp.client import Transport
from pipeline.smtp.client.egress import Egress
from pipeline.smtp.server.server import PortShare, SmtpIntake
from pipeline.smtp.watch import DialogueWatch
from pipeline.sources.gathering import Gathering
from pipeline.spool.spool import Spool
from pipeline.telemetry.telemetry import Telemetry
from settings import Settings, StartError
from settings.rules import Snapshot
from settings.store import RulesUnavailable

LOOK = 5  # seconds between two looks at the addresses of this machine
CHANCE = random.SystemRandom()

log = structlog.get_logger("mailrace")


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as it is shown. `since`: epoch seconds; `load`: of one core, in a hundred; `memory`: bytes."""

    number: int
    pid: int
    since: float
    load: float
    memory: int
    in_memory: int
    sessions: int


class Seat(msgspec.Struct, frozen=True):
    """Where a machine is one of several workers.

    Attributes:
        leases: its part of the limits.
        file: its queue.
        home: `data-dir` of the instance.
        token: of the instance in its cluster.
        count: of the workers: each has its part of a tag's rate.
        flooded: told of each flood that begins here.
        changed: told of each change of the rules by what happens here.
        ports: of its intake.
    """

    leases: Leases
    file: Path
    home: Path
    token: str
    count: int
    flooded: Callable[[Active], None]
    changed: Callable[[], None]
    ports: PortShare


class Machine:
    """The running mail transfer agent.

    Attributes:
        settings: the configuration in force.
        events: the one event stream; subscribe, never push.
        chain: what every message goes through.
        queue, log, telemetry, slots, lanes, resolver, signing, signers, transport, intake,
            pools: its parts.
    """

    def __init__(self, settings: Settings, seat: Seat | None = None) -> None:
        self.settings, self.seat = settings, seat
        self.loop = asyncio.get_running_loop()
        self.scheduler = AsyncIOScheduler(self.loop)
        self.supervisor = supervisor(self.loop)
        self.supervisor.report = self.report
        self._events: Fanout[Event] = Fanout(self.supervisor)
        self._life = contextlib.AsyncExitStack()  # how what has started ends
        self.here = Here()
        self.depth = QueueFigures()  # of the queue, a second old at most
        self._measuring: asyncio.Task[None] | None = None
        self.chain = Chain(self)
        self.lane_rules = LaneRules(self)
        self.customs = load_customs(settings.operators)
        self.ips = MtaIps(settings)
        self.names = HostNames(_host_name(settings))
        self.rules = open_rules(settings, self.warned, seat.home if seat is not None else None)
        self.log = open_log(settings, self._logged)
        self.texts = open_texts(settings, self._logged, self.supervisor.spawn)
        self.effects = RuleEffects(self.rules, self.warned)
        self.queue = self._open_queue()
        self.intake = SmtpIntake(
            settings,
            self.queue,
            self.report,
            is_local=lambda to: self.rules.snapshot.is_local(to),
            ports=seat.ports if seat is not None else None,
        )
        self.resolver = open_resolver(
            settings, lambda name: self.rules.snapshot.dns_override(name), self.here, self.ips.ipv6
        )
        self.resolving = Resolving(self.resolver, lambda: max(1, self.queue.free // 2))
        self.signing = Signing(
            self.snapshot, self.resolver.ask, self.scheduler, check_dns=settings.dkim_check_dns, report=self.report
        )
        self.signers = Signers(self.report)
        self.spool = Spool(settings, self.queue, self.report, self.warned)
        self.gathering = Gathering(settings, self.supervisor.spawn, time.time, time.monotonic, self.warned)
        self.slots = Slots(settings.max_connections, seat.leases if seat is not None else None)
        self.relay = relay_of(settings)
        self.egress = Egress(settings.external_mtas, time.monotonic, self.warned)
        self.unreached = UnreachedLanes(time.monotonic)
        self.transport = Transport(
            self.slots,
            settings,
            self._ehlo_name,
            self.report,
            self.chain.failed,
            relay=self.relay,
            egress=self.egress,
            unreached=self.unreached,
            elsewhere=self.chain.elsewhere,
        )
        self.floods = Floods(time.monotonic, self._flooded, (lambda rule: True) if seat is None else at_once)
        self.warmups = WarmupFile((seat.home if seat is not None else settings.data_dir) / WARMUPS)
        self.warming = Warming(self.snapshot, time.time, self.warmups, self.warned)
        self.lanes = self._lanes()
        self.pools = Pools(
            self.snapshot,
            time.time,
            self.ips.is_ours,
            self.lane_rules.held_up,
            self.lanes.outlook,
            CHANCE.random,
            self.chain.passed_over,
        )
        self.dialogue = DialogueWatch((self.intake, self.transport), self.scheduler)
        self.telemetry = Telemetry(gauges=self._gauges())
        self.cluster = self._cluster()
        self.ended: str | None = None  # why no message is worked on any more
        self.withdrawing: Withdrawing | None = None
        self.health = Health(self)

    def workers(self) -> list[WorkerRow]:
        """The processes that carry mail, where there are several."""
        return []

    @property
    def deleting(self) -> Any:
        """What deletes queued messages, where others carry the mail; None: whoever has the queue."""
        return None

    @property
    def withdraws(self) -> bool:
        """Whether what waits ends in the queue by a forced error, see `Withdrawing`."""
        return self.withdrawing is not None

    @property
    def withdrawals(self) -> list[Withdrawal]:
        """Forced errors on their way through the queue, newest first."""
        return self.withdrawing.all if self.withdrawing is not None else []

    @property
    def events(self) -> Observable[Event]:
        """Everything that happens, as it happens."""
        return self._events

    @property
    def counted(self) -> Observable[Event]:
        """The same for those who only count: of several workers, what went alike is one `Passed`."""
        return self._events

    def report(self, event: Event) -> None:
        """Tell the log, then the event stream."""
        if type(event) is Received:  # not from the stream: of its events, most are others, 0.6 us each
            self.log.received(event)
            self.texts.received(event)
        try:
            self._events.on_next(event)
        except Exception as error:  # of an observer; whoever reports, a message under way often, must not notice
            log.error("an observer of events failed", event_type=type(event).__name__, exc_info=error)

    @property
    def faults(self) -> list[str]:
        """What is wrong now with the disk, the broker or a part of the program, a line each, the worst first."""
        log = f"the delivery log is not written: {self.log.trouble}" if self.log.trouble else None
        troubles = (
            *self.queue.troubles,
            *self.supervisor.faults,
            log,
            *self.transport.troubles.lines,
            *self.egress.troubles,
            *self.texts.troubles,
            self.spool.trouble,
            self.gathering.trouble,
            self.warming.trouble,
        )
        return [fault for fault in (self.queue.fault, *troubles) if fault]

    # -- the parts, and what they tell ---------------------------------------------------------------------------

    def _open_queue(self) -> Queue:
        file = self.seat.file if self.seat is not None else None
        return open_queue(self.settings, self.warned, self._moved, alone=self.seat is None, file=file)

    def _lanes(self) -> Lanes:
        return Lanes(
            slots=self.slots,
            limits=self.lane_rules.limits,
            free=lambda: self.queue.free,
            recall=self.queue.recall,
            parked=self.queue.parked,
            scheduler=self.scheduler,
            clock=time.monotonic,
            blocked=self.lane_rules.blocked,
            paused=self.lane_rules.held_up,
            credit=self.settings.rabbitmq_qos,
            share=self.lane_rules.share,
            pacer=self.seat.leases.pacer if self.seat is not None else None,
        )

    def _cluster(self) -> Cluster | None:
        """None where there is no broker that instances could meet on."""
        if self.settings.cluster_broker is None:
            return None
        token = self.seat.token if self.seat is not None else ""
        return Cluster(self.settings, partial(announcement, self), self.rules.reload, self.warned, token=token)

    def snapshot(self) -> Snapshot:
        """The rules, as they are now."""
        return self.rules.snapshot

    def _gauges(self) -> dict[str, Callable[[], int]]:
        return {
            "attempting": lambda: self.slots.attempting,
            "active": lambda: self.slots.active,
            "idle": lambda: self.slots.idle,
            "waiting": lambda: self.depth.waiting,
        }

    def _moved(self, lane: str, by: int) -> None:
        """Parked messages have come or gone by an operator's hand."""
        kind = Parked if by > 0 else Unparked
        self.report(kind(time=time.time(), lane=lane, count=abs(by)))

    def _flooded(self, flood: Active) -> None:
        pause, reduced = flood.paused_until - flood.since, flood.reduced_until - flood.since
        until = {"paused_until": time.time() + pause, "reduced_until": time.time() + reduced}
        fields = {"lane": flood.lane, "pattern": flood.rule.name, "answer": flood.answer, **until}
        if self.seat is not None:
            self.seat.flooded(flood)
        text = f"{flood.lane} is paused by {flood.rule.name!r}"
        self.report(Notice(time=time.time(), kind="flood", text=text, fields=fields))

    def warned(self, kind: str, text: str) -> None:
        """Something an operator should know: a line in the log, and an event."""
        log.warning(text, kind=kind)
        self.report(Notice(time=time.time(), kind=kind, text=text))

    def _logged(self, event: Event) -> None:
        """What the delivery log says of itself: lines that are lost, and that none are any more."""
        log.warning(event.detail if isinstance(event, Fault) else getattr(event, "text", ""), kind="log")
        self.report(event)

    def _ehlo_name(self, ip: str) -> str:
        return self.rules.snapshot.ehlo_name(ip) or self.names.ehlo(ip)

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything: what messages need first, intake last.

        Raises:
            StartError: a part cannot start; what had started is stopped.
        """
        async with contextlib.AsyncExitStack() as life:
            await self._start(life)
            self._life = life.pop_all()

    async def _start(self, life: contextlib.AsyncExitStack) -> None:
        """Each part says how it ends as soon as it has begun; they end in the opposite order."""
        self._find_here()
        self.spool.check()
        try:
            self.log.start()
            life.push_async_callback(self.log.close)
            self.texts.start(descent(self.settings.user))
            life.push_async_callback(self.texts.close)
            await self.rules.start()
            life.push_async_callback(self.rules.close)
            await self.queue.start()
            life.push_async_callback(self.queue.close)
        except (LogUnavailable, QueueUnavailable, RulesUnavailable) as error:
            raise StartError(str(error)) from None
        await self.names.learn(self.ips.default)
        if (why := self.names.nameless(_host_name(self.settings), self.ips.default)) is not None:
            self.warned("host", why)
        self._observe(life)
        life.push_async_callback(self.resolver.close)
        life.push_async_callback(self.signing.close)
        life.push_async_callback(self.signers.close)
        await self.signing.settle(self.settings.dns_timeout)
        await self._carry(life)
        changed = self._changed_here()
        self.rules.told, self.rules.suppressions.changed_here = changed, changed
        if self.cluster is not None:
            self.cluster.start(self.scheduler)
            life.push_async_callback(self.cluster.close)

    def _changed_here(self) -> Callable[[], None]:
        """Who is told that rules were changed here: the head, or the other instances."""
        if self.seat is not None:
            return self.seat.changed
        return self.cluster.rules_changed if self.cluster is not None else lambda: None

    async def _carry(self, life: contextlib.AsyncExitStack) -> None:
        """What carries mail: out, in, and the chain between them."""
        life.push_async_callback(self.gathering.close)
        life.callback(self.warmups.close)
        self.transport.start()
        life.push_async_callback(self.transport.close)
        await self.intake.start()
        life.push_async_callback(self.intake.close)
        self.here.listen(self.intake.addresses)
        if self.settings.spool_directory is not None:
            life.callback(self.spool.close)
            life.callback(self.supervisor.spawn(self.spool.run(), "spool").cancel)
        if not self.settings.paused:  # else what is on the queue stays there
            life.callback(self.chain.deliveries().subscribe(on_error=self._broken, scheduler=self.scheduler).dispose)
            self._withdraw(life)
        life.push_async_callback(self._wind_down)

    def _withdraw(self, life: contextlib.AsyncExitStack) -> None:
        if (withdrawing := self.chain.withdrawing()) is None:
            return
        self.withdrawing = withdrawing
        life.callback(withdrawing.close)
        watch = self.supervisor.listen(
            self.rules.snapshots, withdrawing.changed, "withdrawing", scheduler=self.scheduler
        )
        life.callback(watch.dispose)

    def _find_here(self) -> None:
        """Where we will listen; a sink or a smarthost there would bring all mail back."""
        s = self.settings
        self.here.listen((s.smtp_ip, port) for port in (*s.smtp_port, *s.smtp_secure_port))
        sink = "delivery-sink" if s.smtp_sink_address is None else "smtp-sink-address"
        for key, server in ((sink, self.relay.sink), ("smarthost", self.relay.smarthost)):
            if server is None:
                continue
            host, port = server.hostname, server.port
            ip = "127.0.0.1" if host.lower().rstrip(".") == "localhost" else address(host)
            if ip is not None and self.here(ip, port):
                raise StartError(f"{key}: {host}:{port} is where this server itself listens (smtp-ip, smtp-port)")

    def _observe(self, life: contextlib.AsyncExitStack) -> None:
        """Whoever listens to events, to rules and to time."""

        def listen(source: Observable[Any], act: Callable[[Any], None], part: str) -> None:
            life.callback(self.supervisor.listen(source, act, part, scheduler=self.scheduler).dispose)

        if self.seat is None:  # else the head counts
            life.callback(self.telemetry.watch(self.counted).dispose)
        listen(self.counted, self.health.observe, "health")
        listen(self.counted, self.effects.count, "classes")
        self._count_parked()
        listen(rx.interval(1.0), self._each_second, "clock")
        listen(rx.interval(1.0), lambda _: self.supervisor.sweep(), "supervisor")
        listen(self.rules.snapshots, self._ways_changed, "egress")
        changes = self.rules.snapshots.pipe(ops.distinct_until_changed(_routing), ops.skip(1))
        listen(changes, lambda _: self.lanes.reconsider(), "lanes")
        listen(self.rules.snapshots, self.signing.changed, "signing")

    def _ways_changed(self, snapshot: Snapshot) -> None:
        """External MTAs are rules, besides those of the configuration; a local IP may be of another instance."""
        ways = [rule.way for rule in snapshot.external_mtas]
        here = [way for way in ways if way.protocol != "nat" or self.ips.is_here(way.local_ip)]
        self.egress.ruled(here)
        self.ips.ruled(way.public_ip for way in here)

    def _count_parked(self) -> None:
        if self.seat is not None and self.settings.rabbitmq_address is not None:
            return  # the parked queues are those of all workers: their head counts
        for lane, count in self.queue.parked().items():
            self.report(Parked(time=time.time(), lane=lane, count=count))

    def _each_second(self, second: int) -> None:
        self.lanes.sweep()
        self.warming.tick()
        self.health.tick()
        if second % LOOK == 0 and self.here.refresh():
            self.resolver.forget()
        if self._measuring is None or self._measuring.done():
            self._measuring = self.supervisor.spawn(self._measure(), "measure")

    async def _measure(self) -> None:
        with contextlib.suppress(QueueUnavailable):
            self.depth = await self.queue.figures()

    def _broken(self, error: Exception) -> None:
        """The chain itself ended, which no message can make it do: only a fault of ours. No mail leaves any more."""
        self.supervisor.failed("chain", error, ended=True)
        self.ended = f"no mail is worked on any more, restart Mailrace: {type(error).__name__}: {error}"
        self.supervisor.give_up(f"the chain of operators has ended: {type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Stop taking messages, let what is in flight finish within `shutdown-timeout`, return the rest."""
        await self._life.aclose()

    async def _wind_down(self) -> None:
        await self.intake.close()
        self.queue.cease()
        self.lanes.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.shutdown_timeout):
                await self.chain.rest()

    def reopen_logs(self) -> None:
        """SIGHUP: the log files may have been moved away, and resolv.conf may have changed."""
        self.log.reopen()
        self.resolver.reread()


def _host_name(settings: Settings) -> str:
    """What EHLO says where an MTA IP has no name of its own."""
    return socket.gethostname() if settings.origin("server-id") == "default" else settings.server_id


def _routing(snapshot: Snapshot) -> tuple[object, ...]:
    """The rules that decide where waiting messages go: when they change, all are looked at again."""
    ways = snapshot.external_mtas
    return snapshot.pauses, snapshot.redirects, snapshot.pools, ways, snapshot.rules("errors")
