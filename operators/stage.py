"""Stages: the two forms that every operator of the chain has, and the guard around both.

`stage(name, step)` is for work that is done at once; `handover(name, start)` for work that ends later. Both pass
over deliveries that have come to their end, and both turn an exception into the outcome of that one delivery: an
error never ends the stream (docs: README, "Operators").
"""

from __future__ import annotations

from collections.abc import Callable

import reactivex as rx
from reactivex import Observable, abc

from operators.delivery import Delivery
from operators.outcome import deferred

Stage = Callable[[Observable[Delivery]], Observable[Delivery]]
Done = Callable[[Delivery], None]
Report = Callable[[str, Delivery, Exception], None]


def unreported(name: str, delivery: Delivery, error: Exception) -> None:
    """The default report: nobody is told."""


def stage(name: str, step: Callable[[Delivery], Delivery], report: Report = unreported) -> Stage:
    """A stage whose step returns the delivery to hand on.

    Args:
        name: the stage's name, for the report.
        step: from a delivery without an outcome to the next one.
        report: told of each exception.
    """

    def forward(delivery: Delivery, observer: abc.ObserverBase[Delivery]) -> None:
        if delivery.outcome is None:
            try:
                delivery = step(delivery)
            except Exception as error:
                delivery = _defer(name, delivery, error, report)
        observer.on_next(delivery)

    return _operator(forward)


def handover(
    name: str, start: Callable[[Delivery, Done], None], report: Report = unreported, *, ended: bool = False
) -> Stage:
    """A stage that gives a delivery away and hands on what comes back, whenever that is.

    Args:
        name: the stage's name, for the report.
        start: begins the work and returns; calls `done` exactly once, with the delivery to hand on.
        report: told of each exception that `start` raises.
        ended: also for deliveries that have come to their end.
    """

    def forward(delivery: Delivery, observer: abc.ObserverBase[Delivery]) -> None:
        if delivery.outcome is not None and not ended:
            observer.on_next(delivery)
            return
        try:
            start(delivery, observer.on_next)
        except Exception as error:
            observer.on_next(_defer(name, delivery, error, report))

    return _operator(forward)


def _operator(forward: Callable[[Delivery, abc.ObserverBase[Delivery]], None]) -> Stage:
    def operator(source: Observable[Delivery]) -> Observable[Delivery]:
        def subscribe(
            observer: abc.ObserverBase[Delivery], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return source.subscribe(
                lambda delivery: forward(delivery, observer), observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return rx.create(subscribe)

    return operator


def _defer(name: str, delivery: Delivery, error: Exception, report: Report) -> Delivery:
    report(name, delivery, error)
    return delivery.ended(deferred("process", "error", f"{name}: {type(error).__name__}"))
