"""What a custom operator gets, on virtual time."""

from __future__ import annotations

import reactivex as rx
from reactivex.scheduler import VirtualTimeScheduler
from reactivex.subject import Subject

from operators.custom.guard import OPENING, custom
from operators.custom.live import Function, Live
from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Outcome
from operators.mail.message import encode, from_properties
from settings import load


class Trial:
    """A custom operator between a source and what comes out.

    Attributes:
        out: what came out, in order.
        told: what was said of it.
        reported: the exceptions that were.
    """

    def __init__(self, function: Function, *, late: bool = False, now: float = 0.0) -> None:
        self.scheduler = VirtualTimeScheduler()
        self.start = now
        self.out: list[Delivery] = []
        self.told: list[str] = []
        self.reported: list[Exception] = []
        self.ends: list[str] = []
        self.input: Subject[Delivery] = Subject()
        live = Live(
            "shop:mark@hold",
            load([], system_file=None),
            rx.never(),
            self.scheduler,
            self.now,
            lambda name, delivery, error: self.reported.append(error),
            late,
        )
        self.input.pipe(custom(function, live, self.told.append)).subscribe(
            self.out.append, lambda error: self.ends.append(repr(error)), lambda: self.ends.append("completed")
        )

    def now(self) -> float:
        return self.start + float(self.scheduler.clock)

    def wait(self, seconds: float) -> None:
        self.scheduler.advance_by(seconds)

    def give(self, *deliveries: Delivery) -> list[Delivery]:
        """Put these in; all that has come out so far."""
        for delivery in deliveries:
            self.input.on_next(delivery)
            self.wait(OPENING)
        return self.out

    def outcome(self, delivery: Delivery) -> Outcome:
        """What one delivery that was put in came to."""
        (found,) = [one.outcome for one in self.out if one.lease is delivery.lease]
        assert found is not None
        return found


def delivery(domain: str = "a.example", **properties: object) -> Delivery:
    """A delivery as it comes to a stage, with a lease of its own."""
    message = from_properties({"recipient": f"user@{domain}", "mime": "Subject: x\r\n\r\nx\r\n", **properties})
    return Delivery(
        lease=Lease(object(), encode(message)), message=message, domain=message.domain, source=message.source()
    )
