"""rewrite: changes messages by the operator's rules before their route is chosen. Runs after suppress.

What it changes persists in what goes back to the queue, and a rule that is met again changes nothing more. A failure
ends as `rewrite/error`; a delay puts the message back until its time, which is no attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.header import decode_header, make_header
from typing import Any

from operators.deciding.force import decided
from operators.deciding.pointer import MISSING, looked_up
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import failed, postponed
from operators.mail.head import length, name_of, split
from operators.mail.message import InvalidMessage, Message
from operators.mail.source import source_of
from operators.stages.stage import Report, Stage, stage, unreported
from settings.rules import Snapshot
from settings.rules.acting import MessageCondition, Rewrite, changed_tags, conditions, window
from settings.rules.patterns import compile_pattern
from settings.rules.selection import Traits

MINUTES = 24 * 60


def rewrite(rules: Callable[[], Snapshot], clock: Callable[[], float], report: Report = unreported) -> Stage:
    """Applies the rules that a message meets, in the operator's order, until one ends it.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def step(delivery: Delivery) -> Delivery:
        snapshot = rules()
        if not (chosen := snapshot.chosen("rewrites")):
            return delivery
        now = clock()
        found = chosen.matching(_traits(delivery.message), now)
        if not found:
            return delivery
        for rule in sorted(found, key=lambda rule: (rule.order or 0, rule.id)):
            if not meets(delivery.message, rule, now):
                continue
            delivery = changed(decided(delivery, "rewrites", rule.id), rule, now)
            if delivery.outcome is not None or not rule.go_on:
                break
        return delivery

    return stage("rewrite", step, report)


def _traits(message: Message) -> Traits:
    """What is known of a message before its route: where it asks to leave from, where it goes, its tags."""
    ips = message.ips or ()
    return Traits(ips[0] if len(ips) == 1 else "", message.pool or "", message.domain, "", (), message.tags)


def meets(message: Message, rule: Rewrite, now: float) -> bool:
    """Whether the conditions of a rule hold, and it is its time."""
    if rule.hours is not None:
        begin, end = window(rule.hours)
        minute = int(now // 60) % MINUTES
        if not (begin <= minute < end if begin < end else minute >= begin or minute < end):
            return False
    return all(_holds(message, condition) for condition in conditions(rule.when)) if rule.when else True


def _holds(message: Message, condition: MessageCondition) -> bool:
    text = _looked_at(message, condition.what)
    if condition.how == "matches":
        found = compile_pattern("regex", condition.text)(text)
    elif condition.how == "equals":
        found = text.casefold() == condition.text.casefold()
    else:
        found = condition.text.casefold() in text.casefold()
    return found is not condition.negated


def _looked_at(message: Message, what: str) -> str:
    kind = what.lower()
    if kind == "envelope":
        return message.envelope or ""
    if kind == "recipient":
        return message.recipient
    if what.startswith("/"):
        value = looked_up(
            message.properties, [part.replace("~1", "/").replace("~0", "~") for part in what.split("/")[1:]]
        )
        return "" if value is MISSING or value is None else value if isinstance(value, str) else str(value)
    return _header(message, "subject" if kind == "subject" else what.partition(":")[2])


def _header(message: Message, name: str) -> str:
    """The first field of this name, decoded; empty where there is none."""
    try:
        source = source_of(message)
    except InvalidMessage:
        return ""
    wanted = name.lower().encode()
    for field in split(source[: length(source)])[0]:
        if name_of(field) == wanted:
            return _decoded(field.partition(b":")[2].decode("utf-8", "replace"))
    return ""


def _decoded(text: str) -> str:
    plain = " ".join(text.split())
    try:
        return str(make_header(decode_header(plain))) if "=?" in plain else plain
    except (LookupError, ValueError):
        return plain


def changed(delivery: Delivery, rule: Rewrite, now: float) -> Delivery:
    """The delivery after a rule."""
    if rule.fail is not None:
        outcome = failed("rewrite", "error", rule.description, code=rule.fail, status=rule.extended, ours=True)
        return delivery.ended(outcome)
    message = delivery.message
    if changes := _changes(message, rule):
        message = message.updated(**changes)
        delivery = delivery.but(message=message)
    if rule.delay is not None and now < (until := (delivery.lease.queued or now) + rule.delay):
        return delivery.ended(postponed(until, f"delayed by the rule {rule.name!r}"))
    return delivery


def _changes(message: Message, rule: Rewrite) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rule.set_ips:
        found["ips"] = list(rule.set_ips)
    if rule.set_pool is not None:
        found |= {"pool": rule.set_pool, "ips": list(rule.set_ips) or None}
    if rule.add_tags or rule.remove_tags:
        found["tags"] = changed_tags(rule, message.tags) or None
    if rule.smarthost is not None:
        host, port = rule.host
        found["smarthost"] = {"hostname": host, "port": port}
    if rule.header is not None:
        name, text = rule.field
        changes = message.headers or {}
        found["headers"] = {**changes, "replace": {**_object(changes.get("replace")), name: text}}
    return found


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


__all__: Sequence[str] = ["meets", "rewrite"]
