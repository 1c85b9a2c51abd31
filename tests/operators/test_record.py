"""The delivery log's place in the chain."""

from __future__ import annotations

from typing import Any

import msgspec
import reactivex as rx
from reactivex import operators as ops

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Outcome, deferred, failed
from operators.mail.message import from_properties
from operators.stages.record import record
from operators.stages.stage import Stage

NOW, LATER = 1_800_000_000.0, 1_800_000_060.0


def ended(outcome: Outcome) -> Delivery:
    """A delivery that came to this."""
    return Delivery(lease=Lease(1, b"{}"), message=from_properties({"recipient": "a@b.example"}), outcome=outcome)


def through(stage: Stage, *items: Delivery) -> list[Delivery]:
    """What the stage hands on."""
    out: list[Delivery] = []
    rx.of(*items).pipe(stage).subscribe(out.append)
    return out


def test_a_line_is_logged_before_the_delivery_goes_on() -> None:
    """Whoever settles after it loses no line."""
    seen: list[str] = []
    item = ended(failed("data", "error", "no"))
    stage = record(lambda *_: seen.append("logged"), lambda: NOW)
    rx.of(item).pipe(stage, ops.do_action(lambda _: seen.append("settled"))).subscribe()
    assert seen == ["logged", "settled"]


def test_a_retry_is_logged_with_its_time() -> None:
    """What ends otherwise has none."""
    logged: list[Any] = []
    again = ended(msgspec.structs.replace(deferred("data", "error", "later"), until=LATER))
    through(record(lambda *what: logged.append(what[2:]), lambda: NOW), again, ended(failed("data", "error", "no")))
    assert logged == [(NOW, LATER), (NOW, None)]


def test_a_delivery_that_cannot_be_logged_goes_on_as_it_is() -> None:
    """It is reported; a mail that was delivered is not sent again for it."""

    def broken(*_: object) -> None:
        raise ValueError

    reported: list[str] = []
    item = ended(failed("data", "error", "no"))
    assert through(record(broken, lambda: NOW, lambda name, *_: reported.append(name)), item) == [item]
    assert reported == ["record"]
