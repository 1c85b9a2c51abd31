"""respond: acts on negative answers by the operator's rules. Runs after deliver and classify, before conclude.

Changes what becomes of the message (given up now, or tried again), its tags, IPs and properties, which persist in what
goes back to the queue, and the entry of this attempt in its results. What was accepted is never touched. What acts
beyond the message, a suppression or a pause, is told to `effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from operators.deciding.force import decided, traits
from operators.deciding.pointer import replaced
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import from_properties
from operators.stages.stage import Done, Report, Stage, handover, unreported
from settings.rules import Snapshot
from settings.rules.acting import Response, assigned, changed_tags
from settings.rules.snapshot import answer_text


class Effects(Protocol):
    """What a rule does beyond its message; both return at once."""

    def suppress(self, delivery: Delivery, rule: Response) -> None:
        """The recipient, or its domain, gets no more mail."""

    def pause(self, delivery: Delivery, rule: Response) -> None:
        """The lane, or the tag, rests for a while."""

    def would(self, rule: Response) -> None:
        """A dry rule would have acted."""


def respond(
    rules: Callable[[], Snapshot], clock: Callable[[], float], effects: Effects, report: Report = unreported
) -> Stage:
    """Acts on each negative answer, in the operator's order, until a rule ends it.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        effects: told what is to be suppressed or paused.
        report: told of exceptions; the delivery goes on as it was.
    """

    def start(delivery: Delivery, done: Done) -> None:
        outcome, snapshot = delivery.outcome, rules()
        if outcome is None or not negative(outcome) or not snapshot.chosen("responses"):
            done(delivery)
            return
        try:
            acted = act(delivery, outcome, snapshot)
        except Exception as error:
            report("respond", delivery, error)
            acted = delivery
        done(acted)

    def act(delivery: Delivery, outcome: Outcome, snapshot: Snapshot) -> Delivery:
        for rule in matching(delivery, outcome, snapshot, clock()):
            if rule.dry:
                effects.would(rule)
                continue
            delivery = applied(decided(delivery, "responses", rule.id), rule, snapshot, clock())
            if rule.suppress is not None:
                effects.suppress(delivery, rule)
            if rule.pause is not None:
                effects.pause(delivery, rule)
            if not rule.go_on:
                break
        return delivery

    return handover("respond", start, report, ended=True)


def negative(outcome: Outcome) -> bool:
    """Whether rules may act on it: an attempt that was not accepted, and is no answer of another rule."""
    return outcome.result != "accepted" and not outcome.ours and outcome.next in (Next.RETRY, Next.FAIL)


def matching(delivery: Delivery, outcome: Outcome, snapshot: Snapshot, now: float) -> Sequence[Response]:
    """The rules that are for this answer, in the operator's order."""
    rules = snapshot.chosen("responses")
    chosen: Iterable[Response] = rules.ordered(traits(delivery, snapshot, rules), now)
    text = answer_text(outcome.code, outcome.status, outcome.description)
    return snapshot.answering([rule for rule in chosen if fits(rule, outcome)], text)


def fits(rule: Response, outcome: Outcome) -> bool:
    """Whether class and kind of answer are those of the rule."""
    if rule.meaning not in (None, outcome.bounce_class):
        return False
    if rule.answer is None:
        return True
    if outcome.result in ("timeout", "lost", "invalid"):
        return rule.answer == "strange"
    return rule.answer == ("permanent" if (outcome.code or 400) >= 500 else "temporary")


def applied(delivery: Delivery, rule: Response, snapshot: Snapshot, now: float) -> Delivery:
    """The delivery with what a rule changes in it."""
    outcome = delivery.outcome
    assert outcome is not None
    delivery = _message(delivery, rule, snapshot)
    if rule.set_result:
        extra = dict(outcome.extra or {})
        for path, value in map(assigned, rule.set_result):
            extra = replaced(extra, path, value)
        outcome = msgspec.structs.replace(outcome, extra=extra)
    return delivery.ended(msgspec.structs.replace(outcome, **_end(delivery, rule, now)))


def _end(delivery: Delivery, rule: Response, now: float) -> dict[str, object]:
    if rule.fail:
        return {"next": Next.FAIL}
    if rule.retry is None and not rule.another_ip:
        return {}
    if rule.attempts is not None and delivery.message.attempts + 1 >= rule.attempts:
        return {}
    return {"next": Next.RETRY, "until": now + (rule.retry or 0)}


def _message(delivery: Delivery, rule: Response, snapshot: Snapshot) -> Delivery:
    message = delivery.message
    changes: dict[str, object] = {}
    if rule.add_tags or rule.remove_tags or rule.set_tags:
        changes["tags"] = changed_tags(rule, message.tags) or None
    if (ips := _ips(delivery, rule, snapshot)) is not None:
        changes["ips"] = ips
    if changes:
        message = message.updated(**changes)
    if rule.set_message:
        properties = message.properties
        for path, value in map(assigned, rule.set_message):
            properties = replaced(properties, path, value)
        message = from_properties(properties)
    return delivery if message is delivery.message else delivery.but(message=message)


def _ips(delivery: Delivery, rule: Response, snapshot: Snapshot) -> list[str] | None:
    """The MTA IPs after the rule; None: as they were. None is ever left without one."""
    given = list(delivery.message.ips or ())
    if rule.another_ip and not given:
        given = list(snapshot.pool(delivery.message.pool or snapshot.pool_of(delivery.ip)))
    ips = list(rule.set_ips) or given
    gone = {*rule.remove_ips, *([delivery.ip] if rule.another_ip else [])}
    ips = [ip for ip in dict.fromkeys((*ips, *rule.add_ips)) if ip not in gone]
    return ips if ips and ips != list(delivery.message.ips or ()) else None
