"""Warm-up, as rules: schedules, whose steps say how much may leave on which day, and warm-ups, which follow one."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from settings.rules.fields import Count, Domain, Ip, Line, Maybe, PoolName, Several, Time, one_line, quoted
from settings.rules.limits import Limits
from settings.rules.rule import Rule, check, unit

STEPS = 100
LAST_DAY = 3650
LIMITS: tuple[str, ...] = (
    "domain_messages", "domain_connects", "domain_connections", "ip_messages", "ip_connects", "ip_connections",
    "connection_messages",
)  # fmt: skip
ALLOWED = f"day=cap, such as 1=50, or with limits 1=50/domain_connections=2; the limits are {', '.join(LIMITS)}"
Day = Annotated[Count, Field(ge=1, le=LAST_DAY)]
Share = Annotated[int, Field(ge=1, le=100)]


class WarmupStep(BaseModel):
    """From a day on: the most messages in a day, and limits of lanes. As a text `1=50/domain_connections=2`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    day: Day = Field(title="Day", description="From this day of the warm-up on.")
    cap: Count = Field(title="Cap", description="The most messages in a day. 0: unlimited.")
    domain_messages: Maybe[Count] = Field(None, title="Attempts a minute")
    domain_connects: Maybe[Count] = Field(None, title="New connections a minute")
    domain_connections: Maybe[Count] = Field(None, title="Connections")
    ip_messages: Maybe[Count] = Field(None, title="Attempts a minute to each remote IP")
    ip_connects: Maybe[Count] = Field(None, title="New connections a minute to each remote IP")
    ip_connections: Maybe[Count] = Field(None, title="Connections to each remote IP")
    connection_messages: Maybe[Count] = Field(None, title="Messages over one connection")

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        first, *more = value.split("/")
        found: dict[str, Any] = {}
        for name, part in [("", first), *((None, one) for one in more)]:
            key, equals, number = part.partition("=")
            if not (equals and number.isascii() and number.isdigit() and (name is None or key.isdigit())):
                raise ValueError(f"{quoted(value)} is no step; allowed is {ALLOWED}")
            found |= {"day": int(key[:9]), "cap": int(number[:12])} if name == "" else {key: int(number[:12])}
        return found

    def __str__(self) -> str:
        limits = [f"{name}={value}" for name in LIMITS if (value := getattr(self, name)) is not None]
        return "/".join([f"{self.day}={self.cap}", *limits])

    def over(self, base: Limits) -> Limits:
        """`base`, where the step asks for less of something; 0 is unlimited."""
        mine = {name: value for name in LIMITS if (value := getattr(self, name))}
        less = {name: value for name, value in mine.items() if not getattr(base, name) or value < getattr(base, name)}
        return msgspec.structs.replace(base, **less) if less else base


class Schedule(Rule):
    """How much may leave on which day of a warm-up. The last step stays."""

    identity: ClassVar[tuple[str, ...]] = ("name",)

    name: Line = Field(title="Name", min_length=1, max_length=100, description="Warm-ups name it.")
    description: Maybe[Line] = Field(None, title="Description", max_length=500, description="For people.")
    steps: Several[WarmupStep] = Field(
        title="Steps",
        min_length=1,
        max_length=STEPS,
        description="day=cap: from this day on, the most messages in a day: 1=50, 2=100, 5=1000. Limits of lanes after "
        "a slash: 1=50/domain_connections=2. A cap of 0 is unlimited.",
        json_schema_extra={"input": "texts"},
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        days = [step.day for step in self.steps]
        if days != sorted(set(days)) or days[0] != 1:
            raise ValueError("steps: allowed are days that begin with 1 and grow, each once")
        return self

    def step(self, day: int) -> WarmupStep:
        """The step of a day."""
        return max((step for step in self.steps if step.day <= day), key=lambda step: step.day, default=self.steps[0])

    def step_before(self, day: int) -> int:
        """The first day of the step before the one of this day; of the first step its own."""
        earlier = [step.day for step in self.steps if step.day < self.step(day).day]
        return max(earlier, default=self.steps[0].day)

    @property
    def last_day(self) -> int:
        """The day from which on nothing changes."""
        return self.steps[-1].day


def _zone(value: str) -> str:
    name = one_line(value)
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{quoted(name)} is no time zone; allowed are names such as UTC or Europe/Berlin") from None
    return name


Zone = Annotated[str, AfterValidator(_zone), Field(max_length=100)]


class Warmup(Rule):
    """Warms an MTA IP, or each of a pool, for a destination: a cap for each day, and the limits of its step."""

    identity: ClassVar[tuple[str, ...]] = ("ip", "pool", "domain")
    live: ClassVar[Mapping[str, str]] = {
        "progress": "Of each MTA IP: day, state, today's cap and use, rate of deferrals, the curve so far and to come"
    }
    tag: ClassVar[None] = None  # a cap is of all mail that the receiver sees
    remote_ip: ClassVar[None] = None

    schedule: Line = Field(title="Schedule", min_length=1, max_length=100, description="The name of one.")
    ip: Maybe[Ip] = Field(None, title="MTA IP", description="The address that is warmed. Empty: those of the pool.")
    pool: Maybe[PoolName] = Field(None, title="Pool", description="Each of its MTA IPs. Empty: the MTA IP.")
    domain: Maybe[Domain] = Field(
        None, title="Domain", description="The destination: a domain, or a provider's name. Empty: all mail."
    )
    overflow: Literal["pool", "wait"] = Field(
        "pool",
        title="Over the cap",
        description="pool: leaves from the other MTA IPs that the message may use, and waits where there is none. "
        "wait: waits for tomorrow.",
    )
    time_zone: Zone = Field("UTC", title="Time zone", description="Whose days count: UTC, Europe/Berlin.")
    deferrals: Maybe[Share] = Field(
        30,
        title="Deferrals",
        description="A day with more of them is not followed by the next. From 100 attempts on. Empty: never.",
        json_schema_extra=unit("percent"),
    )
    failures: Maybe[Share] = Field(
        10,
        title="Failures",
        description="The same, of answers that gave a message up. Empty: never.",
        json_schema_extra=unit("percent"),
    )
    then: Literal["hold", "back"] = Field(
        "hold", title="Then", description="hold: the day stays. back: it goes back to the step before."
    )
    day: Day = Field(1, title="First day", description="The day of the schedule that it begins with.")
    started: Maybe[Time] = Field(
        None, title="Started", description="UTC; a later time begins it then. Empty: when the rule is made."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        check("ip", _one_of, self.ip, self.pool)
        return self


def _one_of(ip: str | None, pool: str | None) -> None:
    if ip is None and pool is None:
        raise ValueError("is missing, and so is pool; needed is one of both")
    if ip is not None and pool is not None:
        raise ValueError("is given, and so is pool; allowed is one of both")


def followers(schedule: str, rules: Iterable[Rule]) -> list[str]:
    """The warm-ups among these rules that follow a schedule, for people: what is warmed, and for whom."""
    found = (rule for rule in rules if isinstance(rule, Warmup) and rule.schedule == schedule)
    return [f"{rule.ip or rule.pool} to {rule.domain or 'all'}" for rule in found]
