"""deliver: gives a delivery that has a slot to the transport, and hands on what came of it."""

from __future__ import annotations

from collections.abc import Callable

from operators.deliveries.delivery import Delivery
from operators.stages.stage import Done, Report, Stage, handover, unreported


def deliver(transport: Callable[[Delivery, Done], None], report: Report = unreported) -> Stage:
    """One attempt; what comes back carries its outcome.

    Bound: the throttle before it lets at most one delivery for each slot through.

    Args:
        transport: starts the attempt, and calls back exactly once.
        report: told of exceptions.
    """
    return handover("deliver", transport, report)
