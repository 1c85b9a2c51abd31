"""The snapshot: all rules at one moment, immutable, with the indexes that the hot path looks them up by.

Every look-up is a pure function of the snapshot and its arguments; `now` is epoch seconds. What has ended by `now`
is ignored. Cached are resolved limits and keys, at most CACHED each; when a cache is full it starts empty.

A look-up in a kind without rules costs about 0.1 us, with thousands of rules about 1 us: they run for each message.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from settings.rules.acting import BounceClass, Response, Rewrite
from settings.rules.external import ExternalMtaRule
from settings.rules.fields import lookup_name
from settings.rules.limits import Limits
from settings.rules.models import (
    KINDS,
    NAMES,
    DkimKey,
    Dns,
    Flood,
    Limiting,
    Local,
    MtaName,
    Pause,
    Pool,
    Redirect,
    Rule,
    Throttle,
)
from settings.rules.patterns import FEW, Matcher, PatternIndex, Tried, compile_pattern, tried
from settings.rules.selection import Chosen, Selecting, Traits
from settings.rules.shipped import PROVIDERS
from settings.rules.tenants import ProviderRule, TagRule
from settings.rules.warming import Schedule, Warmup

CACHED = 10_000
LONG = 1 << 20  # characters of what a condition looks at
ORDERED = [kind for kind, model in KINDS.items() if "order" in model.model_fields]  # by the operator
ENDING = [kind for kind, model in KINDS.items() if "until" in model.model_fields]
ALL = ""  # in an index: any MTA IP, any target


class Snapshot:
    """All rules at one moment.

    Attributes:
        throttles, floods (in their order), pauses, redirects, dkim_keys, locals, mta_names, dns, pools,
            external_mtas: the rules.
        faults: a line for each stored rule that cannot be used, and is left out.
    """

    def __init__(self, rules: Mapping[str, Iterable[Rule]] | None = None, faults: Sequence[str] = ()) -> None:
        self._rules = {kind: tuple((rules or {}).get(kind, ())) for kind in KINDS}
        for kind in ORDERED:
            self._rules[kind] = tuple(sorted(self._rules[kind], key=_in_order))
        self.faults = tuple(faults)
        self.throttles = cast(tuple[Throttle, ...], self._rules["throttles"])
        self.floods = cast(tuple[Flood, ...], self._rules["floods"])
        self.pauses = cast(tuple[Pause, ...], self._rules["pauses"])
        self.redirects = cast(tuple[Redirect, ...], self._rules["redirects"])
        self.dkim_keys = cast(tuple[DkimKey, ...], self._rules["dkim-keys"])
        self.locals = cast(tuple[Local, ...], self._rules["locals"])
        self.mta_names = cast(tuple[MtaName, ...], self._rules["mta-names"])
        self.dns = cast(tuple[Dns, ...], self._rules["dns"])
        self.pools = cast(tuple[Pool, ...], self._rules["pools"])
        self.external_mtas = cast(tuple[ExternalMtaRule, ...], self._rules["external-mtas"])
        self._defaults: Limits | None = None
        self._limits: dict[tuple[str, tuple[str, ...] | str], Limits] = {}
        self._providers: dict[str, str | None] = {}
        self._keys: dict[str, tuple[DkimKey, ...]] = {}
        self._always: dict[int, list[Rewrite]] = {}

    # -- indexes, each built when it is first used: a trial snapshot needs one or none of them ------------------

    def indexed(self) -> Snapshot:
        """This snapshot with all its indexes built; about 1 ms for 1,000 rules, to be spent off the event loop."""
        for name, member in vars(Snapshot).items():
            if isinstance(member, functools.cached_property):
                getattr(self, name)
        return self

    @functools.cached_property
    def _throttles(self) -> dict[tuple[str, str], Throttle]:
        whole = (rule for rule in self.throttles if rule.tag is None)
        return {(rule.ip or rule.pool or ALL, rule.domain or ALL): rule for rule in whole}

    @functools.cached_property
    def _tag_throttles(self) -> dict[str, dict[tuple[str, str], Throttle]]:
        found: dict[str, dict[tuple[str, str], Throttle]] = {}
        for rule in self.throttles:
            if rule.tag is not None:
                found.setdefault(rule.tag, {})[rule.ip or rule.pool or ALL, rule.domain or ALL] = rule
        return found

    @functools.cached_property
    def _floods(self) -> PatternIndex:
        return PatternIndex([tried(rule.type, rule.pattern) for rule in self.floods])

    @functools.cached_property
    def _answers(self) -> tuple[PatternIndex, dict[int, int]]:
        """The patterns of response rules, and the place of each rule's."""
        rules = [rule for rule in cast(tuple[Response, ...], self._rules["responses"]) if rule.pattern]
        index = PatternIndex([tried(rule.type or "substring", rule.pattern or "") for rule in rules])
        return index, {id(rule): place for place, rule in enumerate(rules)}

    @functools.cached_property
    def _conditions(self) -> tuple[dict[str, PatternIndex], dict[int, tuple[str, int]]]:
        """A condition of each rewrite rule that has one to hold, by what is looked at; and which is whose.

        All of a rule's conditions must hold, so one that does not is enough to leave it out.
        """
        first: dict[str, list[Tried]] = collections.defaultdict(list)
        places: dict[int, tuple[str, int]] = {}
        for rule in cast(tuple[Rewrite, ...], self._rules["rewrites"]):
            if (test := next((test for test in rule.tests if not test.negated), None)) is not None:
                places[id(rule)] = test.what, len(first[test.what])
                first[test.what].append(test.tried)
        return {what: PatternIndex(patterns, LONG) for what, patterns in first.items()}, places

    @functools.cached_property
    def _pauses(self) -> dict[str, dict[str, list[tuple[float, Any]]]]:
        return _by_target((rule.ip or rule.pool or ALL, rule) for rule in self.pauses)

    @functools.cached_property
    def _pause_targets(self) -> set[str]:
        """The targets that pauses name."""
        return {rule.domain or rule.remote_ip or ALL for rule in self.pauses if rule.domain or rule.remote_ip}

    @functools.cached_property
    def _pause_tags(self) -> set[str]:
        return {rule.tag for rule in self.pauses if rule.tag is not None}

    @functools.cached_property
    def _pauses_all(self) -> bool:
        """Some pause names neither a target nor a tag."""
        return any(not (rule.domain or rule.remote_ip or rule.tag) for rule in self.pauses)

    @functools.cached_property
    def _redirects(self) -> dict[str, dict[str, list[tuple[float, Any]]]]:
        return _by_target((rule.from_ip, rule) for rule in self.redirects)

    @functools.cached_property
    def _chosen(self) -> dict[str, Chosen]:
        choosing = (kind for kind, model in KINDS.items() if issubclass(model, Selecting | Warmup))
        return {kind: Chosen(self._rules[kind]) for kind in choosing}

    @functools.cached_property
    def _mx(self) -> dict[str, str]:
        """Suffixes (with their dot) and whole names of MX hosts, each with its provider."""
        own = {rule.name: rule.patterns for rule in cast(tuple[ProviderRule, ...], self._rules["providers"])}
        both = {**PROVIDERS, **own}
        return {pattern.removeprefix("*"): name for name, patterns in both.items() for pattern in patterns}

    @functools.cached_property
    def _tags(self) -> dict[str, TagRule]:
        return {rule.name: rule for rule in cast(tuple[TagRule, ...], self._rules["tags"])}

    @functools.cached_property
    def _own_classes(self) -> tuple[PatternIndex, tuple[BounceClass, ...]]:
        rules = cast(tuple[BounceClass, ...], self._rules["classes"])
        return PatternIndex([tried(rule.type, rule.pattern) for rule in rules]), rules

    @functools.cached_property
    def _schedules(self) -> dict[str, Schedule]:
        return {rule.name: rule for rule in cast(tuple[Schedule, ...], self._rules["schedules"])}

    @functools.cached_property
    def _names(self) -> dict[str, MtaName]:
        return {rule.ip: rule for rule in self.mta_names}

    @functools.cached_property
    def _dns(self) -> dict[str, tuple[str, ...]]:
        return {rule.name: rule.addresses for rule in self.dns}

    @functools.cached_property
    def _pools(self) -> dict[str, dict[str, int]]:
        return {rule.name: {member.ip: member.weight for member in rule.members} for rule in self.pools}

    @functools.cached_property
    def _pool_of(self) -> dict[str, str]:
        return {member.ip: rule.name for rule in self.pools for member in rule.members}

    @functools.cached_property
    def _exact_locals(self) -> set[str]:
        return {rule.pattern.casefold() for rule in self.locals if rule.type == "exact"}

    @functools.cached_property
    def _locals(self) -> list[Matcher]:
        return [compile_pattern(rule.type, rule.pattern) for rule in self.locals if rule.type != "exact"]

    @functools.cached_property
    def _signing(self) -> list[tuple[list[Matcher], DkimKey]]:
        return [(_signs_for(rule), rule) for rule in self.dkim_keys]

    # -- as a whole -------------------------------------------------------------------------------------------

    def rules(self, kind: str) -> tuple[Rule, ...]:
        """All rules of a kind; raises `KeyError` where there is no such kind."""
        return self._rules[kind]

    def rule(self, kind: str, id_: int) -> Rule | None:
        """One rule."""
        return next((rule for rule in self._rules[kind] if rule.id == id_), None)

    def same(self, other: Snapshot) -> bool:
        """Whether both have the same rules and faults."""
        return self._rules == other._rules and self.faults == other.faults

    def having(self, rule: Rule) -> Snapshot:
        """This snapshot with one rule added, or in place of the one with its id."""
        kind = NAMES[type(rule)]
        others = tuple(other for other in self._rules[kind] if other.id != rule.id or not rule.id)
        if isinstance(rule, Pool):  # a MTA IP is in one pool
            lost = {other.id: left for other, left in rule.taking(self.pools)}
            others = tuple(cast(Rule, lost.get(other.id, other)) for other in others)
        return Snapshot({**self._rules, kind: (*others, rule)}, self.faults)

    def next_end(self) -> float | None:
        """When the first rule ends, epoch seconds."""
        return min((rule.until.timestamp() for rule in self.ending()), default=None)

    def ending(self) -> list[Any]:
        """The rules that have an end."""
        return [rule for kind in ENDING for rule in self._rules[kind] if getattr(rule, "until", None) is not None]

    def chosen(self, kind: str) -> Chosen:
        """The rules of a kind that chooses deliveries, by what they are for."""
        return self._chosen[kind]

    # -- limits -----------------------------------------------------------------------------------------------

    def limits(self, ip: str, domains: str | tuple[str, ...], defaults: Limits) -> Limits:
        """The limits of a lane: (IP, domain), (pool, domain), (domain), (IP), (pool), general, configuration; by field.

        Args:
            ip: the MTA IP.
            domains: the destination, or all domains of a destination group: among rules of one rank the strictest.
            defaults: the configuration's limits.
        """
        if not self._throttles:
            return defaults
        if defaults is not self._defaults:
            self._defaults, self._limits = defaults, {}
        found = self._limits.get((ip, domains))
        if found is None:
            if len(self._limits) >= CACHED:
                self._limits.clear()
            found = self._limits[ip, domains] = self._resolve(ip, domains, defaults)
        return found

    def explain_limits(self, ip: str, domains: str | tuple[str, ...]) -> dict[str, Throttle | None]:
        """For each field of `Limits` the rule that decides it; None is the configuration."""
        names = [lookup_name(name) for name in ((domains,) if isinstance(domains, str) else domains)]
        ranks = [
            [rule for name in targets if (rule := self._throttles.get((source, name))) is not None]
            for targets in (names, [ALL])
            for source in self._sources(ip)
        ]
        return {field: _deciding(field, ranks) for field in Limits.__struct_fields__}

    def _resolve(self, ip: str, domains: str | tuple[str, ...], defaults: Limits) -> Limits:
        deciding = self.explain_limits(ip, domains)
        return Limits(**{name: getattr(rule or defaults, name) for name, rule in deciding.items()})

    def _sources(self, ip: str) -> Sequence[str]:
        """Where mail of an MTA IP leaves from, as rules name it, the most specific first."""
        pool = self.pool_of(ip)
        return (ip, pool, ALL) if pool else (ip, ALL)

    def tag_throttle(self, ip: str, domains: Sequence[str], tag: str) -> Throttle | None:
        """The throttle of a tag's mail in a lane: the most specific, of several alike the strictest."""
        rules = self._tag_throttles.get(tag)
        if not rules:
            return None
        for targets in (domains, [ALL]):
            for source in self._sources(ip):
                found = [rule for name in targets if (rule := rules.get((source, name))) is not None]
                if found:
                    return min(found, key=lambda rule: _laxity("domain_messages", rule))
        return None

    # -- what stands in a message's way -------------------------------------------------------------------------

    def pauses_for(
        self, ip: str, domain: str, remote_ip: str, tags: Sequence[str], now: float, group: str = ""
    ) -> tuple[Pause, ...]:
        """All pauses that hold a message of these tags from `ip` to `domain` at `remote_ip`; unknown ones are empty.

        A pause may name a destination group in place of a domain: a provider.
        """
        if not self._pauses:
            return ()
        if not self.may_pause(domain, (remote_ip, group), tags):
            return ()
        name = lookup_name(domain)
        return tuple(
            rule
            for source in dict.fromkeys(self._sources(ip))
            if (targets := self._pauses.get(source)) is not None
            for target in dict.fromkeys((name, remote_ip, group, ALL))
            for until, rule in targets.get(target, ())
            if until > now and (rule.tag is None or rule.tag in tags)
        )

    def may_pause(self, domain: str, others: Sequence[str], tags: Sequence[str]) -> bool:
        """Whether some pause names this domain, one of the other targets, a tag, or none of these."""
        if self._pauses_all or not self._pause_tags.isdisjoint(tags):
            return True
        targets = self._pause_targets
        return lookup_name(domain) in targets or not targets.isdisjoint(others)

    def redirects_from(self, ip: str) -> bool:
        """Whether some redirect replaces this MTA IP."""
        return ip in self._redirects

    def redirect(self, ip: str, domain: str, remote_ips: Sequence[str], now: float) -> Redirect | None:
        """The rule that replaces this MTA IP: for the domain, else a remote IP, else all. One step of a chain."""
        if not self._redirects or (targets := self._redirects.get(ip)) is None:
            return None
        for target in (lookup_name(domain), *remote_ips, ALL):
            for until, rule in targets.get(target, ()):
                if until > now:
                    return cast(Redirect, rule)
        return None

    def redirects_of(self, ip: str, domain: str, remote_ips: Sequence[str], now: float) -> list[Redirect]:
        """The chain of rules that replace this MTA IP. Where the last one leads back into the chain, it is a loop."""
        chain: list[Redirect] = []
        seen = {ip}
        while (rule := self.redirect(ip, domain, remote_ips, now)) is not None:
            chain.append(rule)
            ip = rule.to_ip
            if ip in seen:
                break
            seen.add(ip)
        return chain

    def flood_match(
        self,
        code: int | None,
        status: str | None,
        description: str,
        names: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
    ) -> Flood | None:
        """The first flood pattern, in the operator's order, that a negative answer matches.

        Args:
            names: the domain and the destination group that it is of; None: any.
            tags: of the message; None: any.
        """
        if not self.floods:
            return None
        for place in self._floods.matching(answer_text(code, status, description)):
            rule = self.floods[place]
            if rule.domain is not None and names is not None and rule.domain not in names:
                continue
            if rule.tag is None or tags is None or rule.tag in tags:
                return rule
        return None

    @functools.cached_property
    def flood_shares(self) -> tuple[Flood, ...]:
        """The flood patterns that look at a share of the attempts."""
        return tuple(rule for rule in self.floods if rule.percent is not None)

    def provider_of(self, host: str) -> str | None:
        """The provider whose MX host this is; the longest pattern counts."""
        found = self._providers.get(host, "")
        if found != "":
            return found
        if len(self._providers) >= CACHED:
            self._providers.clear()
        found = self._providers[host] = self._look_up_provider(host.lower().rstrip("."))
        return found

    def _look_up_provider(self, host: str) -> str | None:
        if host in self._mx:
            return self._mx[host]
        labels = host.split(".")
        suffixes = ("." + ".".join(labels[at:]) for at in range(1, len(labels)))
        return next((self._mx[suffix] for suffix in suffixes if suffix in self._mx), None)

    def names_provider(self, name: str) -> bool:
        """Whether a provider has this name, a shipped one or the operator's."""
        return name in PROVIDERS or any(getattr(rule, "name", None) == name for rule in self._rules["providers"])

    def is_provider(self, group: str) -> bool:
        """Whether a destination group is a provider; its name has no dot."""
        return "." not in group and not group.startswith("(")

    def share(self, tag: str) -> TagRule | None:
        """What a tag may have of a lane; None where no rule says."""
        return self._tags.get(tag) if self._tags else None

    def schedule(self, name: str) -> Schedule | None:
        """A schedule of warm-ups."""
        return self._schedules.get(name)

    def warmup(self, ip: str, domain: str, group: str, now: float) -> Warmup | None:
        """The warm-up of an MTA IP for a destination: the most specific that has begun."""
        if not (chosen := self._chosen["warmups"]):
            return None
        found = chosen.matching(Traits(ip, self.pool_of(ip), domain, group), now)
        return next((rule for rule in found if rule.started is None or rule.started.timestamp() <= now), None)

    def own_class(self, text: str) -> BounceClass | None:
        """The operator's own pattern that gives an answer its class; None where none matches."""
        if not self._rules["classes"]:
            return None
        patterns, rules = self._own_classes
        found = patterns.matching(text)
        return rules[found[0]] if found else None

    def answering(self, rules: Sequence[Response], text: str) -> list[Response]:
        """Those of these response rules whose pattern matches an answer, or that have none."""
        index, places = self._answers
        found = set(index.matching(text)) if places else set()
        return [rule for rule in rules if (place := places.get(id(rule))) is None or place in found]

    def worth_trying(self, rules: Sequence[Rewrite], look: Callable[[str], str]) -> Sequence[Rewrite]:
        """Those of these rewrite rules whose condition in the index holds, or that have none there.

        Args:
            look: what a condition looks at, as text.
        """
        if len(rules) <= FEW:
            return rules
        indexes, places = self._conditions
        found = {}
        for what, index in indexes.items():
            if matching := index.matching(look(what)):
                found[what] = matching
        if not found and isinstance(rules, tuple):  # as of nearly every message; the index has the tuple
            if (always := self._always.get(id(rules))) is None:
                always = self._always[id(rules)] = [rule for rule in rules if id(rule) not in places]
            return always
        return [
            rule for rule in rules if (place := places.get(id(rule))) is None or place[1] in found.get(place[0], ())
        ]

    # -- names, addresses, keys ---------------------------------------------------------------------------------

    def dns_override(self, name: str) -> tuple[str, ...] | None:
        """The addresses that a domain's mail goes to instead of what DNS says."""
        return self._dns.get(lookup_name(name)) if self._dns else None

    def mta_name(self, ip: str) -> str | None:
        """The console's name of a MTA IP."""
        rule = self._names.get(ip)
        return rule.name if rule else None

    def ehlo_name(self, ip: str) -> str | None:
        """The name that a MTA IP gives itself after EHLO."""
        rule = self._names.get(ip)
        return rule.ehlo if rule else None

    def pool(self, name: str) -> Mapping[str, int]:
        """The MTA IPs of a pool with their weights; empty where there is none."""
        return self._pools.get(name, {})

    def pool_of(self, ip: str) -> str:
        """The pool that an MTA IP is in; empty where it is in none."""
        return self._pool_of.get(ip, "") if self.pools else ""

    def is_local(self, address: str) -> bool:
        """Whether a recipient is one of the local addresses."""
        if not self.locals:
            return False
        return address.casefold() in self._exact_locals or any(matches(address) for matches in self._locals)

    def dkim_keys_for(self, from_domain: str, now: float) -> tuple[DkimKey, ...]:
        """The keys that sign mail from this From domain; expired ones do not."""
        if not self._signing:
            return ()
        name = lookup_name(from_domain)
        keys = self._keys.get(name)
        if keys is None:
            if len(self._keys) >= CACHED:
                self._keys.clear()
            keys = self._keys[name] = tuple(key for signs, key in self._signing if any(match(name) for match in signs))
        if any(key.expire is not None and key.expire.timestamp() <= now for key in keys):
            return tuple(key for key in keys if key.expire is None or key.expire.timestamp() > now)
        return keys


def answer_text(code: int | None, status: str | None, description: str) -> str:
    """A receiver's answer as flood patterns see it: `421 4.7.0 Try again later`."""
    return " ".join(str(part) for part in (code, status, description) if part)


def _in_order(rule: Rule) -> tuple[int, int]:
    return getattr(rule, "order", None) or 0, rule.id


def _by_target(rules: Iterable[tuple[str, Any]]) -> dict[str, dict[str, list[tuple[float, Any]]]]:
    """MTA IP -> target -> [(end in epoch seconds, rule)]. Domains and addresses never look alike: one dict has both."""
    index: dict[str, dict[str, list[tuple[float, Any]]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for ip, rule in rules:
        until = rule.until.timestamp() if rule.until is not None else float("inf")
        index[ip][rule.domain or rule.remote_ip or ALL].append((until, rule))
    return {ip: dict(targets) for ip, targets in index.items()}


def _signs_for(rule: DkimKey) -> list[Matcher]:
    if not rule.patterns:
        return [compile_pattern("exact", rule.domain)]
    return [compile_pattern(pattern.type, pattern.pattern) for pattern in rule.patterns]


SECURITY = {"off": 0, "opportunistic": 1, "required": 2, "verified": 3}


def _deciding(field: str, ranks: Sequence[Sequence[Throttle]]) -> Throttle | None:
    for rules in ranks:
        setting = [rule for rule in rules if getattr(rule, field) is not None]
        if setting:
            return min(setting, key=lambda rule: _laxity(field, rule))
    return None


def _laxity(field: str, rule: Limiting) -> float:
    """The strictest of several has the least. 0 is unlimited, but for the idle time."""
    value = getattr(rule, field)
    if field == "connection_security":
        return -SECURITY[value]
    return float("inf") if value == 0 and field != "connection_idle" else float(value)
