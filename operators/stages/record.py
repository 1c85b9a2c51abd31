"""record: writes each attempt to the delivery log, before the queue forgets the message.

Runs for every delivery, after conclude. The log decides what is an attempt, bounds itself, and delays no delivery.
"""

from __future__ import annotations

from collections.abc import Callable

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome
from operators.stages.stage import Report, Stage, unreported
from operators.stages.tap import tap

Log = Callable[[Delivery, Outcome, float, float | None], None]


def record(log: Log, clock: Callable[[], float], report: Report = unreported) -> Stage:
    """Hands a delivery on once its line is safe from a crash of the program; one that cannot be logged, too.

    Args:
        log: takes the delivery, its outcome, now, and the time of its retry; returns when the line is safe.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def write(delivery: Delivery) -> None:
        outcome = delivery.outcome
        assert outcome is not None
        log(delivery, outcome, clock(), outcome.until if outcome.next is Next.RETRY else None)

    return tap("record", write, report)
