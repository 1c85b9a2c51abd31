"""live: what a custom operator gets besides the deliveries. Holds nothing, does nothing by itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from reactivex import Observable, abc
from reactivex import operators as ops

from operators.deliveries.delivery import Delivery
from operators.stages.stage import Report, Stage, stage
from settings import Settings
from settings.rules import Snapshot

Function = Callable[[Observable[Delivery], "Live"], Observable[Delivery]]  # a custom operator


class Live(msgspec.Struct, frozen=True):
    """The machine as a custom operator sees it.

    Attributes:
        name: the operator's, as configured: `module:function@stage`.
        settings: the configuration in force.
        rules: the rules in force, then those after each change.
        scheduler: for everything that takes time; virtual in tests.
        clock: now, epoch seconds.
        report: told of exceptions that the operator catches itself.
        late: it stands behind the attempt, and gets deliveries with their outcome.
    """

    name: str
    settings: Settings
    rules: Observable[Snapshot]
    scheduler: abc.SchedulerBase
    clock: Callable[[], float]
    report: Report
    late: bool = False

    def stage(self, step: Callable[[Delivery], Delivery]) -> Stage:
        """The operator that most custom ones are: `step` takes a delivery and returns the one to hand on.

        An exception in `step` defers this one delivery (`process/error`); behind the attempt, where an outcome stands
        already, it changes nothing. It is logged with its traceback either way.
        """
        if not self.late:
            return stage(self.name, step, self.report)

        def guarded(delivery: Delivery) -> Delivery:
            try:
                return step(delivery)
            except Exception as error:
                self.report(self.name, delivery, error)
                return delivery

        return ops.map(guarded)
