"""expire: what is too old ends here, what is too early goes back.

Runs right after decode, so also when a parked message is called in. Changes nothing in the message.
"""

from __future__ import annotations

from collections.abc import Callable

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import failed, postponed
from operators.deliveries.retry import deadline
from operators.mail.message import InvalidMessage, seconds
from operators.stages.stage import Report, Stage, stage, unreported

EARLY = 1.0  # seconds before its time that a message may go: the queues' times have no fractions


def expire(lifetime: float, clock: Callable[[], float], report: Report = unreported) -> Stage:
    """Ends deliveries past their `maxdelivertime`, and postpones those before their `nextattempt`.

    Args:
        lifetime: seconds in the queue after which a message without `maxdelivertime` is given up.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def step(delivery: Delivery) -> Delivery:
        message, now = delivery.message, clock()
        try:
            if deadline(message, delivery.lease, lifetime, now) < now:
                return delivery.ended(failed("process", "timeout", "expired: its time for delivery is over"))
            if (message.nextattempt is None and message.delayed is None) or delivery.lease.timely:
                return delivery
            if (at := seconds(message.not_before or "")) > now + EARLY:
                return delivery.ended(postponed(at, "not before its nextattempt"))
        except InvalidMessage as error:
            return delivery.ended(failed("process", "invalid", str(error)))
        return delivery

    return stage("expire", step, report)
