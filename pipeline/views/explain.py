"""explain: why a lane's mail waits, and when it goes: everything the machine knows of one lane, at one moment.

Owner of nothing: reads the machine and its history, on the event loop, when somebody asks (about 0.1 ms).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from operators.deliveries.delivery import Target
from operators.lanes.floods import Active
from operators.lanes.lanes import Lane
from operators.lanes.limits import Limits
from operators.lanes.pools import PREFIX as POOL
from operators.lanes.warming import PREFIX as WARM
from operators.lanes.warming import local_day
from operators.stages.hold import parked_queue
from pipeline.machine.parts import default_limits
from pipeline.telemetry.backlog import Backlog, Standing
from pipeline.telemetry.history import History, LaneAnswer, LaneEvent, Past
from pipeline.views.state.applying import AppliedRule, applying
from pipeline.views.state.standing import EqualAnswers, answers, condition, many, sentence
from settings.rules import Pause
from settings.rules.fields import lookup_name

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

_KEYS = {
    "connection_idle": "connection-maxidle",
    "connection_security": "connection-secure",
    "queue": "domain-maxqueue",
}


# What the lanes say that they wait for, and the limit that it is; the more exact ones first.
_WAITS = (
    ("new connections a minute to the domain", "domain_connects"),
    ("connections at once to the domain", "domain_connections"),
    ("messages a minute to the domain", "domain_messages"),
    ("new connections a minute to ", "ip_connects"),
    ("connections at once to ", "ip_connections"),
    ("messages a minute to ", "ip_messages"),
)


class LimitSource(msgspec.Struct, frozen=True):
    """Where a limit comes from: the rule of a `kind` with this `id` and `name`; `configuration` names its key.

    `called`: the name that the operator gave a throttle, whose `name` is what it is for.
    """

    kind: str
    id: int | None
    name: str
    called: str = ""


class AppliedLimit(msgspec.Struct, frozen=True):
    """A limit in force; 0 is unlimited."""

    field: str
    value: int | float | str
    source: LimitSource


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """What the lane waits for. `kind`: pause, flood, proxy, dns, warm-up, lane. `until`: epoch seconds, None: unknown.

    `all` is false where it holds only some of the lane's mail: a tag's, a domain's, or that for some of its hosts.
    `held`: messages that a pause holds, of this lane and of the others that it is for: they have one parked queue.
    """

    kind: str
    why: str
    until: float | None = None
    rule: int | None = None
    all: bool = True
    held: int = 0


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """An address of the route, in the order to try. `state`: ready, skipped, paused, or unreachable (other family)."""

    host: str
    address: str
    port: int
    state: str
    why: str = ""
    until: float | None = None


class FloodInForce(msgspec.Struct, frozen=True, kw_only=True):
    """The flood in force on a lane, or on a tag's mail in it. Times are epoch seconds; `state`: paused or reduced."""

    lane: str
    id: int
    pattern: str
    answer: str
    state: str
    since: float
    paused_until: float
    reduced_until: float
    tag: str | None = None


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """A lane in a list. `state`: paused, flooded, failing, deferring, reduced, throttled or running.

    `retrying`: messages that wait for their retry, the first until `next_retry`; `says`: how it answers, in words.
    """

    lane: str
    ip: str
    group: str
    state: str
    in_memory: int
    in_flight: int
    parked: int
    open: int
    idle: int
    waits_for: str
    until: float | None
    retrying: int = 0
    next_retry: float | None = None
    says: str = ""


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A lane, explained. Times are epoch seconds; `next_send` None: see `next_why`; `held`: by its pauses."""

    lane: str
    ip: str
    group: str
    state: str
    next_send: float | None
    next_why: str
    waits_for: list[Obstacle]
    in_memory: int
    waiting: int
    in_flight: int
    window: int | None
    parked: int
    held: int
    connections: dict[str, int]
    limits: list[AppliedLimit]
    flood: FloodInForce | None
    domains: list[str]
    shares: list[str]
    hosts: list[Host]
    answers: list[LaneAnswer]
    events: list[LaneEvent]
    retrying: int = 0
    next_retry: float | None = None
    says: str = ""
    reasons: list[EqualAnswers] = []
    rules: list[AppliedRule] = []


class Explainer:
    """Explains the lanes of a machine."""

    def __init__(self, machine: Machine, history: History, backlog: Backlog | None = None) -> None:
        self._machine, self._history, self._backlog = machine, history, backlog or Backlog()
        self._defaults = default_limits(machine.settings)

    def names(self, retried: bool = True) -> list[str]:
        """The lanes that hold mail, in memory or parked, or that a flood is in force on; and `retried` ones."""
        machine = self._machine
        standings = self._backlog.by("lane") if retried else {}
        waiting = (lane for lane, standing in standings.items() if standing.retrying)
        parked = (queue for queue in machine.queue.parked() if not queue.startswith(("pause/", POOL, WARM)))
        floods = (active.lane for active in machine.floods.all())
        return list(dict.fromkeys((*(lane.name for lane in machine.lanes.all()), *parked, *floods, *waiting)))

    def knows(self, name: str) -> bool:
        """Whether there is such a lane, now or in the history."""
        machine = self._machine
        if machine.lanes.get(name) is not None or self._history.get(name) is not None:
            return True
        return name in self.names()

    def domains(self, name: str) -> list[str]:
        """The domains whose mail has been in the lane."""
        lane, past = self._machine.lanes.get(name), self._history.get(name)
        return list(dict.fromkeys((*(lane.domains if lane else ()), *(past.domains if past else ()))))

    def brief(self, name: str) -> Brief:
        """A lane in a list."""
        lane = self._machine.lanes.get(name)
        open_, idle = self._machine.slots.of(name)
        obstacles = self._obstacles(name, lane)
        first = next((obstacle for obstacle in obstacles if obstacle.all), None)
        standing = self.standing(name)
        return Brief(
            lane=name,
            ip=name.partition("/")[0],
            group=name.partition("/")[2],
            state=self._state(name, obstacles),
            in_memory=lane.memory if lane else 0,
            in_flight=lane.in_flight if lane else 0,
            parked=self._machine.queue.parked().get(name, 0),
            open=open_,
            idle=idle,
            waits_for=first.why if first else "",
            until=first.until if first else None,
            retrying=standing.retrying,
            next_retry=standing.next_retry,
            says=sentence(standing),
        )

    def standing(self, name: str) -> Standing:
        """How the lane answers, and what waits for its retry."""
        return self._backlog.by("lane").get(name) or Standing()

    def explain(self, name: str) -> Explained | None:
        """Everything of one lane; None where there is no such lane."""
        if not self.knows(name):
            return None
        lane, past = self._machine.lanes.get(name), self._history.get(name) or Past()
        brief, obstacles, domains = self.brief(name), self._obstacles(name, lane), self.domains(name)
        next_send, next_why = self._next(brief, obstacles)
        limits = self._limits(name, domains)
        return Explained(
            lane=name,
            ip=brief.ip,
            group=brief.group,
            state=brief.state,
            next_send=next_send,
            next_why=next_why,
            waits_for=obstacles,
            in_memory=brief.in_memory,
            waiting=len(lane.waiting) if lane else 0,
            in_flight=brief.in_flight,
            window=lane.window if lane else None,
            parked=brief.parked,
            held=sum(obstacle.held for obstacle in obstacles),
            connections={"open": brief.open, "idle": brief.idle},
            limits=limits,
            flood=self.flood(name),
            domains=domains,
            shares=_shares(domains, brief.group, limits),
            hosts=list(self._hosts(name)),
            answers=list(reversed(past.answers)),
            events=[msgspec.structs.replace(event) for event in reversed(past.events)],
            retrying=brief.retrying,
            next_retry=brief.next_retry,
            says=brief.says,
            reasons=answers(self.standing(name)),
            rules=self._rules(name, domains),
        )

    def _rules(self, name: str, domains: Sequence[str]) -> list[AppliedRule]:
        ip, _, group = name.partition("/")
        remotes = {target.address for target in self._targets(name)}
        names = {lookup_name(domain) for domain in domains}
        return applying(self._machine.rules.snapshot, ip, group, names, remotes, time.time())

    def flood(self, name: str) -> FloodInForce | None:
        """The flood in force on a lane."""
        active = self._machine.floods.get(name)
        return None if active is None else flood_in_force(active)

    # -- limits -------------------------------------------------------------------------------------------------

    def _limits(self, name: str, domains: Sequence[str]) -> list[AppliedLimit]:
        ip, snapshot = name.partition("/")[0], self._machine.rules.snapshot
        group = name.partition("/")[2]
        deciding = snapshot.explain_limits(ip, tuple(domains) if "." in group else (*domains, group))
        active = self._machine.floods.get(name)
        found = []
        for field in Limits.__struct_fields__:
            rule, value = deciding[field], getattr(deciding[field] or self._defaults, field)
            source = (
                LimitSource("throttles", rule.id, _scope(rule.ip or rule.pool, rule.domain), rule.name or "")
                if rule
                else _configured(field)
            )
            if active is not None and (reduced := getattr(active.rule, field)) is not None:
                value, source = reduced, LimitSource("floods", active.rule.id, active.rule.name)
            found.append(AppliedLimit(field, value, source))
        return found

    # -- what it waits for ----------------------------------------------------------------------------------------

    def _obstacles(self, name: str, lane: Lane | None) -> list[Obstacle]:
        found = [*self._pauses(name)]
        flood = self.flood(name)
        if flood is not None and flood.state == "paused":
            why = f"paused by the flood pattern {flood.pattern!r}"
            found.append(Obstacle(kind="flood", why=why, until=flood.paused_until, rule=flood.id))
        if (proxy := self._machine.egress.paused(name)) is not None and proxy.until is not None:
            found.append(Obstacle(kind="proxy", why=proxy.why, until=_epoch(proxy.until)))
        found += self._warming(name)
        if name.startswith("?/"):
            found.append(Obstacle(kind="dns", why=f"the mail servers of {name[2:]} are being looked up"))
        if lane is not None and lane.waiting and lane.waits_for and not (flood and flood.state == "paused"):
            until = _epoch(lane.waits_until) if lane.waits_until is not None else None
            found.append(Obstacle(kind="lane", why=self._named(name, lane), until=until))
        return found

    def _named(self, name: str, lane: Lane) -> str:
        """What the lane waits for, with the name of the throttle that says so, where it has one."""
        field = next((field for part, field in _WAITS if part in lane.waits_for), None)
        if field is None:
            return lane.waits_for
        source = next(limit.source for limit in self._limits(name, self.domains(name)) if limit.field == field)
        return f"{source.called!r}: {lane.waits_for}" if source.called else lane.waits_for

    def _warming(self, name: str) -> Iterator[Obstacle]:
        """Messages that wait for tomorrow, since the cap of this MTA IP is used."""
        ip, _, group = name.partition("/")
        machine, parked = self._machine, self._machine.queue.parked()
        rule = machine.rules.snapshot.warmup(ip, next(iter(self.domains(name)), group), group, time.time())
        if rule is None or not (waits := parked.get(f"{WARM}{ip}/{rule.domain or ''}", 0)):
            return
        _, until = local_day(rule.time_zone, time.time())
        why = f"the cap of the warm-up of {ip} is used today"
        yield Obstacle(kind="warm-up", why=why, until=until, rule=rule.id, all=False, held=waits)

    def _pauses(self, name: str) -> Iterator[Obstacle]:
        pauses, now = self._machine.rules.snapshot.pauses, time.time()
        if not pauses or name.startswith("?/"):
            return
        ip, domains = name.partition("/")[0], {lookup_name(domain) for domain in self.domains(name)}
        pool = self._machine.rules.snapshot.pool_of(ip)
        addresses, parked = {target.address for target in self._targets(name)}, self._machine.queue.parked()
        for pause in pauses:
            if pause.ended(now) or pause.ip not in (None, ip) or pause.pool not in (None, pool):
                continue
            held = True if pause.domain == name.partition("/")[2] else _covered(pause, domains, addresses)
            if held is None:
                continue
            until = pause.until.timestamp() if pause.until else None
            why = f"paused: {pause.reason or 'by hand'}" + (f", tag {pause.tag!r} only" if pause.tag else "")
            waits, every = parked.get(parked_queue(pause), 0), held and pause.tag is None
            yield Obstacle(kind="pause", why=why, until=until, rule=pause.id, all=every, held=waits)

    def _state(self, name: str, obstacles: Sequence[Obstacle]) -> str:
        kinds = {obstacle.kind for obstacle in obstacles if obstacle.all}
        if "pause" in kinds:
            return "paused"
        if (flood := self._machine.floods.get(name)) is not None and flood.paused_until > time.monotonic():
            return "flooded"
        if state := condition(self.standing(name)):
            return state
        if flood is not None:
            return "reduced"
        return "throttled" if kinds or self._machine.queue.parked().get(name) else "running"

    def _next(self, brief: Brief, obstacles: Sequence[Obstacle]) -> tuple[float | None, str]:
        """When the lane sends next, and why then."""
        whole = [obstacle for obstacle in obstacles if obstacle.all]
        if not brief.in_memory and not brief.parked and not whole:
            if brief.retrying:
                return brief.next_retry, f"{many(brief.retrying)} of it wait for a retry"
            return None, "nothing waits"
        endless = [obstacle.why for obstacle in whole if obstacle.until is None]
        if endless:
            return None, endless[0]
        now = time.time()
        last = max(whole, key=lambda obstacle: obstacle.until or now, default=None)
        if last is None or (last.until or now) <= now:
            return now, "as soon as it can"
        return last.until, last.why

    # -- where it goes ----------------------------------------------------------------------------------------------

    def _targets(self, name: str) -> Sequence[Target]:
        lane, past = self._machine.lanes.get(name), self._history.get(name)
        first = next(iter(lane.waiting), None) if lane is not None else None
        head = first.route if first is not None else None
        route = head or (past.route if past else None)
        return route.targets if route else ()

    def _hosts(self, name: str) -> Iterator[Host]:
        machine, ip = self._machine, name.partition("/")[0]
        domains, now = self.domains(name) or [""], time.time()
        for target in self._targets(name):
            more: dict[str, Any] = {"state": "ready"}
            if (":" in ip) != (":" in target.address):
                more = {"state": "unreachable", "why": f"{ip} is of the other address family"}
            elif (bad := machine.slots.skipped(ip, target, time.monotonic())) is not None:
                more = {"state": "skipped", "why": bad.why, "until": _epoch(bad.until)}
            elif held := machine.rules.snapshot.pauses_for(ip, domains[0], target.address, (), now):
                until = held[0].until.timestamp() if held[0].until else None
                more = {"state": "paused", "why": f"paused: {held[0].reason or 'by hand'}", "until": until}
            yield Host(host=target.host, address=target.address, port=target.port, **more)


def flood_in_force(active: Active) -> FloodInForce:
    """A flood as it is shown."""
    return FloodInForce(
        lane=active.lane,
        id=active.rule.id,
        pattern=active.rule.name,
        answer=active.answer,
        state="paused" if active.paused_until > time.monotonic() else "reduced",
        since=_epoch(active.since),
        paused_until=_epoch(active.paused_until),
        reduced_until=_epoch(active.reduced_until),
        tag=active.rule.tag,
    )


def _covered(pause: Pause, domains: set[str], addresses: set[str]) -> bool | None:
    """Whether a pause holds all of a lane's mail (True), some (False) or none (None)."""
    if pause.domain is not None:
        return domains == {pause.domain} if pause.domain in domains else None
    if pause.remote_ip is not None:
        return addresses == {pause.remote_ip} if pause.remote_ip in addresses else None
    return True


def _shares(domains: Sequence[str], group: str, limits: Sequence[AppliedLimit]) -> list[str]:
    """What domains of one lane should know of each other: they have the limits of the one that a rule is for."""
    scopes = [limit.source.name for limit in limits if limit.source.kind == "throttles"]
    ruled = [domain for domain in domains if any(scope.endswith(f"> {domain}") for scope in scopes)]
    first = next(iter([*ruled, *(domain for domain in domains if domain == group), *domains]), "")
    return [f"{domain} uses the limits of {first}: same servers" for domain in domains if domain != first]


def _scope(ip: str | None, domain: str | None) -> str:
    """What a throttle is for, in short."""
    return f"{ip or 'all'} > {domain or 'all'}"


def _configured(field: str) -> LimitSource:
    return LimitSource("configuration", None, _KEYS.get(field, field.replace("_", "-max", 1)))


def _epoch(monotonic: float) -> float:
    return monotonic - time.monotonic() + time.time()
