"""record: writes each attempt to the delivery log, before the queue forgets the message.

Runs for every delivery, after conclude. The log decides what is an attempt, and bounds what it holds.
"""

from __future__ import annotations

from collections.abc import Callable

from operators.delivery import Delivery
from operators.outcome import Next, Outcome
from operators.stage import Done, Report, Stage, handover, unreported

Log = Callable[[Delivery, Outcome, float, float | None, Callable[[], None]], None]


def record(log: Log, clock: Callable[[], float], report: Report = unreported) -> Stage:
    """Hands a delivery on once its line is safe from a crash of the program.

    Args:
        log: takes the delivery, its outcome, now, the time of its retry, and what to call when the line is written.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def start(delivery: Delivery, done: Done) -> None:
        outcome = delivery.outcome
        assert outcome is not None
        again = outcome.until if outcome.next is Next.RETRY else None
        log(delivery, outcome, clock(), again, lambda: done(delivery))

    return handover("record", start, report, ended=True)
