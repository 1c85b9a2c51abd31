"""hold: parks what the operator has paused. Runs after redirect, so a pause means what would leave from an IP.

A paused message gives its credit back and waits in the parked queue of its pause, `pause/<id>`, or, where all members
of its pool are paused, in one of the pool (`operators.lanes.pools`); when the pause ends it is called in again. A pause
of a remote IP holds a message only where no other address of its route is left.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from operators.deliveries.delivery import Delivery, Route
from operators.deliveries.outcome import parked
from operators.stages.stage import Report, Stage, stage, unreported
from settings.rules import Pause, Snapshot

PREFIX = "pause/"


def parked_queue(pause: Pause) -> str:
    """The parked queue of a pause."""
    return f"{PREFIX}{pause.id}"


def in_force(queue: str, snapshot: Snapshot, now: float) -> bool:
    """Whether a parked queue is that of a pause that still holds. `now` is epoch seconds."""
    if not queue.startswith(PREFIX):
        return False
    pause = snapshot.rule("pauses", int(queue[len(PREFIX) :]))
    return pause is not None and not pause.ended(now)


def hold(
    rules: Callable[[], Snapshot],
    clock: Callable[[], float],
    report: Report = unreported,
    queue: Callable[[Delivery, Pause], str] = lambda delivery, pause: parked_queue(pause),
) -> Stage:
    """Parks deliveries that a pause holds; takes paused addresses out of the route of others.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        report: told of exceptions.
        queue: the parked queue of a delivery that this pause holds.
    """

    def step(delivery: Delivery) -> Delivery:
        snapshot = rules()
        if not snapshot.pauses or delivery.route is None:
            return delivery
        route, tags = delivery.route, delivery.message.tags
        if not snapshot.may_pause(delivery.domain, [route.group, *[target.address for target in route.targets]], tags):
            return delivery
        now = clock()
        pauses = [
            snapshot.pauses_for(delivery.ip, delivery.domain, target.address, tags, now, route.group)
            for target in route.targets
        ]
        if pauses and all(pauses):
            pause = pauses[0][0]
            return delivery.ended(parked(queue(delivery, pause), f"paused: {pause.reason or 'by hand'}"))
        return _without(delivery, route, [not held for held in pauses]) if any(pauses) else delivery

    return stage("hold", step, report)


def _without(delivery: Delivery, route: Route, free: list[bool]) -> Delivery:
    targets = tuple(target for target, open_ in zip(route.targets, free, strict=True) if open_)
    return delivery.but(route=msgspec.structs.replace(route, targets=targets))
