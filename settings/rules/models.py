"""The rules: one model for each kind. Forms, tables, the API, import and the database's rows all come from these.

A field's title is its label, its description the help, `unit` its unit; bounds are in its type. `read_only` fields
are ours to write and ignored where they are sent; `write_only` ones never come back. `live` are figures that the
console and the API add from the running machine. Rules are immutable.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    computed_field,
    model_validator,
)

from settings.rules import key_pairs as keys
from settings.rules.acting import BounceClass, Response, Rewrite
from settings.rules.alerting import AlertRule
from settings.rules.decisions import ForcedError
from settings.rules.external import ExternalMtaRule
from settings.rules.fields import (
    Count,
    Domain,
    EhloName,
    HeaderName,
    Ip,
    Line,
    Maybe,
    PoolName,
    Seconds,
    Security,
    Selector,
    Several,
    Time,
    quoted,
)
from settings.rules.limits import Limits
from settings.rules.patterns import Type, TypeOrGlobal, compile_pattern
from settings.rules.rule import READ_ONLY, Rule, check, one_source, one_target, unit
from settings.rules.suppression import Suppression
from settings.rules.tenants import ProviderRule, TagRule
from settings.rules.warming import Schedule, Warmup

Canonicalization = Literal["relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed"]


Percent = Annotated[int, Field(ge=1, le=100)]
Threshold = Annotated[int, Field(ge=1, le=10_000)]
Period = Annotated[int, Field(ge=1, le=86_400)]
REDUCED = ("domain_messages", "domain_connects", "domain_connections", "ip_messages", "ip_connects", "ip_connections")


class Limiting(Rule):
    """A rule with limits. An empty one falls through to the next less specific rule; 0 is unlimited."""

    domain_messages: Maybe[Count] = Field(
        None,
        title="Attempts",
        description="Messages a minute to the destination. 0: unlimited. Empty: the less specific rule decides.",
        json_schema_extra=unit("messages a minute", "Domain"),
    )
    domain_connects: Maybe[Count] = Field(
        None,
        title="New connections",
        description="Connections begun a minute to the destination. 0: unlimited.",
        json_schema_extra=unit("a minute", "Domain"),
    )
    domain_connections: Maybe[Count] = Field(
        None,
        title="Connections",
        description="Connections open at once to the destination. 0: unlimited.",
        json_schema_extra=unit("at once", "Domain"),
    )
    ip_messages: Maybe[Count] = Field(
        None,
        title="Attempts",
        description="Messages a minute to each remote IP of the destination. 0: unlimited.",
        json_schema_extra=unit("messages a minute", "Remote IP"),
    )
    ip_connects: Maybe[Count] = Field(
        None,
        title="New connections",
        description="Connections begun a minute to each remote IP. 0: unlimited.",
        json_schema_extra=unit("a minute", "Remote IP"),
    )
    ip_connections: Maybe[Count] = Field(
        None,
        title="Connections",
        description="Connections open at once to each remote IP. 0: unlimited.",
        json_schema_extra=unit("at once", "Remote IP"),
    )
    connection_messages: Maybe[Count] = Field(
        None,
        title="Messages",
        description="Messages over one connection; then it is closed with QUIT. 0: unlimited.",
        json_schema_extra=unit("messages", "Connection"),
    )
    connection_idle: Maybe[Seconds] = Field(
        None,
        title="Idle",
        description="How long a connection is kept open between messages.",
        json_schema_extra=unit("seconds", "Connection"),
    )
    connection_security: Maybe[Security] = Field(
        None,
        title="Security",
        description="TLS. opportunistic: where offered. required: always. verified: with a valid certificate.",
        json_schema_extra=unit("", "Connection"),
    )
    queue: Maybe[Count] = Field(
        None,
        title="Queue",
        description="Deliveries in memory for the destination; more are parked. 0: unlimited.",
        json_schema_extra=unit("deliveries", "Memory"),
    )

    def over(self, base: Limits) -> Limits:
        """`base` with the limits that this rule sets."""
        mine = {name: value for name in Limits.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(base, **mine) if mine else base


def _lane_if_empty(value: Any) -> Any:
    return value or "lane"


def _of_a_tag(rule: Limiting, tag: str | None, scope: str) -> None:
    """A tag has a rate; connections are the lane's, whoever's mail they carry."""
    if tag is None:
        if scope != "lane":
            raise ValueError("scope: goes with a tag; allowed is lane, or a tag")
        return
    given = [name for name in Limits.__struct_fields__ if name != "domain_messages" and getattr(rule, name) is not None]
    if given:
        raise ValueError(f"{given[0]}: goes with no tag; a tag has domain_messages alone")
    if rule.domain_messages is None:
        raise ValueError("domain_messages: is missing; a tag needs a rate")


class _Scope(Rule):
    """What a throttle is for; a class of its own so that these fields come before the limits."""

    name: Maybe[Line] = Field(None, title="Name", max_length=100, description="Shown wherever it limits: Gmail warm.")
    description: Maybe[Line] = Field(None, title="Description", max_length=500, description="Why it is so. For people.")
    ip: Maybe[Ip] = Field(None, title="MTA IP", description="The address mail leaves from. Empty: all, or the pool.")
    pool: Maybe[PoolName] = Field(None, title="Pool", description="Each MTA IP of it. Empty: all, or the MTA IP.")
    domain: Maybe[Domain] = Field(
        None, title="Domain", description="The destination: a domain, or a provider's name. Empty: all."
    )
    tag: Maybe[Line] = Field(
        None, title="Tag", max_length=200, description="Only for this tag's mail, which counts by its first tag."
    )
    scope: Annotated[Literal["lane", "all"], BeforeValidator(_lane_if_empty)] = Field(
        "lane", title="Scope", description="With a tag: for each lane, or one rate over all lanes together."
    )


class Throttle(Limiting, _Scope):
    """Limits for a MTA IP or a pool, a domain, both, or, with neither, all mail; with a tag, the rate of its mail."""

    identity: ClassVar[tuple[str, ...]] = ("ip", "pool", "domain", "tag")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        check("pool", one_source, self.ip, self.pool)
        _of_a_tag(self, self.tag, self.scope)
        return self


class _Answer(Rule):
    """What a flood pattern matches and does; a class of its own so that these fields come before the limits."""

    name: Line = Field(
        title="Name", min_length=1, max_length=100, description="Shown where the pattern has paused a lane."
    )
    type: Type = Field("substring", title="Type", description="How the text is matched. Case never matters.")
    pattern: Line = Field(
        title="Pattern",
        min_length=1,
        max_length=500,
        description="Matched against code, status and description of negative answers: 421 4.7.0 Try again later.",
    )
    pause: Count = Field(
        60,
        title="Pause",
        le=31_536_000,
        description="How long the lane is paused after a match.",
        json_schema_extra=unit("seconds"),
    )
    reduced: Count = Field(
        3600,
        title="Reduced",
        le=31_536_000,
        description="How long the limits below hold after the pause.",
        json_schema_extra=unit("seconds"),
    )
    order: Maybe[Count] = Field(None, title="Order", description="The first match in this order wins. Empty: last.")
    domain: Maybe[Domain] = Field(None, title="Domain", description="Only there: a domain, or a provider. Empty: all.")
    tag: Maybe[Line] = Field(
        None, title="Tag", max_length=200, description="Only that tag's mail, and only it is slowed."
    )
    count: Threshold = Field(1, title="Matches", description="So many matches of a lane within the period begin it.")
    period: Period = Field(1, title="Period", description="For the matches.", json_schema_extra=unit("seconds"))
    percent: Maybe[Percent] = Field(
        None,
        title="Share",
        description="Or: this share of the last attempts matched.",
        json_schema_extra=unit("percent"),
    )
    attempts: Threshold = Field(20, title="Of attempts", description="The share is of the last so many attempts.")
    reduce_to: Maybe[Percent] = Field(
        None,
        title="Reduce to",
        description="The limits of the reduced time, of the normal ones; where a limit below is empty.",
        json_schema_extra=unit("percent"),
    )

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        check("pattern", compile_pattern, self.type, self.pattern)
        return self


class Flood(Limiting, _Answer):
    """A flood pattern: what a receiver answers when it has had enough, and how its lane is slowed down then."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    live: ClassVar[Mapping[str, str]] = {
        "hits": "Matches in the last hour",
        "reduced_lanes": "Lanes paused or reduced by it",
    }

    def over(self, base: Limits) -> Limits:
        """`base` with the limits of the reduced time: those that it sets, else its share of the normal ones."""
        if self.reduce_to is not None:
            given = {name: getattr(base, name) for name in REDUCED if getattr(base, name)}
            part = {name: max(1, value * self.reduce_to // 100) for name, value in given.items()}
            base = msgspec.structs.replace(base, **part)
        return super().over(base)


class Pause(Rule):
    """Holds mail: from a MTA IP or all, to a target or all, with a tag or any."""

    live: ClassVar[Mapping[str, str]] = {"held": "Messages that wait because of it"}

    ip: Maybe[Ip] = Field(
        None, title="MTA IP", description="The address mail would leave from. Empty: all, or the pool."
    )
    pool: Maybe[PoolName] = Field(None, title="Pool", description="Each MTA IP of it. Empty: all, or the MTA IP.")
    domain: Maybe[Domain] = Field(None, title="Domain", description="The destination. Empty: all, or the remote IP.")
    remote_ip: Maybe[Ip] = Field(None, title="Remote IP", description="The receiver. Empty: all, or the domain.")
    tag: Maybe[Line] = Field(None, title="Tag", max_length=200, description="Only messages with this tag. Empty: all.")
    until: Maybe[Time] = Field(None, title="Until", description="When it ends, UTC. Empty: when somebody ends it.")
    cluster: bool = Field(False, title="Cluster", strict=True, description="For all instances, not this one alone.")
    reason: Maybe[Line] = Field(None, title="Reason", max_length=500, json_schema_extra=READ_ONLY)
    instance: Maybe[Line] = Field(None, title="Instance", max_length=200, json_schema_extra=READ_ONLY)

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        check("remote_ip", one_target, self.domain, self.remote_ip, self.ip)
        check("pool", one_source, self.ip, self.pool)
        return self


class Redirect(Rule):
    """Replaces the MTA IP for a target, or for all mail from it."""

    identity: ClassVar[tuple[str, ...]] = ("from_ip", "domain", "remote_ip")
    live: ClassVar[Mapping[str, str]] = {"redirected": "Messages redirected by it since the start"}

    from_ip: Ip = Field(title="From IP", description="The MTA IP that is replaced.")
    domain: Maybe[Domain] = Field(None, title="Domain", description="The destination. Empty: all, or the remote IP.")
    remote_ip: Maybe[Ip] = Field(None, title="Remote IP", description="The receiver. Empty: all, or the domain.")
    to_ip: Ip = Field(title="To IP", description="The MTA IP that mail leaves from instead.")
    until: Maybe[Time] = Field(None, title="Until", description="When it ends, UTC. Empty: when somebody ends it.")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        check("remote_ip", one_target, self.domain, self.remote_ip, self.from_ip, self.to_ip)
        return self


class DkimPattern(BaseModel):
    """Which From domains a key signs for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: TypeOrGlobal = Field("exact", title="Type", description="How the From domain is matched; global: all.")
    pattern: Annotated[Line, Field(max_length=500)] = Field(
        "", title="Pattern", description="Empty where the type is global."
    )

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        check("pattern", compile_pattern, self.type, self.pattern)
        return self


def _private_key(value: SecretStr) -> SecretStr:
    """The key as PKCS 8 PEM, whatever form it came in."""
    return SecretStr(keys.pem_of(keys.load(value.get_secret_value())))


class DkimKey(Rule):
    """A DKIM key (RFC 6376). Signs mail whose From domain matches a pattern; without patterns, that of its domain."""

    identity: ClassVar[tuple[str, ...]] = ("domain", "selector")
    live: ClassVar[Mapping[str, str]] = {
        "dns": "Whether the public key is in DNS: valid, missing, different or unreachable"
    }

    domain: Domain = Field(title="Domain", description="The signing domain (d=).")
    selector: Selector = Field(title="Selector", description="The public key is at <selector>._domainkey.<domain>.")
    key: Maybe[Annotated[SecretStr, AfterValidator(_private_key)]] = Field(
        None,
        title="Private key",
        description="PEM, RSA of 1024 to 4096 bits or Ed25519. Never shown again. Empty on a change: stays.",
        exclude=True,
        repr=False,
        json_schema_extra={"write_only": True},
    )
    generate: bool = Field(
        False,
        title="Generate",
        strict=True,
        description="Make a new key instead of giving one.",
        exclude=True,
        json_schema_extra={"write_only": True},
    )
    algorithm: Maybe[keys.Algorithm] = Field(
        None, title="Algorithm", description="Of the key; one that is made has 2048 bits as RSA."
    )
    expire: Maybe[Time] = Field(None, title="Expires", description="The key signs until then, UTC. Empty: always.")
    headers: Several[HeaderName] = Field(
        (), title="Headers", max_length=100, description="Headers to sign besides the usual ones."
    )
    canonicalization: Canonicalization = Field(
        "relaxed/simple", title="Canonicalization", description="header/body, RFC 6376 3.4"
    )
    patterns: tuple[DkimPattern, ...] = Field(
        (), title="Patterns", max_length=100, description="From domains it signs for. None: its own domain."
    )

    @model_validator(mode="after")
    def _same_algorithm(self) -> Self:
        if self.key is None:
            return self
        if self.generate:
            raise ValueError("generate: a key is given too; allowed is one of both")
        actual = keys.algorithm_of(keys.load(self.key.get_secret_value()))
        if self.algorithm not in (None, actual):
            raise ValueError(f"algorithm: the key is {actual}; allowed is that, or empty")
        return self.model_copy(update={"algorithm": actual})

    @computed_field(title="DNS record", json_schema_extra=READ_ONLY)  # type: ignore[prop-decorator]
    @functools.cached_property
    def record(self) -> str:
        """The TXT record to publish at `<selector>._domainkey.<domain>`."""
        return keys.record_of(keys.load(self.key.get_secret_value())) if self.key is not None else ""

    @property
    def record_name(self) -> str:
        """Where the record is published."""
        return f"{self.selector}._domainkey.{self.domain}"


class Local(Rule):
    """A local address: recipients that match go to the local queue."""

    identity: ClassVar[tuple[str, ...]] = ("type", "pattern")

    type: Type = Field("exact", title="Type", description="How the recipient is matched. Case never matters.")
    pattern: Line = Field(
        title="Pattern", min_length=1, max_length=500, description="Matched against the whole address."
    )

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        check("pattern", compile_pattern, self.type, self.pattern)
        return self


class MtaName(Rule):
    """What a MTA IP is called: in the console, and after EHLO."""

    identity: ClassVar[tuple[str, ...]] = ("ip",)

    ip: Ip = Field(title="MTA IP", description="One of this machine's addresses.")
    name: Maybe[Line] = Field(
        None, title="Console name", max_length=100, description="Shown here only, never to receivers."
    )
    ehlo: Maybe[EhloName] = Field(
        None, title="EHLO name", description="Empty: its reverse DNS name, else the host name."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and self.ehlo is None:
            raise ValueError("name: is empty, and so is ehlo; at least one of both is needed")
        return self


class Dns(Rule):
    """A DNS override: a domain's receiving servers, instead of what DNS says."""

    identity: ClassVar[tuple[str, ...]] = ("name",)

    name: Domain = Field(title="Domain", description="The domain whose mail goes to these addresses.")
    addresses: Several[Ip] = Field(
        title="Addresses", min_length=1, max_length=50, description="IP addresses, in the order to try."
    )


class PoolMember(BaseModel):
    """One MTA IP of a pool; as a text `192.0.2.1`, or `192.0.2.1=3` with its weight."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ip: Ip = Field(title="MTA IP", description="Mail of the pool leaves from it.")
    weight: Annotated[Count, Field(ge=1, le=100)] = Field(1, title="Weight", description="Its share, 1 to 100.")

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        ip, equals, weight = value.partition("=")
        if not equals:
            return {"ip": ip}
        if not (weight.isascii() and weight.isdigit()):
            raise ValueError(f"weight: {quoted(weight)} is no number; allowed is 1 to 100, such as 192.0.2.1=3")
        return {"ip": ip, "weight": int(weight[:9])}

    def __str__(self) -> str:
        return self.ip if self.weight == 1 else f"{self.ip}={self.weight}"


class Pool(Rule):
    """MTA IPs under one name; a message that names it leaves from one of them, by weight."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    live: ClassVar[Mapping[str, str]] = {
        "figures": "Of each member: what went through it in the last minute, and what it holds now",
        "moved": "In the answer to a change: MTA IPs that left another pool for this one, and which",
    }

    name: PoolName = Field(title="Name", description="What messages give as pool. Letters, digits, - and _.")
    description: Maybe[Line] = Field(None, title="Description", max_length=500, description="For people.")
    members: Several[PoolMember] = Field(
        (),
        title="Members",
        max_length=200,
        description="MTA IPs; =weight after one (1 to 100) gives it more mail: 192.0.2.1, 192.0.2.2=3. An IP is in "
        "one pool: put here, it leaves another.",
        json_schema_extra={"input": "texts"},
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        ips = [member.ip for member in self.members]
        if twice := next((ip for ip in ips if ips.count(ip) > 1), None):
            raise ValueError(f"members: {twice} is there twice; allowed is once")
        return self

    def taking(self, pools: Iterable[Pool]) -> Iterator[tuple[Pool, Pool]]:
        """The other pools that lose members to this one, each as it is and as it will be."""
        mine = {member.ip for member in self.members}
        for other in pools:
            left = tuple(member for member in other.members if member.ip not in mine)
            if other.id != self.id and len(left) < len(other.members):
                yield other, other.model_copy(update={"members": left})


KINDS: Mapping[str, type[Rule]] = {
    "throttles": Throttle,
    "floods": Flood,
    "pauses": Pause,
    "redirects": Redirect,
    "errors": ForcedError,
    "classes": BounceClass,
    "responses": Response,
    "rewrites": Rewrite,
    "tags": TagRule,
    "providers": ProviderRule,
    "dkim-keys": DkimKey,
    "locals": Local,
    "mta-names": MtaName,
    "dns": Dns,
    "pools": Pool,
    "external-mtas": ExternalMtaRule,
    "schedules": Schedule,
    "warmups": Warmup,
    "alerts": AlertRule,
}
"""The model of each kind, under the name that the API has for it."""

MODELS: Mapping[str, type[Rule]] = {**KINDS, "suppressions": Suppression}
"""With those that may be too many for a snapshot: they have a table of their own."""

__all__ = [
    "KINDS",
    "MODELS",
    "NAMES",
    "DkimKey",
    "Dns",
    "Flood",
    "Limiting",
    "Local",
    "MtaName",
    "Pause",
    "Redirect",
    "Rule",
]
__all__ += ["Throttle"]

NAMES: Mapping[type[Rule], str] = {model: kind for kind, model in MODELS.items()}
