"""settle: carries out on the queue what was decided, durably, before anything else counts it.

What cannot be said of an attempt is left out: a fault of ours gets around neither its place in `results`, nor the time
of the retry, nor the copy and the notification at the end.
Bound: the credit; what the queue cannot confirm is tried again every `again` seconds, and holds its credit till then.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from reactivex import abc

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import RESULTS, STATES, Next, Outcome, failed
from operators.deliveries.replies import clean
from operators.deliveries.results import copies, refusal, tried
from operators.deliveries.retry import deadline
from operators.deliveries.settlement import Park, Retry, Settlement, Unstorable
from operators.mail.message import Unreadable, decode, decode_object, from_properties, timestamp
from operators.stages.stage import Done, Report, Stage, handover, unreported

Settler = Callable[[Lease, Settlement, Callable[[Exception | None], None]], None]
Notify = Callable[[Delivery, float], tuple[str, bytes] | None]
PUT_OFF = 60.0  # seconds until a message comes back whose retry time could not be computed
SHOWN = 1000  # characters
KEPT = ("state", "result", "time", "code", "status", "skipped")  # of an attempt, where there is no room for all
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
        carry_out(delivery, work_out(delivery, queues, lifetime, clock(), notify, report), done)

    def carry_out(delivery: Delivery, settlement: Settlement, done: Done) -> None:
        """What names itself here is made once, not for each message: else only the garbage collector frees bodies."""
        told = False

        def confirmed(error: Exception | None) -> None:
            nonlocal told
            told = True
            if error is None:
                done(delivery)
                return
            report("settle", delivery, error)
            if isinstance(error, Unstorable):
                carry_out(*instead(delivery, settlement, error), done)
                return
            scheduler.schedule_relative(again, lambda *_: carry_out(delivery, settlement, done))

        try:
            queue(delivery.lease, settlement, confirmed)
        except Exception as error:
            if told:
                raise
            confirmed(error)

    def instead(delivery: Delivery, settlement: Settlement, error: Unstorable) -> tuple[Delivery, Settlement]:
        """What the queue can store: the message with what is shorter of its attempts, or else it is given up."""
        if isinstance(settlement.then, Retry) and (body := shorter(settlement.then.body, error.most)) is not None:
            return delivery, Settlement((), Retry(body, settlement.then.at, settlement.then.content))
        delivery = given_up(delivery, str(error), clock())
        return delivery, work_out(delivery, queues, lifetime, clock(), notify, report)

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


def work_out(
    delivery: Delivery, queues: dict[str, str], lifetime: float, now: float, notify: Notify, report: Report
) -> Settlement:
    """What replaces the message, with ever less of what may be at fault: a lease is always settled."""

    def noticed(delivery: Delivery, when: float) -> tuple[str, bytes] | None:
        for less in (as_it_is, plainly):
            try:
                return notify(less(delivery), when)
            except Exception as error:
                report("settle", delivery, error)
        return None

    for less in (as_it_is, plainly, as_it_came):
        try:
            return plan(less(delivery), queues, lifetime, now, noticed)
        except Exception as error:
            report("settle", delivery, error)
            fault = error
    return unplanned(delivery, queues, lifetime, now, fault)


def as_it_is(delivery: Delivery) -> Delivery:
    """Nearly always."""
    return delivery


def plainly(delivery: Delivery) -> Delivery:
    """With an outcome of what cannot be at fault."""
    outcome = delivery.outcome
    assert outcome is not None
    state = outcome.state if outcome.state in STATES else "process"
    result = outcome.result if outcome.result in RESULTS else "error"
    code = outcome.code if isinstance(outcome.code, int) else None
    plain = Outcome(state=state, result=result, next=outcome.next, code=code, until=outcome.until, lane=outcome.lane)
    status = clean(str(outcome.status), SHOWN) if outcome.status else None
    description = clean(str(outcome.description), SHOWN)
    return delivery.ended(msgspec.structs.replace(plain, status=status, description=description))


def as_it_came(delivery: Delivery) -> Delivery:
    """And with the message as the queue lent it, whatever operators have made of it."""
    return plainly(delivery).but(message=decode(delivery.lease.body), content=delivery.lease.content)


def unplanned(delivery: Delivery, queues: dict[str, str], lifetime: float, now: float, error: Exception) -> Settlement:
    """The end of a message of which nothing can be written at all.

    What is delivered or given up is not sent again, which would go on for ever: the refused queue tells of it. The rest
    comes back until its time is over.
    """
    outcome = delivery.outcome
    next = outcome.next if outcome is not None else Next.RETRY
    over = 0 < delivery.lease.queued < now - lifetime
    if over or next in (Next.DELIVERED, Next.FAIL, Next.REFUSE):
        what = "given up" if next is Next.RETRY else next.value
        what = f"{what}, but its result cannot be written: {type(error).__name__}"
        return Settlement(refusal(delivery.lease, queues, what))
    return Settlement(then=Retry(delivery.lease.body, now + PUT_OFF, delivery.lease.content))


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
    if outcome.next is Next.HANDOVER:
        return Settlement()
    if outcome.next is Next.PARK:
        return Settlement(then=Park(outcome.lane or "", deadline(message, delivery.lease, lifetime, now)))
    if outcome.next is Next.POSTPONE:
        return Settlement(then=Retry(delivery.lease.body, outcome.until or now, delivery.lease.content))
    publish = copies(delivery, queues, now)
    if outcome.next is not Next.RETRY:
        notice = notify(delivery, now)
        return Settlement([*publish, notice] if notice else publish)
    at = outcome.until or now + PUT_OFF
    until = timestamp(deadline(message, delivery.lease, lifetime, now))
    body = tried(message, outcome, now) | {"nextattempt": {"time": timestamp(at)}, "maxdelivertime": until}
    return Settlement(publish, Retry(_encode(body), at, delivery.content))
