"""The facade: what the console and the API read of the running machine and change in it. They hold layout, not logic.

Owner of: the history of the lanes, the bulk jobs, the count of what each redirect moved, and the log queries. All
calls are made on the event loop; what reads a database or the log goes to a thread. Figures that cost by the domain
are worked out once in FRESH seconds, whoever asks, and give the event loop back between SLICE domains.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime
import heapq
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec
from reactivex import Observable, abc

from operators.deliveries.delivery import Target, lane_ip
from operators.deliveries.events import Event, Notice, Redirected
from operators.deliveries.outcome import Outcome
from operators.lanes.floods import Active
from operators.stages.hold import parked_queue
from pipeline.log.reading.query import LogQuery
from pipeline.machine.health import HealthState
from pipeline.machine.machine import WorkerRow as WorkerRow
from pipeline.process.supervisor import spawn
from pipeline.queues import largest_body, result_rule
from pipeline.queues.census import Census, census
from pipeline.queues.contract import QueueFigures, QueueUnavailable
from pipeline.queues.listing import Action, Unbrowsable
from pipeline.signing.keys import KeyState
from pipeline.smtp.watch import DialogueWatch
from pipeline.telemetry.backlog import SPAN, Backlog, Standing
from pipeline.telemetry.history import History
from pipeline.telemetry.telemetry import Dimension, DomainErrors, LastAnswer, Telemetry
from pipeline.views import catalogue
from pipeline.views.answers import UnknownAnswer
from pipeline.views.bulk import Bulk, BulkJob, Selection
from pipeline.views.catalogue import CatalogueEntry
from pipeline.views.cluster import ClusterView
from pipeline.views.explain import Brief, Explained, Explainer, FloodInForce
from pipeline.views.queue_monitor import QueueMonitor
from pipeline.views.queued_message import ShownMessage, show
from pipeline.views.recorder import Recorder
from pipeline.views.scoped import ScopedFigures, waits_for
from pipeline.views.state.growth import STEP, QueueSizes
from pipeline.views.state.lens import Lenses
from pipeline.views.state.standing import condition, sentence
from pipeline.views.stopping import Stopping
from pipeline.views.submit import Submission
from pipeline.views.suppressing import SuppressionJob, SuppressionJobs
from pipeline.views.tally import Tally
from settings import Settings
from settings.rules import DkimKey, Flood, Pause, Pool, Redirect, Rule
from settings.rules.acting import Response
from settings.rules.fields import lookup_name
from settings.rules.models import NAMES
from settings.rules.patterns import Type, compile_pattern
from settings.rules.snapshot import answer_text
from settings.rules.tenants import TagRule
from settings.store import RuleStore, Who, audit

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

FRESH = 1.0  # seconds
CENSUS = 10.0  # seconds
LEAVING = ("delivered", "failed", "refused")  # counters of what leaves the queue for good
SLICE = 25  # domains whose figures are worked out at once, in 1 ms
# States, the worst first.
WORST = ("paused", "flooded", "failing", "deferring", "reduced", "throttled", "running")


class LaneLoad(msgspec.Struct, frozen=True):
    """What a lane holds: messages in memory, and the domains that they are for."""

    ip: str
    domains: tuple[str, ...]
    memory: int


class MtaIp(msgspec.Struct, frozen=True, kw_only=True):
    """An MTA IP: its names, its figures of the last 60 s, its lanes. `mine`: this machine has it, not only
    a rule. `pool`: the one that it is in."""

    ip: str
    name: str | None
    ehlo: str
    host_name: str
    mine: bool
    default: bool
    pool: str | None
    figures: dict[str, int]
    lanes: list[str]
    state: str = "running"
    retrying: int = 0
    next_retry: float | None = None
    says: str = ""
    attempting: int = 0
    active: int = 0


class LastError(msgspec.Struct, frozen=True):
    """The last negative answer or strange end. `time` is epoch seconds."""

    time: float
    code: int | None
    status: str | None
    description: str
    result: str


class DomainRow(msgspec.Struct, frozen=True, kw_only=True):
    """A destination: now, and in the last 60 s. `ratio`: of the ended attempts were accepted, None without any."""

    domain: str
    state: str
    in_memory: int
    parked: int
    attempts: int
    delivered: int
    errors: int
    ratio: float | None
    connections: int
    lanes: list[str]
    last_error: LastError | None
    retrying: int = 0
    next_retry: float | None = None
    deferred: int = 0
    bounced: int = 0
    says: str = ""


class DomainPage(msgspec.Struct, frozen=True):
    """Some of the domains, and how many there are."""

    domains: list[DomainRow]
    total: int


_NONE = (0, 0, 0)
SORTS = tuple(name for name in DomainRow.__struct_fields__ if name not in ("lanes", "last_error", "says"))


class Facade:
    """Over a running machine; call `close` when it is not shown any more."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.history, self.backlog, self.lenses = History(), Backlog(), Lenses(machine.events)
        self.redirected: collections.Counter[int] = collections.Counter()
        self.tally = Tally()
        self._domains: tuple[float, list[DomainRow]] = (0.0, [])
        self.fictional = False  # the demo's mail is
        self.sizes = QueueSizes()
        self._sampling: asyncio.Task[None] | None = None
        self._census: tuple[float, Census | None] = (0.0, None)
        self._counting = asyncio.Lock()
        self._working = asyncio.Lock()
        self.recorder = Recorder(machine.rules)
        self.stopping = Stopping(
            lambda: self.bulk, self._anything_waits, self._domains_of, lambda text: machine.warned("errors", text)
        )
        self._watching: list[abc.DisposableBase] = [
            self.history.watch(machine.events),
            self.backlog.watch(machine.events),
            machine.events.subscribe(self._count_redirect),
            machine.events.subscribe(self.tally.count),
            machine.rules.snapshots.subscribe(self.stopping.changed),
        ]

    def start(self) -> None:
        """Begin to note how large the queue is."""
        self._sampling = spawn(self._sample(), "queue-sizes", grave=False)

    async def _sample(self) -> None:
        while True:
            with contextlib.suppress(QueueUnavailable):  # its state says so; the line has a gap
                totals = self._machine.telemetry.totals()
                self.sizes.add(await self._machine.queue.figures(), sum(totals[name] for name in LEAVING))
            await asyncio.sleep(STEP)

    def close(self) -> None:
        """Stop watching."""
        if self._sampling is not None:
            self._sampling.cancel()
        self.lenses.close()
        for watch in self._watching:
            watch.dispose()
        if "logs" in vars(self):
            self.logs.close()

    @cached_property
    def explainer(self) -> Explainer:
        """Explains lanes."""
        return Explainer(self._machine, self.history, self.backlog)

    @cached_property
    def bulk(self) -> Bulk:
        """Selects and changes queued messages."""
        return Bulk(self._machine.queue, self._machine.settings.rabbitmq_outbox)

    @cached_property
    def suppressions(self) -> SuppressionJobs:
        """Imports and removes suppressions."""

        def record(who: Who, job: SuppressionJob) -> None:
            facts = {"action": job.action, "created": job.created, "replaced": job.replaced, "removed": job.removed}
            action: audit.Action = "create" if job.action == "import" else "delete"
            self.recorder.soon(who, action, "suppressions", job.id, facts)

        return SuppressionJobs(self._machine.rules.suppressions, self.settings.data_dir, record)

    @cached_property
    def monitor(self) -> QueueMonitor:
        """Watches the queues."""
        return QueueMonitor(self._machine)

    @cached_property
    def cluster(self) -> ClusterView:
        """The other instances, and all together."""
        return ClusterView(self._machine)

    @cached_property
    def submission(self) -> Submission:
        """Takes messages from applications."""
        machine, s = self._machine, self._machine.settings
        return Submission(
            machine.queue, s.rabbitmq_outbox, s.server_id, largest_body(s), machine.report, result_rule(s)
        )

    @cached_property
    def injection(self) -> Submission:
        """Takes messages as MailerQ's API does: into the queue that received mail goes to."""
        machine, s = self._machine, self._machine.settings
        inbox = s.rabbitmq_inbox or s.rabbitmq_outbox
        return Submission(machine.queue, inbox, s.server_id, largest_body(s), machine.report, result_rule(s))

    @cached_property
    def logs(self) -> LogQuery:
        """The log queries; they block, so call them in a thread."""
        return LogQuery(self._machine.settings.send_log, self._machine.settings.received_log)

    # -- what others own, as it is shown ------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._machine.settings

    @property
    def events(self) -> Observable[Event]:
        """Everything that happens, as it happens."""
        return self._machine.events

    @property
    def telemetry(self) -> Telemetry:
        """The counters: read them."""
        return self._machine.telemetry

    @cached_property
    def scoped(self) -> ScopedFigures:
        """The figures of an MTA IP, domain, tag or pool."""
        return ScopedFigures(self._machine.telemetry, lambda: self._machine.rules.snapshot, self.is_ours)

    @property
    def store(self) -> RuleStore:
        """The rules, and who changed them."""
        return self._machine.rules

    @property
    def dialogue(self) -> DialogueWatch:
        """The SMTP dialogues, for as long as somebody watches."""
        return self._machine.dialogue

    def workers(self) -> list[WorkerRow]:
        """The processes that carry mail, where there are several."""
        return self._machine.workers()

    def states(self) -> list[HealthState]:
        """What is wrong now, the worst first."""
        return self._machine.health.states()

    @property
    def stopped(self) -> str | None:
        """Why mail is not taken or does not leave, in general words; None while it does."""
        return self._machine.health.stopped

    @property
    def own_ips(self) -> list[str]:
        """The addresses of this machine that mail may leave from."""
        return list(self._machine.ips.all)

    def is_ours(self, ip: str) -> bool:
        """Whether this machine has this address."""
        return self._machine.ips.is_ours(ip)

    # -- lanes, addresses, domains ----------------------------------------------------------------------------------

    def lanes(self) -> list[Brief]:
        """The lanes that hold mail or that a flood is in force on."""
        return [self.explainer.brief(name) for name in self.explainer.names()]

    def largest_lanes(self, most: int) -> tuple[list[Brief], int]:
        """The lanes with the most mail, in memory, parked and for a retry, and how many there are.

        There may be thousands, so only those are looked at whole.
        """
        load = collections.Counter({lane.name: lane.memory for lane in self._machine.lanes.all()})
        load.update(self._machine.queue.parked())
        load.update({lane: standing.retrying for lane, standing in self.backlog.by("lane").items()})
        names = {name: load[name] for name in self.explainer.names()}
        largest = heapq.nlargest(most, names.items(), key=lambda pair: (pair[1], pair[0]))
        return [self.explainer.brief(name) for name, _ in largest], len(names)

    def loads(self) -> list[LaneLoad]:
        """The lanes that hold mail in memory."""
        return [LaneLoad(lane.ip, tuple(lane.domains), lane.memory) for lane in self._machine.lanes.all()]

    def explain(self, lane: str) -> Explained | None:
        """Everything of one lane; None where there is no such lane."""
        return self.explainer.explain(lane)

    def all_ips(self) -> list[MtaIp]:
        """As `ips`, with what the other instances say of theirs."""
        others, own = self.cluster.by("ip"), self.ips()
        known = [_with_others(ip, others[ip.ip]) if ip.ip in others else ip for ip in own]
        foreign = [ip for ip in others if all(ip != one.ip for one in own)]
        none = dict.fromkeys(own[0].figures, 0) if own else {}
        return known + [
            MtaIp(
                ip=ip,
                name=self._machine.rules.snapshot.mta_name(ip),
                ehlo="",
                host_name="",
                mine=False,
                default=False,
                pool=self._machine.rules.snapshot.pool_of(ip),
                figures={name: others[ip][name] for name in none},
                lanes=[],
            )
            for ip in foreign
        ]

    def ips(self) -> list[MtaIp]:
        """Every address of this machine, and those that rules name."""
        machine, snapshot = self._machine, self._machine.rules.snapshot
        named = [rule.ip for rule in snapshot.mta_names] + [m.ip for pool in snapshot.pools for m in pool.members]
        all_ips = list(dict.fromkeys((*machine.ips.all, *named, *machine.telemetry.keys("ip"))))
        figures = machine.telemetry.snapshots("ip", all_ips)
        lanes: dict[str, list[str]] = collections.defaultdict(list)
        for name in self.explainer.names():
            lanes[lane_ip(name)].append(name)
        standings, connections = self.backlog.by("ip"), self.connections()
        return [
            MtaIp(
                ip=ip,
                name=snapshot.mta_name(ip),
                ehlo=snapshot.ehlo_name(ip) or machine.names.ehlo(ip),
                host_name=machine.names.ehlo(ip),
                mine=machine.ips.is_ours(ip),
                default=ip in machine.ips.default,
                pool=snapshot.pool_of(ip) or None,
                figures=_without(figures[ip], ("attempting", "active", "idle", "waiting")),
                lanes=lanes[ip],
                **self._stands(ip, standings.get(ip) or Standing()),
                attempting=connections.get(ip, _NONE)[0],
                active=connections.get(ip, _NONE)[1],
            )
            for ip in all_ips
        ]

    def _stands(self, ip: str, standing: Standing) -> dict[str, Any]:
        """State, retrying, next retry and sentence of an MTA IP."""
        held = self._machine.rules.snapshot.pauses_for(ip, "", "", (), time.time())
        return {
            "state": "paused" if held else condition(standing) or "running",
            "retrying": standing.retrying,
            "next_retry": standing.next_retry,
            "says": sentence(standing),
        }

    def connections(self, domain: str | None = None) -> dict[str, tuple[int, int, int]]:
        """(attempting, active, idle) connections by MTA IP, of all lanes, or of those that a domain is in."""
        found: dict[str, tuple[int, int, int]] = {}
        for lane, counts in self._machine.slots.states().items():
            if domain is None or domain in self.explainer.domains(lane):
                before = found.get(ip := lane_ip(lane), _NONE)
                found[ip] = (before[0] + counts[0], before[1] + counts[1], before[2] + counts[2])
        return found

    def standing(self, selected: Mapping[str, str]) -> Standing:
        """How what is selected (ip, domain, tag) is answered, and what of it waits for a retry."""
        return self.backlog.standing(self._ips_wanted(selected), selected.get("domain"), selected.get("tag"))

    def ips_of(self, selected: Mapping[str, str]) -> list[str]:
        """The MTA IPs that are selected, by themselves or as members of a pool; none: all."""
        if "pool" in selected:
            return list(self._machine.rules.snapshot.pool(selected["pool"]))
        return [selected["ip"]] if "ip" in selected else []

    def _ips_wanted(self, selected: Mapping[str, str]) -> frozenset[str] | None:
        return frozenset(self.ips_of(selected)) if selected.keys() & {"ip", "pool"} else None

    def troubles(self, selected: Mapping[str, str], most: int) -> list[DomainErrors]:
        """The destinations with the most errors in the last 5 minutes, of what is selected."""
        if not selected:
            return self._machine.telemetry.top_errors(most)
        last = self._last_errors()
        standings = self.backlog.by("domain", self._ips_wanted(selected), selected.get("domain"), selected.get("tag"))
        found = [
            DomainErrors(
                domain=domain,
                errors=standing.deferred + standing.bounced,
                attempts=standing.ended,
                delivered=standing.accepted,
                last=last[domain],
            )
            for domain, standing in standings.items()
            if standing.deferred + standing.bounced and domain in last
        ]
        return sorted(found, key=lambda trouble: (-trouble.errors, trouble.domain))[:most]

    def sending_ips(self, domain: str | None) -> list[str]:
        """The MTA IPs that mail of a domain, or any, leaves from: the default ones, and those that have sent some."""
        sent = (ip for ip in self.backlog.by("ip", domain=domain) if self.is_ours(ip))
        return list(dict.fromkeys((*self._machine.ips.default, *sent)))

    def sent_a_minute(self, ip: str | None, domain: str | None) -> int:
        """Attempts in the last minute, from an MTA IP or all, to a domain or all."""
        if ip is not None and domain is not None:
            return round(self.backlog.standing(ip, domain).ended / SPAN)
        dimension: Dimension | None = "ip" if ip else "domain" if domain else None
        return self._machine.telemetry.snapshot(dimension, ip or domain)["attempts"]

    def knows(self, selected: Mapping[str, str]) -> bool:
        """Whether anything of each that is selected has been seen, or stands in a rule."""
        telemetry, snapshot = self._machine.telemetry, self._machine.rules.snapshot
        for name, value in selected.items():
            if name == "pool":
                return any(pool.name == value for pool in snapshot.pools)
            kind = cast(Dimension, name)
            if value in telemetry.keys(kind) or (name == "ip" and value in {ip.ip for ip in self.ips()}):
                continue
            if any(getattr(rule, name, None) == value for rule in (*snapshot.throttles, *snapshot.pauses)):
                continue
            return False
        return True

    async def domains(
        self,
        sort: str = "errors",
        descending: bool = True,
        containing: str = "",
        offset: int = 0,
        limit: int = 100,
        whole: bool = False,
    ) -> DomainPage:
        """Destinations, sorted by one of SORTS; `whole`: with what the other instances say of their busiest."""
        rows = await self._domain_rows()
        if whole:
            rows = all_domains(rows, self.cluster.by("domain"))
        if containing:
            rows = [row for row in rows if containing.lower() in row.domain]
        ordered = sorted(rows, key=lambda row: _order(sort, row), reverse=descending)
        return DomainPage(ordered[offset : offset + limit], len(ordered))

    async def _domain_rows(self) -> list[DomainRow]:
        async with self._working:
            then, rows = self._domains
            if time.monotonic() - then < FRESH and then:
                return rows
            rows = [row async for row in self._work_out()]
            self._domains = (time.monotonic(), rows)
            return rows

    async def _work_out(self) -> Any:
        telemetry, last, lanes = self._machine.telemetry, self._last_errors(), self._lanes_by_domain()
        standings = self.backlog.by("domain")
        retried = (domain for domain, standing in standings.items() if standing.retrying)
        names = list(dict.fromkeys((*telemetry.keys("domain"), *lanes, *retried)))
        states = {name: self.explainer.brief(name).state for name in self.explainer.names(retried=False)}
        for start in range(0, len(names), SLICE):
            some = names[start : start + SLICE]
            for domain, figures in telemetry.snapshots("domain", some).items():
                standing = standings.get(domain) or Standing()
                yield self._row(domain, figures, lanes.get(domain, []), states, last.get(domain), standing)
            await asyncio.sleep(0)

    def _row(
        self,
        domain: str,
        figures: Mapping[str, int],
        lanes: list[str],
        states: Mapping[str, str],
        last: LastAnswer | None,
        standing: Standing,
    ) -> DomainRow:
        ended = figures["delivered"] + figures["errors"] + figures["strange"]
        own = {states.get(lane, "running") for lane in lanes} - {"failing", "deferring"}  # of the other domains in them
        mine = own | {self._held(domain), condition(standing) or "running"}
        return DomainRow(
            domain=domain,
            state=min(mine, key=WORST.index),
            in_memory=figures["in_memory"],
            parked=figures["parked"],
            attempts=figures["attempts"],
            delivered=figures["delivered"],
            errors=figures["errors"] + figures["strange"],
            ratio=figures["delivered"] / ended if ended else None,
            connections=sum(self._machine.slots.of(lane)[0] for lane in lanes),
            lanes=lanes,
            last_error=_last_error(last.time, last.outcome) if last else None,
            retrying=standing.retrying,
            next_retry=standing.next_retry,
            deferred=standing.deferred,
            bounced=standing.bounced,
            says=sentence(standing),
        )

    def _held(self, domain: str) -> str:
        held = self._machine.rules.snapshot.pauses_for("", lookup_name(domain), "", (), time.time())
        return "paused" if held else "running"

    def _last_errors(self) -> dict[str, LastAnswer]:
        telemetry = self._machine.telemetry
        found = {answer.domain: answer for answer in reversed(telemetry.answers)}
        return found | {trouble.domain: trouble.last for trouble in telemetry.top_errors(10_000)}

    def _lanes_by_domain(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = collections.defaultdict(list)
        for name in dict.fromkeys((*self.explainer.names(retried=False), *self.history.lanes())):
            for domain in self.explainer.domains(name):
                found[domain].append(name)
        return found

    # -- rules --------------------------------------------------------------------------------------------------------

    def rules(self, kind: str) -> list[dict[str, Any]]:
        """All rules of a kind, whole, with their live figures. Raises `NoSuchRule`."""
        return [self.shown(rule) for rule in self._machine.rules.list(kind)]

    def floods(self) -> list[FloodInForce]:
        """The floods in force, one a lane."""
        found = (self.explainer.flood(active.lane) for active in self._machine.floods.all())
        return [flood for flood in found if flood is not None]

    def held(self, pause: Pause) -> int:
        """How many messages a pause holds."""
        parked = self._machine.queue.parked()
        found = parked.get(parked_queue(pause), 0)
        if not self._machine.rules.snapshot.pools:
            return found
        return found + sum(count for queue, count in parked.items() if waits_for(queue, pause.id))

    @staticmethod
    def held_by(pause: Pause) -> Selection:
        """The messages that a pause holds."""
        return Selection(lane=parked_queue(pause))

    def dns_state(self, key: int) -> KeyState | None:
        """What DNS says of a DKIM key, as it was asked last; None where it was not."""
        return self._machine.signing.state(key)

    async def ask_dns(self, key: int) -> None:
        """Ask DNS of a DKIM key now."""
        await self._machine.signing.check(key)

    def flood_pauses(self) -> list[dict[str, Any]]:
        """The lanes that a flood pattern pauses, as pauses: they are no stored rules, so their id is 0."""
        floods = self._machine.floods
        whole = [self._flood_pause(active.lane) for active in floods.all() if self._is_paused(active.lane)]
        return [*whole, *(self._tag_pause(active) for active in floods.tagged())]

    def _tag_pause(self, active: Active) -> dict[str, Any]:
        ip, _, group = active.lane.partition("/")
        until = datetime.datetime.fromtimestamp(
            active.paused_until - time.monotonic() + time.time(), datetime.UTC
        ).replace(microsecond=0)
        reason = f"flood pattern {active.rule.name}"
        tag, instance = active.rule.tag, self._machine.settings.server_id
        pause = Pause.model_construct(id=0, ip=ip, domain=group, tag=tag, until=until, reason=reason, instance=instance)
        return {**pause.shown(), "held": 0}

    def _is_paused(self, lane: str) -> bool:
        flood = self.explainer.flood(lane)
        return flood is not None and flood.state == "paused"

    def _flood_pause(self, lane: str) -> dict[str, Any]:
        flood, (ip, _, group) = self.explainer.flood(lane), lane.partition("/")
        assert flood is not None
        until = datetime.datetime.fromtimestamp(flood.paused_until, datetime.UTC).replace(microsecond=0)
        instance = self._machine.settings.server_id
        pause = Pause.model_construct(
            id=0, ip=ip, domain=group, until=until, reason=f"flood pattern {flood.pattern}", instance=instance
        )
        return {**pause.shown(), "held": self._machine.queue.parked().get(lane, 0)}

    def shown(self, rule: Rule) -> dict[str, Any]:
        """A rule whole, with its live figures."""
        return {**rule.shown(), **self._live(rule)}

    def _live(self, rule: Rule) -> dict[str, Any]:
        match rule:
            case Pause():
                return {"held": self.held(rule)}
            case Redirect():
                return {"redirected": self.redirected[rule.id]}
            case Flood():
                lanes = [a.lane for a in self._machine.floods.all() if a.rule.id == rule.id]
                reduced = [self.explainer.flood(lane) for lane in lanes]
                return {"hits": self._machine.floods.hits(rule.id), "reduced_lanes": reduced}
            case DkimKey():
                return {"dns": self.dns_state(rule.id)}
            case Pool():
                return {"figures": self.scoped.members(rule), "moved": []}
            case TagRule():
                figures = self._machine.telemetry.snapshot("tag", rule.name)
                names = ("processed", "delivered", "errors", "in_memory", "parked")
                return {"figures": {name: figures[name] for name in names}}
            case Response():
                dry = self._machine.effects.dry[rule.id]
                return {"used": self.tally.of("responses", rule.id), "would": dry}
        return self.tally.live(NAMES[type(rule)], rule)

    def _count_redirect(self, event: Event) -> None:
        """Each rule of the chain that moved a message counts it."""
        if not isinstance(event, Redirected) or event.delivery.route is None:
            return
        delivery, snapshot = event.delivery, self._machine.rules.snapshot
        route = event.delivery.route
        remotes = [*(target.address for target in route.targets), route.group]
        chain = snapshot.redirects_of(event.from_ip, delivery.domain, remotes, event.time)
        self.redirected.update(rule.id for rule in chain)

    def try_flood(self, type: str, pattern: str, text: str) -> tuple[bool, list[str]]:
        """Whether a flood pattern matches a text, and which of the last real answers, newest first.

        Raises:
            ValueError: `pattern: why` or `type: why`.
        """
        if type not in get_args(Type):
            raise ValueError(f"type: is none of these: {', '.join(get_args(Type))}")
        try:
            matches = compile_pattern(cast(Type, type), pattern)
        except ValueError as error:
            raise ValueError(f"pattern: {error}") from None
        outcomes = (answer.outcome for answer in self._machine.telemetry.answers if answer.outcome.code is not None)
        texts = (answer_text(outcome.code, outcome.status, outcome.description) for outcome in outcomes)
        return bool(text) and matches(text), [real for real in dict.fromkeys(texts) if matches(real)]

    async def pause(self, values: Mapping[str, Any], who: Who, reason: str = "manual") -> Rule:
        """Hold mail; raises as `RuleStore.create`."""
        return await self._machine.rules.create("pauses", values, who, reason)

    async def resume(self, id: int, who: Who) -> Rule:
        """End a pause; what it held is called back in. Raises as `RuleStore.delete`."""
        return await self._machine.rules.delete("pauses", id, who)

    async def stop(self, values: Mapping[str, Any], who: Who) -> Rule:
        """End mail with an answer of ours, also what waits: what is selected may name tag, ip, domain or a lane.

        Raises as `RuleStore.create`; a lane is its MTA IP and destination group.
        """
        given = dict(values)
        if lane := given.pop("lane", None):
            ip, _, group = str(lane).partition("/")
            given = {"ip": "" if ip == "?" else ip, "domain": group, **given}
        return await self._machine.rules.create("errors", given, who)

    def tag_state(self, tag: str) -> str:
        """Whether a tag's mail runs, is paused as a whole, or is stopped."""
        now, snapshot = time.time(), self._machine.rules.snapshot
        stopped: Iterable[Any] = snapshot.rules("errors")
        if any(rule.tag == tag and not rule.ended(now) for rule in stopped if whole_tag(rule)):
            return "stopped"
        paused = any(rule.tag == tag and not rule.ended(now) for rule in snapshot.pauses if whole_tag(rule))
        return "paused" if paused else "running"

    async def keep_flood(self, lane: str, who: Who) -> Rule | None:
        """Make a pause by hand of the flood on a lane: it lasts until somebody ends it. None where there is none."""
        flood = self.explainer.flood(lane)
        if flood is None:
            return None
        ip, _, group = lane.partition("/")
        reason = f"kept: flood pattern {flood.pattern}, {flood.answer}"[:500]
        return await self._machine.rules.create("pauses", {"ip": ip, "domain": group}, who, reason)

    def catalogue(self) -> list[CatalogueEntry]:
        """The shipped rules, and which of them are adopted."""
        return catalogue.entries(self._machine.rules.snapshot)

    async def adopt(self, who: Who, provider: str = "", number: int | None = None) -> list[Rule]:
        """Make ordinary rules of shipped ones: all of a provider, or one. Raises as `RuleStore.create`."""
        return await catalogue.adopt(self._machine.rules, who, provider, number)

    def _anything_waits(self) -> bool:
        return bool(self._machine.depth.waiting or self._machine.queue.parked())

    def _domains_of(self, name: str) -> list[str]:
        """The domains that a domain, a destination group or a provider stands for, as far as mail has shown."""
        lanes = [lane for lane in self.explainer.names() if lane.partition("/")[2] == name]
        return list(dict.fromkeys((name, *(domain for lane in lanes for domain in self.explainer.domains(lane)))))

    def classes(self) -> dict[str, int]:
        """Negative ends of attempts since the start, by class."""
        return dict(self._machine.effects.classes)

    def unknown_answers(self) -> list[UnknownAnswer]:
        """The negative answers without a class, the most frequent first."""
        return self._machine.effects.unknown()

    def end_flood(self, lane: str, who: Who) -> bool:
        """End the flood in force on a lane early; False where there is none. Raises `NotAllowed`."""
        who.must("operate")
        flood = self.explainer.flood(lane)
        if flood is None or not self._machine.floods.end(lane):
            return False
        facts = {"lane": lane, "pattern": flood.pattern, "answer": flood.answer, "state": flood.state}
        self.recorder.soon(who, "end", "floods", flood.id, facts)
        self._tell("flood-ended", f"{who.name} has ended the flood on {lane}", lane, who)
        self._machine.lanes.go_on(lane)  # so that it goes on now, not when its pause would have ended
        return True

    # -- the queue --------------------------------------------------------------------------------------------------

    async def queues(self) -> QueueFigures:
        """What the queue holds. Raises `QueueUnavailable`."""
        return await self._machine.queue.figures()

    async def census(self) -> Census | None:
        """A look at each queued message: one in CENSUS seconds, or in 20 times what it costs. None: a broker's queue.

        What it finds waiting corrects what was counted since the start. Raises `QueueUnavailable`.
        """
        async with self._counting:
            then, found = self._census
            if then and time.monotonic() - then < max(CENSUS, 20 * found.cost if found else 0.0):
                return found
            try:
                found = await census(self._machine.queue, self._machine.settings.rabbitmq_outbox)
            except Unbrowsable:
                found = None
            self._census = (time.monotonic(), found)
            if found is not None and found.whole:
                self.backlog.recount(found.waiting, tags=False)
                self.backlog.recount(found.tags, tags=True)
            return found

    async def message(self, id: int) -> ShownMessage | None:
        """One queued message; None where it is gone. Raises `QueueUnavailable`."""
        opened = await self.bulk.queue.read(id)
        return show(opened) if opened else None

    async def change(self, action: Action, id: int, who: Who) -> bool:
        """Retry, release or delete one message; False where it is gone, or in no such state. Raises as `message`."""
        who.must("operate")
        done = bool(await self.bulk.queue.change(action, [id]))
        if done:
            self.recorder.soon(who, action, "messages", 0, {"message": id})
            self._tell(f"message-{action}", f"{who.name}: {action} message {id}", "", who)
        return done

    def begin(self, action: Action, selection: Selection, who: Who) -> BulkJob:
        """Retry, release or delete all messages of a selection; the job tells how far it is. Raises `Busy`."""
        who.must("operate")
        job = self.bulk.begin(action, selection)
        self.recorder.at_end(who, "messages", job, msgspec.to_builtins(selection), self.bulk.finished)
        self._tell(f"bulk-{action}", f"{who.name}: {action} messages, job {job.id}", selection.lane, who)
        return job

    def retry_lane(self, lane: str, who: Who) -> BulkJob:
        """Retry this provider now: its hosts are tried again, and what waits for a time goes now."""
        who.must("operate")
        explained = self.explain(lane)
        for host in explained.hosts if explained else ():
            self._machine.slots.healthy(lane_ip(lane), Target(host.host, host.address, host.port))
        self._tell("retry-now", f"{who.name} has {lane} retried now", lane, who)
        self._machine.lanes.go_on(lane)
        ip, _, group = lane.partition("/")
        domains = tuple(explained.domains if explained else ()) or (group,)
        job = self.bulk.begin("retry", Selection(state="waiting", domain=domains, ip="" if ip == "?" else ip))
        self.recorder.at_end(who, "lanes", job, {"lane": lane}, self.bulk.finished)
        return job

    def _tell(self, kind: str, text: str, lane: str, who: Who) -> None:
        fields = {"lane": lane, "who": who.name, "origin": who.origin}
        self._machine.report(Notice(time=time.time(), kind=kind, text=text, fields=fields))

    # -- as a whole -------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """Counters of the last 60 s, and gauges."""
        return self._machine.telemetry.snapshot()


def _with_others(ip: MtaIp, more: Mapping[str, int]) -> MtaIp:
    return msgspec.structs.replace(ip, figures={name: count + more.get(name, 0) for name, count in ip.figures.items()})


def all_domains(rows: list[DomainRow], others: Mapping[str, Mapping[str, int]]) -> list[DomainRow]:
    """The rows with the figures of other instances added."""
    own = {row.domain: row for row in rows}
    return [
        *(row for row in rows if row.domain not in others),
        *(_with(own.get(domain), domain, figures) for domain, figures in others.items()),
    ]


def _with(row: DomainRow | None, domain: str, more: Mapping[str, int]) -> DomainRow:
    errors = more.get("errors", 0) + more.get("strange", 0)
    figures = {name: more.get(name, 0) for name in ("in_memory", "parked", "attempts", "delivered")} | {
        "errors": errors
    }
    if row is not None:
        figures = {name: count + getattr(row, name) for name, count in figures.items()}
    ended = figures["delivered"] + figures["errors"]
    ratio = figures["delivered"] / ended if ended else None
    return msgspec.structs.replace(row or _nothing(domain), ratio=ratio, **figures)


def _nothing(domain: str) -> DomainRow:
    """A destination of which this instance knows nothing."""
    return DomainRow(
        domain=domain, state="running", in_memory=0, parked=0, attempts=0, delivered=0, errors=0, ratio=None,
        connections=0, lanes=[], last_error=None,
    )  # fmt: skip


def whole_tag(rule: Any) -> bool:
    """Whether a rule is for all of its tag's mail."""
    return rule.tag is not None and not any(getattr(rule, name, None) for name in ("ip", "pool", "domain", "remote_ip"))


def _last_error(time: float, outcome: Outcome) -> LastError:
    return LastError(time, outcome.code, outcome.status, outcome.description, outcome.result)


def _order(sort: str, row: DomainRow) -> tuple[Any, ...]:
    """Empty ones are the least; equals stand in the order of their names."""
    value = getattr(row, sort)
    if sort == "state":
        value = -WORST.index(row.state)
    return (value is not None, value or 0 if sort != "domain" else value, row.domain)


def _without(figures: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    return {name: value for name, value in figures.items() if name not in names}
