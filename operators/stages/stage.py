"""Stages: the two forms that every operator of the chain has, and the guard around both.

`stage(name, step)` is for work that is done at once; `handover(name, start)` for work that ends later. Both pass
over deliveries that have come to their end, and both turn an exception into the outcome of that one delivery: an
error never ends the stream (docs: README, "Operators").
"""

from __future__ import annotations

from collections.abc import Callable

import reactivex as rx
from reactivex import Observable, abc

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import deferred

Stage = Callable[[Observable[Delivery]], Observable[Delivery]]
Done = Callable[[Delivery], None]
Report = Callable[[str, Delivery, Exception], None]


def unreported(name: str, delivery: Delivery, error: Exception) -> None:
    """The default report: it does nothing."""


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
                delivery = unable(name, delivery, error, report)
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

    def operator(source: Observable[Delivery]) -> Observable[Delivery]:
        def subscribe(
            observer: abc.ObserverBase[Delivery], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            work = _Work(name, start, report, observer, ended)
            return source.subscribe(work.begin, observer.on_error, work.complete, scheduler=scheduler)

        return rx.create(subscribe)

    return operator


class _Work:
    """One subscription of a handover: what is under way is waited for before the stream completes."""

    def __init__(
        self,
        name: str,
        start: Callable[[Delivery, Done], None],
        report: Report,
        observer: abc.ObserverBase[Delivery],
        ended: bool,
    ) -> None:
        self._name, self._start, self._report = name, start, report
        self._observer, self._ended = observer, ended
        self._pending = 0
        self._completed = False

    def begin(self, delivery: Delivery) -> None:
        if delivery.outcome is not None and not self._ended:
            self._observer.on_next(delivery)
            return
        self._pending += 1
        try:
            self._start(delivery, self.done)
        except Exception as error:
            self.done(unable(self._name, delivery, error, self._report))

    def done(self, delivery: Delivery) -> None:
        self._pending -= 1
        self._observer.on_next(delivery)
        if self._completed:
            self.complete()

    def complete(self) -> None:
        self._completed = True
        if not self._pending:
            self._observer.on_completed()


def _operator(forward: Callable[[Delivery, abc.ObserverBase[Delivery]], None]) -> Stage:
    def operator(source: Observable[Delivery]) -> Observable[Delivery]:
        def subscribe(
            observer: abc.ObserverBase[Delivery], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return source.subscribe(
                lambda delivery: forward(delivery, observer),
                observer.on_error,
                observer.on_completed,
                scheduler=scheduler,
            )

        return rx.create(subscribe)

    return operator


def unable(name: str, delivery: Delivery, error: Exception, report: Report) -> Delivery:
    """The delivery, put off because a stage has failed."""
    report(name, delivery, error)
    return delivery.ended(deferred("process", "error", f"{name}: {type(error).__name__}"))
