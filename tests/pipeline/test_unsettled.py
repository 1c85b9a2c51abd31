"""What is said of messages whose end the queue does not confirm."""

from __future__ import annotations

from operators.deliveries.delivery import Delivery, Lease
from operators.mail.message import Message
from pipeline.machine.unsettled import SAY_AGAIN, Unsettled


def test_a_thousand_messages_that_wait_are_a_line_a_minute() -> None:
    """One when it begins, one a minute with their number, one when the last is confirmed."""
    now, said = [100.0], []
    unsettled = Unsettled(said.append, lambda: now[0])
    waiting = [Delivery(lease=Lease(number, b""), message=Message()) for number in range(1000)]
    for _ in range(int(SAY_AGAIN * 1.5)):
        for delivery in waiting:
            unsettled.failed(delivery, OSError("disk full"))
        now[0] += 1
    for delivery in waiting:
        unsettled.settled(delivery)
    assert said == [
        "1 messages wait from now on for the queue to confirm their end: disk full",
        "1,000 messages wait for 60 s for the queue to confirm their end: disk full",
        "the queue confirms again, after 90 s; nothing waits for it",
    ]


def test_while_nothing_waits_nothing_is_said() -> None:
    """Every message passes here."""
    said: list[str] = []
    Unsettled(said.append).settled(Delivery(lease=Lease(1, b""), message=Message()))
    assert said == []
