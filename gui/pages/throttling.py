"""Email throttling: the limits for each MTA IP and domain, most specific first, and what they apply to right now."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gui.components.mail.target import pool_cell
from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.view import ConsolePage, View
from pipeline.views.state.lanes import LaneLoad
from settings.rules import Rule, Throttle
from settings.rules.fields import lookup_name
from settings.rules.limits import Limits

MOST = 6  # lanes that the form names
FRESH = 5.0  # seconds that is taken for true which domains share servers
APPLIES = RuleColumn(
    name="applies",
    label="Now",
    help="Lanes (MTA IP and destination) in memory that this rule is for, and the messages in them.",
    empty="nothing",
    live=True,
    sortable=False,
)


# Limits that each MTA IP has for itself: what is limited, and in which time.
MEANING = {
    "domain_messages": ("message", " a minute"),
    "domain_connects": ("new connection", " a minute"),
    "domain_connections": ("connection", " at once"),
}


class Throttling(RulePage):
    """One opened Email throttling."""

    path = "/throttling"
    kind = "throttles"
    noun = "limit"
    label = "Limits"
    empty = (
        "No limits yet",
        "Every destination gets what the configuration allows. Add a limit for a domain that wants its mail slower.",
    )

    def __init__(self, view: View) -> None:
        self._grouped: tuple[float, dict[str, dict[str, None]]] = (-FRESH, {})
        self._warned: dict[str, dict[str, None]] = {}
        super().__init__(view)

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        domain = msgspec.structs.replace(found.pop("domain"), empty="all")
        ip = msgspec.structs.replace(found.pop("ip"), empty="all")
        del found["pool"], found["name"], found["description"]
        del found["tag"], found["scope"]
        limits = [msgspec.structs.replace(column, empty="·", label=_short(column.label)) for column in found.values()]
        return [domain, ip, APPLIES, *limits]

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Throttle)
        of = f", tag {rule.tag}" if rule.tag else ""
        source = rule.ip or (f"pool {rule.pool}" if rule.pool else "all MTA IPs")
        called = f"{rule.name}: " if rule.name else ""
        return f"{called}{rule.domain or 'all domains'} from {source}{of}"

    def rank(self, rule: Rule) -> Any:
        """(IP, domain), (domain), (IP), general: as they are looked up."""
        assert isinstance(rule, Throttle)
        return (
            rule.tag is None,
            rule.domain is None,
            rule.ip is None,
            rule.pool is None,
            rule.domain or "",
            rule.ip or "",
        )

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Throttle)
        found = {**rule.shown(), "ip": pool_cell(rule.pool) if rule.pool else rule.ip}
        found |= {name: "unlimited" for name in Limits.__struct_fields__ if _is_unlimited(rule, name)}
        named = [{"label": "", "text": rule.name, "tip": rule.description or ""}] if rule.name else []
        if rule.tag is None:
            return (
                {**found, "domain": [{"label": "", "text": rule.domain or "all", "tip": ""}, *named]}
                if named
                else found
            )
        scope = "over all lanes" if rule.scope == "all" else "in each lane"
        tag = {"label": "tag", "text": rule.tag, "tip": f"its rate, {scope}"}
        return {**found, "domain": [{"label": "", "text": rule.domain or "all", "tip": ""}, *named, tag]}

    def consequence(self, rule: Rule) -> str:
        return "From the next message the less specific limits decide, at last the configuration's."

    def _open(self) -> None:
        """What limits a lane is one link: its rule, the one for its domain from all MTA IPs, or a new one for it."""
        query = self.view.query
        ip, domain = query.get("ip", "")[:45], lookup_name(query.get("domain", "")[:255])
        if not domain or "add" in query:
            super()._open()
            return
        whole = (rule for rule in self.store.snapshot.throttles if not (rule.tag or rule.pool))
        rules = {(rule.ip, rule.domain): rule for rule in whole}
        if rule := rules.get((ip or None, domain)) or rules.get((None, domain)):
            self.form.begin(rule.shown(), rule.id)
        else:
            self.form.begin({"ip": ip, "domain": domain})

    def refresh(self) -> None:
        self._lanes = _Lanes(self.facade.lanes.loads(), self.store.snapshot.pool_of)
        if (groups := self._groups()) != self._warned:
            self._warned, self._drawn = groups, None  # the rows say which domains share servers
        super().refresh()

    def live_cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Throttle)
        lanes = self._lanes.of(rule)
        messages = sum(lane.memory for lane in lanes)
        return {"applies": f"{_many(len(lanes), 'lane')}, {_many(messages, 'message')}" if lanes else None}

    def warnings(self, rule: Rule) -> dict[str, str]:
        assert isinstance(rule, Throttle)
        others = self._sharing(rule)
        return {"domain": f"same servers as {_some(others)}"} if others else {}

    def _sharing(self, rule: Throttle) -> list[str]:
        """The domains whose mail goes to the same servers as the rule's."""
        if rule.domain is None:
            return []
        return [domain for domain in self._groups().get(rule.domain, ()) if domain != rule.domain]

    def _groups(self) -> dict[str, dict[str, None]]:
        """For each domain all those with the same servers, as mail has shown; worked out once in FRESH seconds."""
        now = time.monotonic()
        if now - self._grouped[0] > FRESH:
            explainer, groups = self.facade.explainer, collections.defaultdict[str, dict[str, None]](dict)
            for name in dict.fromkeys((*explainer.names(), *self.facade.history.lanes())):
                ip, _, group = name.partition("/")
                if ip not in ("?", "pause"):  # a group is the same from whichever MTA IP
                    groups[group].update(dict.fromkeys(explainer.domains(name)))
            found = {domain: domains for domains in groups.values() if len(domains) > 1 for domain in domains}
            self._grouped = (now, found)
        return self._grouped[1]

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, Throttle):
            return []
        blocks = [*self._meaning(rule), *self._falling_through(rule), self._applying(rule)]
        if others := self._sharing(rule):
            title = f"Shares its servers with {_some(others)}"
            text = (
                "Domains with the same servers have one lane; where several have limits, the strictest holds for all."
            )
            blocks.insert(0, {"tone": "watch", "title": title, "lines": [{"text": text}]})
        return blocks

    def _meaning(self, rule: Throttle) -> list[Cells]:
        """What will hold, in words: each MTA IP has its limits for itself."""
        ips = self.facade.ips.sending(rule.domain) if rule.ip is None else [rule.ip]
        if rule.pool is not None:
            ips = list(self.store.snapshot.pool(rule.pool))
        lines = [
            {"text": line}
            for field, (what, rate) in MEANING.items()
            if (line := _means(rule, field, what, rate, len(ips)))
        ]
        if not lines:
            return []
        now = self.facade.selected.sent_a_minute(rule.ip, rule.domain)
        target = rule.domain or "each destination"
        whom = rule.ip or f"each of {_many(len(ips), 'MTA IP')}"
        lines.append({"text": f"In the last minute: {_many(now, 'attempt')}."})
        return [{"tone": "good", "title": f"To {target}, from {whom}:", "lines": lines}]

    def _falling_through(self, rule: Throttle) -> list[Cells]:
        """What it leaves empty, and what decides that."""
        if rule.tag is not None or not (left := [name for name in MEANING if getattr(rule, name) is None]):
            return []
        others = self.store.snapshot.having(rule.model_copy(update=dict.fromkeys(Limits.__struct_fields__)))
        ip = rule.ip or next(iter(others.pool(rule.pool or "")), "")
        deciding = others.explain_limits(ip, rule.domain or "")
        lines = []
        for name in left:
            decides, (what, rate) = deciding[name], MEANING[name]
            value = getattr(decides or self.facade.settings, name if decides else name.replace("_", "_max", 1))
            by = f"by {decides.name or self.title(decides)}" if decides else "by the configuration"
            lines.append({"text": f"{_many(value, what)}{rate}" if value else f"{what}s: unlimited", "sub": by})
        return [{"tone": "idle", "title": "What is empty falls through:", "lines": lines}]

    def _applying(self, rule: Throttle) -> Cells:
        lanes = self._lanes.of(rule)
        if not lanes:
            return {
                "tone": "idle",
                "title": "Applies to nothing right now: there is no such mail in memory.",
                "lines": [],
            }
        trial = self.store.snapshot.having(rule)
        lines = []
        for lane in lanes[:MOST]:
            deciding = trial.explain_limits(lane.ip, tuple(lane.domains))
            mine = sum(1 for decides in deciding.values() if decides is rule)
            lines.append(
                {"text": f"{lane.ip} to {_some(list(lane.domains))}", "sub": _decides(mine, rule, lane.memory)}
            )
        more = [{"text": f"and {len(lanes) - MOST} more"}] if len(lanes) > MOST else []
        return {"tone": "good", "title": f"Applies right now to {_many(len(lanes), 'lane')}", "lines": [*lines, *more]}


class _Lanes:
    """The lanes in memory, by domain and by MTA IP."""

    def __init__(self, lanes: Iterable[LaneLoad], pool_of: Callable[[str], str]) -> None:
        self._all, self._pool_of = list(lanes), pool_of
        self._by_domain: dict[str, list[LaneLoad]] = collections.defaultdict(list)
        for lane in self._all:
            for domain in lane.domains:
                self._by_domain[domain].append(lane)

    def of(self, rule: Throttle) -> list[LaneLoad]:
        """Those that a rule is for."""
        lanes = self._by_domain.get(rule.domain, []) if rule.domain else self._all
        return [lane for lane in lanes if rule.ip in (None, lane.ip) and rule.pool in (None, self._pool_of(lane.ip))]


def _decides(mine: int, rule: Throttle, memory: int) -> str:
    """How many of its limits hold for a lane: more specific or stricter rules may come before it."""
    given = sum(1 for name in Limits.__struct_fields__ if getattr(rule, name) is not None)
    part = f"{mine} of its {_many(given, 'limit')} hold" if given != mine else "all its limits hold"
    return f"{_many(memory, 'message')} in memory; {part if given else 'sets no limit yet'}"


def _means(rule: Throttle, field: str, what: str, rate: str, ips: int) -> str:
    """What a limit comes to."""
    value = getattr(rule, field)
    if value is None:
        return ""
    if value == 0:
        return f"no limit on {what}s{rate}"
    return f"{_many(value, what)}{rate}" + (f" from each, {value * ips:,} in all" if ips > 1 else "")


def _is_unlimited(rule: Throttle, name: str) -> bool:
    """0 is unlimited, but for the idle time."""
    return getattr(rule, name) == 0 and name != "connection_idle"


def _short(label: str) -> str:
    """As ten of them fit side by side; the whole name is in the form, and what it means in the tooltip."""
    return label.replace("onnections", "onn.")


def _many(count: int, noun: str) -> str:
    return f"{count:,}\N{NO-BREAK SPACE}{noun}{'' if count == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


PAGE = ConsolePage(
    path="/throttling",
    title="Email throttling",
    section="Deliver",
    icon="M3 14a7 7 0 0 1 14 0M10 14l3.500-4.500M10 14h.01",
    key="t",
    build=Throttling,
    purpose="Limits: how fast mail goes, for a domain, an MTA IP, both, or all; each MTA IP has its limits for itself.",
)
