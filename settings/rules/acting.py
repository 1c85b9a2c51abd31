"""The rules that act on answers and on messages, each a model: bounce classes, response rules, rewrite rules."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from settings.rules.decisions import CLASSES, same_class
from settings.rules.fields import Count, Ip, Line, Maybe, Permanent, PoolName, Several, Status, Time, quoted
from settings.rules.patterns import Matcher, Tried, Type, compile_pattern, literal, tried
from settings.rules.rule import Rule, check, unit
from settings.rules.selection import Selecting

Meaning = Literal[CLASSES]  # type: ignore[valid-type]
Answer = Literal["permanent", "temporary", "strange"]
Tag = Annotated[Line, Field(min_length=1, max_length=200)]
Tags = Several[Tag]
NOT_OURS = ("recipient", "envelope", "mime", "results", "message-id", "received")
# MailerQ's names for results, as they stand in what is imported from it.
MAILERQ: Mapping[str, Mapping[str, str]] = {
    "fatal": {"answer": "permanent"},
    "individual": {"answer": "permanent"},
    "strange": {"answer": "strange"},
    "greylisted": {"meaning": "greylisted"},
    "fallback": {},
}
_Name = Annotated[Line, Field(min_length=1, max_length=100)]


class BounceClass(Rule):
    """A pattern of the operator's, and what an answer that it matches means. They come before the shipped table."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    live: ClassVar[Mapping[str, str]] = {"used": "Answers that have their class from it, since the start"}

    name: _Name = Field(title="Name", description="For people.")
    type: Type = Field("substring", title="Type", description="How the answer is matched. Case never matters.")
    pattern: Line = Field(
        title="Pattern", min_length=1, max_length=500, description="Matched against code, status and text of answers."
    )
    meaning: Meaning = Field(title="Class", description="What such an answer means.")
    order: Maybe[Count] = Field(None, title="Order", description="The first match in this order wins. Empty: last.")

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        check("pattern", compile_pattern, self.type, self.pattern)
        return self


def _assignment(value: str) -> str:
    pointer, equals, text = value.partition("=")
    if not (equals and pointer.startswith("/")):
        raise ValueError(f"{quoted(value)} is no assignment; allowed is a JSON Pointer, = and a value: /data/x=1")
    if pointer.split("/")[1] in NOT_OURS:
        raise ValueError(f"{quoted(pointer)} cannot be set by a rule")
    return f"{pointer}={text}"


Assignment = Annotated[Line, AfterValidator(_assignment), Field(max_length=1000)]


def assigned(assignment: str) -> tuple[list[str], Any]:
    """The path and the value of an assignment; what is no JSON is text (RFC 6901)."""
    pointer, _, text = assignment.partition("=")
    try:
        return parts_of(pointer), json.loads(text)
    except ValueError:
        return parts_of(pointer), text


def parts_of(pointer: str) -> list[str]:
    """The names on the way of a JSON Pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


class _Trigger(Selecting):
    name: _Name = Field(title="Name", description="Shown beside what the rule has done.")
    type: Maybe[Type] = Field(None, title="Type", description="How the pattern is matched. Empty: substring.")
    pattern: Maybe[Line] = Field(
        None, title="Pattern", max_length=500, description="Matched against code, status and text. Empty: any answer."
    )
    meaning: Maybe[Meaning] = Field(None, title="Class", description="What the answer means. Empty: anything.")
    answer: Maybe[Answer] = Field(
        None, title="Answer", description="permanent: 5xx. temporary: 4xx. strange: no usable one. Empty: all."
    )


class Response(_Trigger):
    """Acts when a negative answer comes: to a delivery that is selected, by pattern, by class, or by both."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    live: ClassVar[Mapping[str, str]] = {
        "used": "Answers that it has acted on since the start",
        "would": "Answers that it would have acted on, while dry",
    }

    order: Maybe[Count] = Field(None, title="Order", description="They are asked in this order. Empty: last.")
    go_on: bool = Field(False, title="Continue", strict=True, description="Rules after it are asked too.")
    dry: bool = Field(False, title="Dry", strict=True, description="Only counts what it would have done.")
    fail: bool = Field(False, title="Fail", strict=True, description="Give the message up now.")
    retry: Maybe[Count] = Field(
        None, title="Retry", description="Try again after so long.", json_schema_extra=unit("seconds")
    )
    attempts: Maybe[Count] = Field(None, title="Attempts", ge=1, description="At most so many in all. Empty: any.")
    another_ip: bool = Field(False, title="Another IP", strict=True, description="From another IP of its pool.")
    add_tags: Tags = Field((), title="Add tags", max_length=20)
    remove_tags: Tags = Field((), title="Remove tags", max_length=20)
    set_tags: Tags = Field((), title="Set tags", max_length=20)
    add_ips: Several[Ip] = Field((), title="Add IPs", max_length=50)
    remove_ips: Several[Ip] = Field((), title="Remove IPs", max_length=50)
    set_ips: Several[Ip] = Field((), title="Set IPs", max_length=50)
    set_message: Several[Assignment] = Field(
        (), title="Set in message", max_length=20, description="JSON Pointer and value: /data/tried=true"
    )
    set_result: Several[Assignment] = Field(
        (), title="Set in result", max_length=20, description="JSON Pointer and value, in the result's entry."
    )
    suppress: Maybe[Literal["address", "domain"]] = Field(None, title="Suppress", description="The recipient's.")
    suppress_days: Maybe[Count] = Field(
        None, title="Suppress for", ge=1, description="Empty: for ever.", json_schema_extra=unit("days")
    )
    pause: Maybe[Literal["lane", "tag"]] = Field(
        None, title="Pause", description="lane: the whole lane. tag: mail with the rule's tag, or the message's first."
    )
    pause_seconds: Count = Field(600, title="Pause for", ge=1, le=31_536_000, json_schema_extra=unit("seconds"))
    until: Maybe[Time] = Field(None, title="Until", description="When the rule ends, UTC. Empty: never.")

    @model_validator(mode="before")
    @classmethod
    def _mailerq(cls, values: Any) -> Any:
        if isinstance(values, dict) and (found := MAILERQ.get(str(values.get("result", "")))) is not None:
            return {**{name: value for name, value in values.items() if name != "result"}, **found}
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.pattern is not None:
            check("pattern", compile_pattern, self.type or "substring", self.pattern)
        check("retry", _not_both, self.fail, self.retry is not None or self.another_ip)
        return self

    @functools.cached_property
    def matcher(self) -> Matcher:
        """Whether an answer matches its pattern."""
        return (
            compile_pattern(self.type or "substring", self.pattern) if self.pattern else compile_pattern("global", "")
        )


def _not_both(fail: bool, retry: bool) -> None:
    if fail and retry:
        raise ValueError("is given, and so is fail; allowed is one of both")


class MessageCondition(NamedTuple):
    """One condition of a rewrite rule: what is looked at, how, and whether it must not hold."""

    what: str
    negated: bool
    how: str
    text: str


_CONDITION = re.compile(
    r"""\s*(envelope|recipient|subject|header:[!-9;-~]+|/\S*)\s+(not\s+)?(equals|contains|matches)\s+
    (?:"([^"]*)"|'([^']*)'|(\S+))\s*(and\s|\Z)""",
    re.VERBOSE | re.IGNORECASE,
).match
GRAMMAR = 'envelope, recipient, subject, header:Name or /pointer; (not) equals, contains or matches; "text"; and ...'


def conditions(text: str | None) -> list[MessageCondition]:
    """The conditions in a text, all of which must hold; raises `ValueError` with what is allowed."""
    found: list[MessageCondition] = []
    at, text = 0, text or ""
    while at < len(text):
        if (one := _CONDITION(text, at)) is None:
            raise ValueError(f"cannot be read at {quoted(text[at : at + 40])}; allowed is {GRAMMAR}")
        what, negated, how, *texts = one.groups()[:6]
        words = next((text for text in texts if text is not None), "")
        if how.lower() == "matches":
            compile_pattern("regex", words)
        found.append(MessageCondition(what, negated is not None, how.lower(), words))
        if one.end() == len(text) and one[7]:
            raise ValueError(f"ends with `and`; allowed is {GRAMMAR}")
        at = one.end()
    return found


class LookedAt(NamedTuple):
    """A text that conditions are tried on, as it is and without case."""

    text: str
    folded: str


def looked_at_text(text: str) -> LookedAt:
    """For conditions."""
    return LookedAt(text, text.casefold())


class ConditionTest(NamedTuple):
    """A condition ready to be tried: what is looked at, whether it must not hold, and how, alone and with others."""

    what: str
    negated: bool
    holds: Callable[[LookedAt], bool]
    tried: Tried


def tested(condition: MessageCondition) -> ConditionTest:
    """What a condition looks at, whether it must not hold, and whether it holds for a text."""
    what = condition.what if condition.what.startswith("/") else condition.what.lower()
    folded = condition.text.casefold()
    if condition.how == "matches":
        matches = compile_pattern("regex", condition.text)
        return ConditionTest(what, condition.negated, lambda seen: matches(seen.text), tried("regex", condition.text))
    if condition.how == "equals":
        whole = literal(folded, True, lambda text: text.casefold() == folded)
        return ConditionTest(what, condition.negated, lambda seen: seen.folded == folded, whole)
    part = literal(folded, False, lambda text: folded in text.casefold())
    return ConditionTest(what, condition.negated, lambda seen: folded in seen.folded, part)


_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)").fullmatch


def window(text: str) -> tuple[int, int]:
    """`22:00-06:00` as minutes of the day, from (included) and to; raises `ValueError`."""
    if (found := _HOURS(text)) is None:
        raise ValueError(f"{quoted(text)} is no time of day; allowed are such as 22:00-06:00, in UTC")
    one, two, three, four = map(int, found.groups())
    return one * 60 + two, three * 60 + four


def is_within(hours: tuple[int, int], minute: int) -> bool:
    """Whether a minute of the day is in such a window, which may be over midnight."""
    begin, end = hours
    return begin <= minute < end if begin < end else minute >= begin or minute < end


_HEADER = re.compile(r"([!-9;-~]{1,200}):\s*(\S.*)").fullmatch
_SMARTHOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?").fullmatch


def _shape(what: str, allowed: str) -> Any:
    def test(found: object) -> None:
        if found is None:
            raise ValueError(f"is no {what}; allowed is {allowed}")

    return test


class Rewrite(Selecting):
    """Changes a message before its route is chosen: where it leaves from, by which way, when, or whether at all."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    live: ClassVar[Mapping[str, str]] = {"used": "Ends of messages that it has changed, since the start"}

    name: _Name = Field(title="Name", description="For people.")
    when: Maybe[Line] = Field(
        None,
        title="When",
        max_length=2000,
        description='Conditions: subject contains "sale" and envelope not equals ""',
    )
    hours: Maybe[Line] = Field(None, title="Hours", description="Only then, UTC: 22:00-06:00. Empty: always.")
    order: Maybe[Count] = Field(None, title="Order", description="They are asked in this order. Empty: last.")
    go_on: bool = Field(False, title="Continue", strict=True, description="Rules after it are asked too.")
    set_ips: Several[Ip] = Field((), title="Set IPs", max_length=50, description="MTA IPs that it may leave from.")
    set_pool: Maybe[PoolName] = Field(None, title="Set pool", description="The pool that it leaves from.")
    add_tags: Tags = Field((), title="Add tags", max_length=20)
    remove_tags: Tags = Field((), title="Remove tags", max_length=20)
    smarthost: Maybe[Line] = Field(None, title="Smarthost", description="Deliver there: host or host:port.")
    delay: Maybe[Count] = Field(
        None, title="Delay", description="Not before so long after it was queued.", json_schema_extra=unit("seconds")
    )
    header: Maybe[Line] = Field(None, title="Header", max_length=900, description="Set this field: X-Class: bulk")
    fail: Maybe[Permanent] = Field(None, title="Fail", description="Give it up, with this code.")
    extended: Maybe[Status] = Field(None, title="Status", description="Enhanced status, with fail.")
    description: Line = Field("Refused by a rule", title="Text", max_length=500, description="With fail.")
    until: Maybe[Time] = Field(None, title="Until", description="When the rule ends, UTC. Empty: never.")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        check("when", conditions, self.when)
        if self.hours is not None:
            check("hours", window, self.hours)
        if self.header is not None:
            check("header", _shape("header field", "a name, a colon and a text"), _HEADER(self.header))
        if self.smarthost is not None:
            check("smarthost", _shape("host", "host or host:port"), _SMARTHOST(self.smarthost))
        check("extended", same_class, self.fail or 500, self.extended)
        return self

    @functools.cached_property
    def tests(self) -> tuple[ConditionTest, ...]:
        """Its conditions, ready to be tried."""
        return tuple(map(tested, conditions(self.when)))

    @functools.cached_property
    def window(self) -> tuple[int, int]:
        """Its hours, in minutes of the day."""
        return window(self.hours or "00:00-00:00")

    @property
    def field(self) -> tuple[str, str]:
        """Name and text of the header field that it sets."""
        found = _HEADER(self.header or "")
        return (found[1], found[2]) if found else ("", "")

    @property
    def host(self) -> tuple[str, int]:
        """The smarthost and its port."""
        found = _SMARTHOST(self.smarthost or "")
        return (found[1], int(found[2] or 25)) if found else ("", 25)


def changed_tags(rule: Response | Rewrite, tags: Sequence[str]) -> list[str]:
    """The tags after a rule."""
    given = list(rule.set_tags) if isinstance(rule, Response) and rule.set_tags else list(tags)
    kept = [tag for tag in given if tag not in rule.remove_tags]
    return list(dict.fromkeys((*kept, *rule.add_tags)))
