"""conclude: the decision what becomes of a message whose attempt has ended: its retry time, or that it is given up.

Runs for every delivery, after deliver and before the log and the queue, so that both are told the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome, deferred
from operators.deliveries.retry import deadline, retry_at
from operators.mail.message import InvalidMessage
from operators.stages.stage import Report, Stage, handover, unreported


def conclude(
    lifetime: float,
    delays: Sequence[int],
    most: int,
    clock: Callable[[], float],
    chance: Callable[[], float],
    report: Report = unreported,
) -> Stage:
    """A transient outcome gets the time of its retry in `until`, or becomes a failure where there is none left.

    Args:
        lifetime: seconds in the queue after which a message without `maxdelivertime` is given up.
        delays: seconds between attempts, for messages without `retries`.
        most: attempts, for messages without `maxattempts`; 0 is unlimited.
        clock: epoch seconds.
        chance: a number from 0 to 1, for the jitter.
        report: told of exceptions.
    """

    def start(delivery: Delivery, done: Callable[[Delivery], None]) -> None:
        if delivery.outcome is None:
            delivery = delivery.ended(deferred("process", "error", "no stage has delivered it"))
        assert delivery.outcome is not None
        if delivery.outcome.next is Next.RETRY:
            delivery = put_off(delivery, delivery.outcome)
        done(delivery)

    def put_off(delivery: Delivery, outcome: Outcome) -> Delivery:
        try:
            at = again(delivery, delivery.message.retries or delays)
        except Exception as error:  # a number in the message that cannot be computed with
            report("conclude", delivery, error)
            at = again(delivery, delays)
        if at is not None and outcome.until is not None:
            at = outcome.until if outcome.until <= limit(delivery) else None  # a rule says when
        if at is None:
            return delivery.ended(msgspec.structs.replace(outcome, next=Next.FAIL))
        return delivery.ended(msgspec.structs.replace(outcome, until=at))

    def again(delivery: Delivery, delays: Sequence[int]) -> float | None:
        message, now, last = delivery.message, clock(), limit(delivery)
        allowed = most if message.maxattempts is None else message.maxattempts
        made = message.attempts + (delivery.outcome is None or not delivery.outcome.skipped)
        return retry_at(made, delays, now, last, allowed, chance())

    def limit(delivery: Delivery) -> float:
        try:
            return deadline(delivery.message, delivery.lease, lifetime, clock())
        except InvalidMessage:
            return clock()

    return handover("conclude", start, report, ended=True)
