"""rewrite: changes messages by the operator's rules before their route is chosen. Runs after suppress.

What it changes persists in what goes back to the queue, and a rule that is met again changes nothing more. A failure
ends as `rewrite/error`; a delay puts the message back until its time, which is no attempt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from operators.deciding.force import decided
from operators.deciding.pointer import MISSING, looked_up
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import failed, postponed
from operators.mail.head import readable
from operators.mail.message import InvalidMessage, Message
from operators.mail.source import head_of
from operators.stages.stage import Report, Stage, stage, unreported
from settings.rules import Snapshot
from settings.rules.acting import LookedAt, Rewrite, changed_tags, is_within, looked_at_text, parts_of
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
        found = chosen.ordered(_traits(delivery.message), now)
        if not found:
            return delivery
        while found:  # a rule may change what the conditions of those after it look at
            seen = SeenMessage(delivery.message)
            trying = snapshot.worth_trying(found, seen.text)
            rule = next((rule for rule in trying if meets(delivery.message, rule, now, seen)), None)
            if rule is None:
                break
            delivery = changed(decided(delivery, "rewrites", rule.id), rule, now)
            found = list(found)[found.index(rule) + 1 :] if rule.go_on and delivery.outcome is None else []
        return delivery

    return stage("rewrite", step, report)


def _traits(message: Message) -> Traits:
    """What is known of a message before its route: where it asks to leave from, where it goes, its tags."""
    ips = message.ips or ()
    return Traits(ips[0] if len(ips) == 1 else "", message.pool or "", message.domain, "", (), message.tags)


def meets(message: Message, rule: Rewrite, now: float, seen: SeenMessage | None = None) -> bool:
    """Whether the conditions of a rule hold, and it is its time. `seen`: what other rules have looked at already."""
    if rule.hours is not None and not is_within(rule.window, int(now // 60) % MINUTES):
        return False
    tests = rule.tests
    if not tests:
        return True
    seen = seen or SeenMessage(message)
    for what, negated, holds, _ in tests:  # noqa: SIM110 - no generator: many rules are tried on each message
        if holds(seen(what)) is negated:
            return False
    return True


class SeenMessage:
    """What conditions look at in a message, each looked up once, however many rules ask."""

    __slots__ = ("_folded", "_header", "_lower", "_message", "_texts")

    def __init__(self, message: Message) -> None:
        self._message = message
        self._texts: dict[str, str] = {}
        self._folded: dict[str, LookedAt] = {}
        self._header: bytes | None = None

    def __call__(self, what: str) -> LookedAt:
        found = self._folded.get(what)
        if found is None:
            found = self._folded[what] = looked_at_text(self.text(what))
        return found

    def text(self, what: str) -> str:
        """As it is."""
        found = self._texts.get(what)
        if found is None:
            found = self._texts[what] = self._look(what)
        return found

    def _look(self, what: str) -> str:
        if what == "envelope":
            return self._message.envelope or ""
        if what == "recipient":
            return self._message.recipient
        if what.startswith("/"):
            value = looked_up(self._message.properties, _path(what))
            return "" if value is MISSING or value is None else value if isinstance(value, str) else str(value)
        if self._header is None:
            self._header = _header(self._message)
            self._lower = b"\n" + self._header.lower()
        found = _first_field(self._header, self._lower, _name_of(what))
        return _decoded(found.decode("utf-8", "replace")) if found is not None else ""


def _header(message: Message) -> bytes:
    """The header fields; empty where the message cannot be made."""
    try:
        return head_of(message)
    except InvalidMessage:
        return b""


_path = functools.lru_cache(maxsize=1000)(parts_of)


@functools.lru_cache(maxsize=1000)
def _name_of(what: str) -> bytes:
    """The field that `subject` or `header:Name` names, as it stands in a header without case."""
    name = "subject" if what == "subject" else what.partition(":")[2]
    return b"\n" + name.lower().encode() + b":"


def _first_field(header: bytes, folded: bytes, name: bytes) -> bytes | None:
    """The text of the first field of this name, with its continuation lines. `folded`: LF and the header, lower case.

    A search for bytes takes a tenth of what a regular expression does that knows no case.
    """
    if (at := folded.find(name)) < 0:
        return None
    start = at + len(name) - 1
    end = header.find(b"\n", start)
    while end >= 0 and header[end + 1 : end + 2] in (b" ", b"\t"):
        end = header.find(b"\n", end + 1)
    return header[start:] if end < 0 else header[start:end]


def _decoded(text: str) -> str:
    return readable(" ".join(text.split()))


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
