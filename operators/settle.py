"""settle: carries out on the queue what was decided, durably, before anything else counts it.

Bound: the credit; what the queue cannot confirm is tried again every `again` seconds, and holds its credit till then.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from reactivex import abc

from operators.delivery import Delivery, Lease
from operators.message import Unreadable, decode_object, from_properties, timestamp
from operators.outcome import Next, failed
from operators.results import copies, refusal, tried
from operators.retry import deadline
from operators.settlement import Park, Retry, Settlement, Unstorable
from operators.stage import Done, Report, Stage, handover, unreported

Settler = Callable[[Lease, Settlement, Callable[[Exception | None], None]], None]
Notify = Callable[[Delivery, float], tuple[str, bytes] | None]
PUT_OFF = 60.0  # seconds until a message comes back whose end could not be worked out
KEPT = ("state", "result", "time", "code", "status")  # of an attempt, where there is no room for all
_encode = msgspec.json.Encoder().encode


def settle(
    queue: Settler,
    queues: dict[str, str],
    lifetime: float,
    clock: Callable[[], float],
    scheduler: abc.SchedulerBase,
    report: Report = unreported,
    notify: Notify = lambda delivery, when: None,
    again: float = 1.0,
) -> Stage:
    """Ends each lease, and hands on the delivery when the queue has confirmed that.

    Args:
        queue: ends a lease, and calls back with None, or with why it could not.
        queues: configured names of the result queues; absent is off.
        lifetime: seconds in the queue after which a message without `maxdelivertime` is given up.
        clock: epoch seconds.
        scheduler: times the tries against a queue that fails.
        report: told when the queue fails.
        notify: the (queue, body) of the notification that a message's end owes its sender, or None.
        again: seconds between those tries.
    """

    def start(delivery: Delivery, done: Done) -> None:
        try:
            settlement = plan(delivery, queues, lifetime, clock(), notify)
        except Exception as error:
            report("settle", delivery, error)
            settlement = unplanned(delivery, queues, clock(), error)

        carry_out(delivery, settlement, done)

    def carry_out(delivery: Delivery, settlement: Settlement, done: Done) -> None:
        """What names itself here is made once, not for each message: else only the garbage collector frees bodies."""

        def confirmed(error: Exception | None) -> None:
            if error is None:
                done(delivery)
                return
            report("settle", delivery, error)
            if isinstance(error, Unstorable):
                carry_out(*instead(delivery, settlement, error), done)
                return
            scheduler.schedule_relative(again, lambda *_: carry_out(delivery, settlement, done))

        queue(delivery.lease, settlement, confirmed)

    def instead(delivery: Delivery, settlement: Settlement, error: Unstorable) -> tuple[Delivery, Settlement]:
        """What the queue can store: the message with what is shorter of its attempts, or else it is given up."""
        if isinstance(settlement.then, Retry) and (body := shorter(settlement.then.body, error.most)) is not None:
            return delivery, Settlement((), Retry(body, settlement.then.at))
        delivery = given_up(delivery, str(error), clock())
        return delivery, plan(delivery, queues, lifetime, clock(), notify)

    return handover("settle", start, report, ended=True)


def shorter(body: bytes, most: int) -> bytes | None:
    """A message in at most so many bytes: of its attempts but the last only what they came to; None where it is larger.

    How many they are stays, since that decides on the next one. What is still too large is tried once: the queue may
    compress it.
    """
    try:
        properties = decode_object(body)
    except Unreadable:
        return None
    results = properties.get("results") or []
    attempts = [{name: one[name] for name in KEPT if name in one} for one in results]
    found = _encode(properties | {"results": [*attempts[:-1], *results[-1:]]})
    if len(found) > most:
        found = _encode(properties | {"results": attempts})
    return found if len(found) < len(body) else None


def given_up(delivery: Delivery, why: str, now: float) -> Delivery:
    """A delivery that cannot be stored any more: its last attempt is noted, and it fails."""
    outcome, message = delivery.outcome, delivery.message
    assert outcome is not None
    if outcome.next is Next.RETRY:
        message = from_properties(tried(message, outcome, now))
    return delivery.but(message=message, outcome=failed("storage", "error", why))


def unplanned(delivery: Delivery, queues: dict[str, str], now: float, error: Exception) -> Settlement:
    """The end of a message whose end cannot be worked out, by a fault of ours; a lease is always settled.

    What is delivered or given up is not sent again, which would go on for ever: the refused queue tells of it.
    """
    if delivery.outcome is not None and delivery.outcome.next in (Next.DELIVERED, Next.FAIL, Next.REFUSE):
        what = f"{delivery.outcome.next.value}, but its result cannot be written: {type(error).__name__}"
        return Settlement(refusal(delivery.lease, queues, what))
    return Settlement(then=Retry(delivery.lease.body, now + PUT_OFF))


def plan(
    delivery: Delivery,
    queues: dict[str, str],
    lifetime: float,
    now: float,
    notify: Notify = lambda delivery, when: None,
) -> Settlement:
    """What replaces the message on the queue, by its outcome. `now` is epoch seconds."""
    outcome, message = delivery.outcome, delivery.message
    assert outcome is not None
    if outcome.next is Next.RETURN:
        return Settlement(give_back=True)
    if outcome.next is Next.PARK:
        return Settlement(then=Park(outcome.lane or "", deadline(message, delivery.lease, lifetime, now)))
    if outcome.next is Next.POSTPONE:
        return Settlement(then=Retry(delivery.lease.body, outcome.until or now))
    publish = copies(delivery, queues, now)
    if outcome.next is not Next.RETRY:
        notice = notify(delivery, now)
        return Settlement([*publish, notice] if notice else publish)
    at = outcome.until or now
    until = timestamp(deadline(message, delivery.lease, lifetime, now))
    body = tried(message, outcome, now) | {"nextattempt": {"time": timestamp(at)}, "maxdelivertime": until}
    return Settlement(publish, Retry(_encode(body), at))
