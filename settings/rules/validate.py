"""The one place that validates a rule: for the API, the console's forms as one types, import, and the store itself.

First the rule by itself (its model), then against the other rules: nothing twice, no loop of redirects. Pure: a form
may call `validate` at every key stroke; `complete` then does what is done once, when the rule is stored.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from settings.rules import key_pairs as keys
from settings.rules.acting import Rewrite
from settings.rules.alerting import MOST as MOST_ALERTS
from settings.rules.alerting import AlertRule
from settings.rules.decisions import SELECTION, ForcedError, names_mail
from settings.rules.models import KINDS, MODELS, NAMES, DkimKey, Redirect, Rule
from settings.rules.snapshot import Snapshot
from settings.rules.warming import Schedule, Warmup, followers


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field (empty: with the rule), and what is allowed, on one line."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidRule(ValueError):
    """The rule cannot be used; `errors` has a line for each mistake."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors))


class NoSuchRule(LookupError):
    """There is no such kind, or no rule of that id."""


def model_of(kind: str) -> type[Rule]:
    """The model of a kind. Raises `NoSuchRule`, naming the kinds there are."""
    try:
        return MODELS[kind]
    except KeyError:
        raise NoSuchRule(f"{kind!r} is no kind of rule; there are {', '.join(KINDS)}") from None


def validate(
    kind: str,
    values: Mapping[str, Any],
    snapshot: Snapshot,
    now: float,
    old: Rule | None = None,
    ours: Mapping[str, Any] | None = None,
) -> Rule:
    """The rule that these values make, checked against the others.

    Args:
        values: JSON values. Read-only fields and live figures are ignored, so that what was read may be sent back.
        snapshot: the rules in force.
        now: epoch seconds.
        old: the rule that is changed. Its read-only fields stay, and its private key where none is given.
        ours: values of read-only fields, for a new rule.

    Raises:
        Invalid: with a line for each mistake.
        NoSuchRule: no such kind.
    """
    rule = parse(kind, {**_entered(kind, values, old), **(ours or {})})
    errors = [*_missing_key(rule), *_past(rule, old, now), *_twice(rule, snapshot), *_loop(rule, snapshot, now)]
    errors += [
        *_no_mail(rule),
        *_too_early(rule, snapshot),
        *_no_schedule(rule, snapshot),
        *_renamed(rule, old, snapshot),
        *_too_many(rule, snapshot),
    ]
    if errors:
        raise InvalidRule(errors)
    return rule


def complete(rule: Rule, snapshot: Snapshot, now: float = 0.0, old: Rule | None = None) -> Rule:
    """The rule as it is stored: with the key to generate (which takes a while), its place in the order, its start."""
    if isinstance(rule, Warmup) and rule.started is None:
        begun = old.started if isinstance(old, Warmup) else datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        return rule.model_copy(update={"started": begun})
    if isinstance(rule, DkimKey) and rule.generate:
        pem = keys.generate(rule.algorithm or "rsa")
        return DkimKey.model_validate({**fields_of(rule), "key": SecretStr(pem), "generate": False})
    if "order" in type(rule).model_fields and getattr(rule, "order") is None:  # noqa: B009
        others = [getattr(other, "order") or 0 for other in snapshot.rules(NAMES[type(rule)]) if other.id != rule.id]  # noqa: B009
        return rule.model_copy(update={"order": max(others, default=0) + 1})
    return rule


def counterpart(kind: str, values: Mapping[str, Any], snapshot: Snapshot) -> Rule | None:
    """The rule in force that an imported one is about: of the same identity, or, where there is no such thing, equal.

    Raises `InvalidRule`, `NoSuchRule`.
    """
    rule = parse(kind, _entered(kind, values, None))
    ours = read_only(type(rule))
    names = rule.identity or [name for name in type(rule).model_fields if name not in ours]
    return next((other for other in snapshot.rules(kind) if _alike(other, rule, names)), None)


def parse(kind: str, values: Mapping[str, Any]) -> Rule:
    """The rule that these values make, by itself. Raises `InvalidRule`, `NoSuchRule`."""
    model = model_of(kind)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        parts = {detail["loc"][:-1] for detail in details}  # a list is too short since its items are wrong: said once
        told = [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in parts]
        raise InvalidRule(_explain(detail, model) for detail in told) from None


def fields_of(rule: Rule) -> dict[str, Any]:
    """The rule's own fields as Python values, the private key among them: for building another rule, never to show."""
    return {name: getattr(rule, name) for name in type(rule).model_fields}


def read_only(model: type[Rule]) -> set[str]:
    """The fields that are ours to write."""
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    mine = {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("read_only")}
    return mine | set(model.model_computed_fields)


def _entered(kind: str, values: Mapping[str, Any], old: Rule | None) -> dict[str, Any]:
    model = model_of(kind)
    ignored = read_only(model) | set(model.live)
    entered = {name: value for name, value in values.items() if name not in ignored}
    if old is not None:
        kept = read_only(model) & set(model.model_fields)
        entered |= {name: getattr(old, name) for name in kept}
        if isinstance(old, DkimKey) and not entered.get("key") and not entered.get("generate"):
            entered["key"] = old.key
            entered.pop("algorithm", None)
        entered |= {name: getattr(old, name) for name in model.secrets if not entered.get(name)}
    return entered


def _missing_key(rule: Rule) -> Iterable[FieldError]:
    if isinstance(rule, DkimKey) and rule.key is None and not rule.generate:
        yield FieldError("key", f"is missing; {keys.ALLOWED}, or generate")


def _past(rule: Rule, old: Rule | None, now: float) -> Iterable[FieldError]:
    if rule.ended(now) and (old is None or getattr(old, "until", None) != getattr(rule, "until", None)):
        yield FieldError("until", "is past; allowed is a time to come, or empty")


def _twice(rule: Rule, snapshot: Snapshot) -> Iterable[FieldError]:
    kind = NAMES[type(rule)]
    if not rule.identity:
        return
    for other in snapshot.rules(kind):
        if other.id != rule.id and _alike(other, rule, rule.identity):
            given = [name for name in rule.identity if getattr(rule, name)]
            what = ", ".join(f"{name} {getattr(rule, name) or 'empty'}" for name in given or rule.identity)
            yield FieldError(rule.identity[0], f"there is a rule with {what} already (id {other.id}); allowed is one")


def _alike(one: Rule, other: Rule, names: Sequence[str]) -> bool:
    """Whether both have the same values; from the last name, which tells most rules apart: imports ask often."""
    return all(getattr(one, name) == getattr(other, name) for name in reversed(names))


def deletable(rule: Rule, snapshot: Snapshot) -> None:
    """Whether nothing needs this rule. Raises `InvalidRule`."""
    if isinstance(rule, Schedule) and (users := _followers(rule.name, snapshot)):
        raise InvalidRule([FieldError("", f"{users} needs it; allowed is to delete what no warm-up follows")])


def _followers(schedule: str, snapshot: Snapshot) -> str:
    """The warm-ups that follow a schedule, for people."""
    return ", ".join(f"the warm-up of {one}" for one in followers(schedule, snapshot.rules("warmups"))[:3])


def _no_mail(rule: Rule) -> Iterable[FieldError]:
    """Only of what is entered: a stored rule for all mail, of an older version, stays in force."""
    if isinstance(rule, ForcedError) and not names_mail(rule):
        yield FieldError("tag", f'names no mail; needed is one of {", ".join(SELECTION)}, or "all": true for all mail')


def _too_early(rule: Rule, snapshot: Snapshot) -> Iterable[FieldError]:
    """A rewrite rule looks at a message before DNS has said where it goes."""
    if not isinstance(rule, Rewrite):
        return
    if rule.remote_ip is not None:
        yield FieldError("remote_ip", "is not known before the route is chosen; allowed is a domain, or empty")
    if rule.domain is not None and snapshot.names_provider(rule.domain):
        why = f"{rule.domain} is a provider, which is not known before the route is chosen; allowed is a domain"
        yield FieldError("domain", why)


def _no_schedule(rule: Rule, snapshot: Snapshot) -> Iterable[FieldError]:
    if isinstance(rule, Warmup) and snapshot.schedule(rule.schedule) is None:
        there = ", ".join(other.name for other in snapshot.rules("schedules") if isinstance(other, Schedule))
        yield FieldError("schedule", f"is none of the schedules; there are {there or 'none yet'}")


def _too_many(rule: Rule, snapshot: Snapshot) -> Iterable[FieldError]:
    """Alert rules are looked at every few seconds."""
    if isinstance(rule, AlertRule) and not rule.id and len(snapshot.rules("alerts")) >= MOST_ALERTS:
        yield FieldError("", f"there are {MOST_ALERTS} alert rules already; allowed are no more")


def _renamed(rule: Rule, old: Rule | None, snapshot: Snapshot) -> Iterable[FieldError]:
    renamed = isinstance(rule, Schedule) and isinstance(old, Schedule) and rule.name != old.name
    if renamed and isinstance(old, Schedule) and (users := _followers(old.name, snapshot)):
        yield FieldError("name", f"{users} follows it by its name; allowed is to keep the name")


def _loop(rule: Rule, snapshot: Snapshot, now: float) -> Iterable[FieldError]:
    """A loop of redirects, followed for each target that a rule names, and for all others."""
    if not isinstance(rule, Redirect) or rule.ended(now):
        return
    trial = snapshot.having(rule)
    targets = {(r.domain, r.remote_ip) for r in trial.redirects} | {(None, None)}
    for domain, remote_ip in sorted(targets, key=str):
        if path := _circle(trial, rule, domain, remote_ip, now):
            where = domain or remote_ip or "all mail"
            yield FieldError("to_ip", f"makes a loop for {where}: {' > '.join(path)}; allowed are chains that end")
            return


def _circle(trial: Snapshot, rule: Redirect, domain: str | None, remote_ip: str | None, now: float) -> list[str]:
    remote_ips = (remote_ip,) if remote_ip else ()
    chain = trial.redirects_of(rule.from_ip, domain or "", remote_ips, now)
    path = [rule.from_ip, *(step.to_ip for step in chain)]
    return path if path[-1] in path[:-1] else []


def _explain(detail: ErrorDetails, model: type[Rule]) -> FieldError:
    """A line of our own for each of pydantic's. What was entered is quoted only where a type of ours does it."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    context = detail.get("ctx", {})
    if detail["type"] == "value_error":
        text = str(context["error"])
        field, colon, message = text.partition(": ")
        if not colon or not field.isidentifier():  # said of one field, by its own type
            return FieldError(path, text)
        return FieldError(f"{path}.{field}" if path else field, message)
    allowed = ", ".join(name for name in model.model_fields if name not in read_only(model))
    texts = {
        "missing": "is missing, and is needed",
        "extra_forbidden": f"is no field of this rule; allowed are {allowed}",
        "literal_error": f"is none of these: {context.get('expected')}",
        "greater_than_equal": f"is too small; allowed is {context.get('ge')} or more",
        "less_than_equal": f"is too large; allowed is {context.get('le')} or less",
        "string_type": "must be text",
        "string_too_short": "is empty, and is needed",
        "string_too_long": f"is too long; allowed are {context.get('max_length')} characters",
        "too_short": f"has too few; needed is {context.get('min_length')} at least",
        "too_long": f"has too many; allowed are {context.get('max_length')}",
        "finite_number": "must be a number",
    }
    kinds = {"int": "must be a whole number", "float": "must be a number", "bool": "must be true or false"}
    kinds |= {"datetime": "is no time; allowed is ISO 8601, such as 2030-01-31T12:00:00Z"}
    plain = kinds.get(detail["type"].partition("_")[0], detail["msg"])
    return FieldError(path, texts.get(detail["type"], plain))
