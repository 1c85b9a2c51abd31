"""What is said of messages whose end the queue does not confirm."""

from __future__ import annotations

import asyncio

from operators.deliveries.delivery import Delivery, Lease
from operators.mail.message import Message
from pipeline.machine.unsettled import IN_VAIN, SAY_AGAIN, Unsettled, rest


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


async def test_a_stop_does_not_wait_for_a_queue_that_does_not_work() -> None:
    """K11: a disk that is read-only, or a broker that is away, does not take all of shutdown-timeout."""
    asked = 0

    def waits() -> bool:
        nonlocal asked
        asked += 1
        return True

    await rest(asyncio.Event(), lambda: 1, waits, second=0)
    assert asked == IN_VAIN


async def test_a_stop_waits_for_what_still_comes_to_its_end() -> None:
    """Though the queue was seen not to work, and for what is with a receiver while it works."""
    at_rest, left = asyncio.Event(), [9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3]

    def underway() -> int:
        if len(left) == 1:
            at_rest.set()
        return left.pop(0) if left else 0

    await rest(at_rest, underway, lambda: True, second=0.001)
    assert at_rest.is_set()
