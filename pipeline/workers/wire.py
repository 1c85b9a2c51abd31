"""Events as they go from a worker to the head: what the views show of them, without bodies. No state but the leases.

Every figure, lane and line that the console shows is a projection of the one event stream; so the head's stream is
that of its workers together, and nothing behind it knows.
"""

from __future__ import annotations

import collections
from typing import Any

import msgspec

from operators.deliveries.delivery import Delivery, Lease, Route
from operators.deliveries.events import (
    Assigned,
    Connected,
    Connecting,
    Disconnected,
    Event,
    Fault,
    Notice,
    Parked,
    Passed,
    Received,
    Redirected,
    Rejected,
    Settled,
    Taken,
    Unparked,
)
from operators.deliveries.outcome import Next, Outcome
from operators.lanes.floods import Active
from operators.lanes.ledger import ConnectionAsk
from operators.mail.message import Message

WHOLE: tuple[type[Event], ...] = (
    Received, Rejected, Connecting, Connected, Disconnected, Fault, Notice, Parked, Unparked,
)  # fmt: skip
KINDS: tuple[type[Event], ...] = (*WHOLE, Taken, Assigned, Redirected, Settled, Passed)
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_TAKEN, _ASSIGNED, _REDIRECTED, _SETTLED, _PASSED = (
    _NUMBER[kind] for kind in (Taken, Assigned, Redirected, Settled, Passed)
)


def packed(event: Event) -> list[Any] | None:
    """The event for the link; None where the head has no use for it."""
    number = _NUMBER.get(type(event))
    if number is None:
        return None
    if number < _TAKEN:
        return [number, msgspec.to_builtins(event)]
    delivery: Delivery = event.delivery  # type: ignore[attr-defined]
    key, message = id(delivery.lease), delivery.message
    if number == _TAKEN:
        recipient = message.recipient[-300:]
        return [
            number, event.time, key, delivery.domain, recipient, message.tags[:10], message.message_id,
            delivery.lease.recalled, (message.envelope or "")[:300], message.attempts,
        ]  # fmt: skip
    if number == _SETTLED:
        settled: Settled = event  # type: ignore[assignment]
        return [
            number, event.time, key, delivery.ip, delivery.lane, msgspec.to_builtins(settled.outcome), settled.retry_at,
            delivery.rules,
        ]  # fmt: skip
    if number == _PASSED:
        passed: Passed = event  # type: ignore[assignment]
        outcome = [getattr(passed.outcome, name) for name in SHOWN]
        route = msgspec.to_builtins(delivery.route)
        return [
            number, event.time, delivery.domain, delivery.ip, delivery.lane, message.tags[:10], route, outcome,
            passed.count, passed.answers,
        ]  # fmt: skip
    route = msgspec.to_builtins(delivery.route)
    from_ip = getattr(event, "from_ip", "")
    return [number, event.time, key, delivery.ip, delivery.lane, route, from_ip]


# Of the outcome of what is delivered; the rest is in the delivery log.
SHOWN = (
    "state", "result", "next", "code", "status", "description", "local_ip", "remote_ip", "host", "messages",
    "attempted",
)  # fmt: skip


class Unpacking:
    """One worker's events, unpacked. Owner of: its leases as the head knows them. Bound: the worker's credit."""

    def __init__(self) -> None:
        self._held: dict[int, Delivery] = {}
        self.parked: collections.Counter[str] = collections.Counter()  # by lane, as its events say

    def event(self, said: list[Any]) -> Event | None:
        """What a worker has said; None where it is of nothing that is known."""
        number, what = said[0], said[1]
        if number < _TAKEN:
            whole: Event = msgspec.convert(what, WHOLE[number])
            if isinstance(whole, Parked):
                self.parked[whole.lane] += whole.count
            elif isinstance(whole, Unparked):
                self.parked[whole.lane] -= whole.count
            return whole
        if number == _TAKEN:
            _, time, key, domain, recipient, tags, message_id, recalled, envelope, attempts = said
            behind: list[dict[str, Any]] = [{}] * min(attempts, 1000)
            message = Message(recipient=recipient, envelope=envelope, tags=tags, message_id=message_id, results=behind)
            delivery = Delivery(lease=Lease(key, b"", recalled=recalled), message=message, domain=domain)
            self._held[key] = delivery
            if recalled is not None:
                self.parked[recalled] -= 1
            return Taken(time=time, delivery=delivery)
        if number == _PASSED:
            return _unpacked(said)
        held = self._held.get(said[2])
        if held is None:
            return None
        if number == _SETTLED:
            _, time, key, ip, lane, outcome, retry_at, rules = said
            del self._held[key]
            found = msgspec.convert(outcome, Outcome)
            if found.next is Next.PARK:
                self.parked[found.lane or ""] += 1
            return Settled(
                time=time, delivery=held.but(ip=ip, lane=lane, rules=tuple(rules)), outcome=found, retry_at=retry_at
            )
        _, time, key, ip, lane, route, from_ip = said
        held = self._held[key] = held.but(ip=ip, lane=lane, route=msgspec.convert(route, Route))
        if number == _ASSIGNED:
            return Assigned(time=time, delivery=held)
        return Redirected(time=time, delivery=held, from_ip=from_ip)

    def given_back(self, now: float) -> list[Event]:
        """The worker has ended: the broker or its file has what it held."""
        outcome = Outcome(state="process", result="error", next=Next.RETURN, description="the worker has ended")
        held, self._held = self._held, {}
        return [Settled(time=now, delivery=delivery, outcome=outcome) for delivery in held.values()]


def flood_words(flood: Active) -> tuple[Any, ...]:
    """A flood for the link; the times are monotonic seconds, which all processes of a machine share."""
    return flood.lane, flood.rule.id, flood.answer, flood.since, flood.paused_until, flood.reduced_until


def asked(values: dict[str, Any]) -> ConnectionAsk:
    """A wish for a connection, as it came over the link."""
    return msgspec.convert(values, ConnectionAsk)


def _unpacked(said: list[Any]) -> Passed:
    _, time, domain, ip, lane, tags, route, outcome, count, answers = said
    delivery = Delivery(
        lease=_NOBODYS,
        message=Message(recipient="", tags=tags),
        domain=domain,
        ip=ip,
        lane=lane,
        route=msgspec.convert(route, Route | None),
    )
    shown = dict(zip(SHOWN, outcome, strict=True))
    ended = Outcome(**shown | {"next": Next(shown["next"])})
    return Passed(time=time, delivery=delivery, outcome=ended, count=count, answers=tuple(map(tuple, answers)))


_NOBODYS = Lease(None, b"")
