"""settle: carries out on the queue what was decided, durably, before anything else counts it.

Bound: the credit; what the queue cannot confirm is tried again every `again` seconds, and holds its credit till then.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from reactivex import abc

from operators.delivery import Delivery, Lease
from operators.message import timestamp
from operators.outcome import Next
from operators.results import copies, refusal, tried
from operators.retry import deadline
from operators.settlement import Park, Retry, Settlement
from operators.stage import Done, Report, Stage, handover, unreported

Settler = Callable[[Lease, Settlement, Callable[[Exception | None], None]], None]
Notify = Callable[[Delivery, float], tuple[str, bytes] | None]
PUT_OFF = 60.0  # seconds until a message comes back whose end could not be worked out
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
            scheduler.schedule_relative(again, lambda *_: carry_out(delivery, settlement, done))

        queue(delivery.lease, settlement, confirmed)

    return handover("settle", start, report, ended=True)


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
