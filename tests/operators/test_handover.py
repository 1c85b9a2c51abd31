"""handover: a message whose MTA IPs another instance has."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import reactivex as rx
from reactivex import operators as ops

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next
from operators.mail.message import Message, from_properties
from operators.stages.handover import Elsewhere, NobodyReads, ask_again, hand_over

Confirmed = Callable[[Exception | None], None]


Published = list[tuple[str, dict[str, str]]]


def passed(found: Elsewhere | None, error: Exception | None = None) -> tuple[Delivery, Published]:
    """What becomes of a message for 192.0.2.1, and what is published meanwhile."""
    published: Published = []

    def publish(queue: str, body: bytes, confirmed: Confirmed) -> None:
        published.append((queue, msgspec.json.decode(body)))
        confirmed(error)

    message = from_properties({"recipient": "a@b.example", "ips": ["192.0.2.1"]})
    delivery = Delivery(lease=Lease(1, b"{}"), message=message)

    def find(message: Message, ips: list[str]) -> Elsewhere | None:
        return found

    stage = hand_over(lambda message: message.ips or [], find, publish, lambda: 100.0)
    out: list[Delivery] = []
    rx.just(delivery).pipe(stage, ops.do_action(out.append)).subscribe()
    return out[0], published


def test_it_goes_to_the_others_outbox_with_a_mark_and_is_done_here() -> None:
    """The mark says to whom, so that it goes once."""
    delivery, published = passed(Elsewhere("b", "outbox-b"))
    assert published == [("outbox-b", {"recipient": "a@b.example", "ips": ["192.0.2.1"], "handover": "b"})]
    assert delivery.outcome is not None
    assert delivery.outcome.next is Next.HANDOVER


def test_it_goes_on_where_nobody_has_its_ip_or_reads_the_queue() -> None:
    """Then `assign` ends it in `bind/error`."""
    assert passed(None)[0].outcome is None
    assert passed(Elsewhere("b", "outbox-b"), NobodyReads())[0].outcome is None


def test_a_broker_that_is_away_is_not_the_messages_fault() -> None:
    """It comes back later, and that is no attempt."""
    outcome = passed(Elsewhere("b", "outbox-b"), ConnectionError("away"))[0].outcome
    assert outcome is not None
    assert (outcome.next, outcome.until) == (Next.POSTPONE, 110.0)


def test_what_is_in_the_right_queue_already_is_left_to_its_instance() -> None:
    """Where both read one outbox, it comes back a second later, for whoever takes it then."""
    delivery, published = passed(ask_again("b"))
    assert published == []
    assert delivery.outcome is not None
    assert (delivery.outcome.next, delivery.outcome.until) == (Next.POSTPONE, 101.0)
