"""tap: lets a delivery pass and tells of it. The one way in which the chain makes events."""

from __future__ import annotations

from collections.abc import Callable

from operators.deliveries.delivery import Delivery
from operators.stages.stage import Report, Stage, handover, unreported


def tap(name: str, tell: Callable[[Delivery], None], report: Report = unreported, *, ended: bool = True) -> Stage:
    """Calls `tell` for each delivery, then hands it on unchanged, whatever `tell` did.

    Args:
        name: for the report.
        tell: what to do; an exception in it is reported and changes nothing.
        report: told of exceptions.
        ended: also for deliveries that have come to their end.
    """

    def start(delivery: Delivery, done: Callable[[Delivery], None]) -> None:
        try:
            tell(delivery)
        except Exception as error:
            report(name, delivery, error)
        done(delivery)

    return handover(name, start, report, ended=ended)
