"""How the queue grows, how old its messages are, and what a combination of filters counts."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Assigned, Event, Settled, Taken
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message, encode, from_properties
from pipeline.queues.census import AGES, census
from pipeline.queues.contract import QueueFigures
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.telemetry.telemetry import Telemetry
from pipeline.views.state.growth import LONG, STEP, QueueSizes
from pipeline.views.state.lens import MOST, Lenses
from pipeline.views.state.standing import provider


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[EmbeddedQueue]:
    """A started embedded queue."""
    opened = EmbeddedQueue(tmp_path / "queue.db")
    await opened.start()
    yield opened
    await opened.close()


async def published(queue: EmbeddedQueue, name: str, values: dict[str, Any], delay: float = 0.0) -> None:
    done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    queue.publish([(name, encode(from_properties(values)))], done.set_result, delay)
    assert await done is None


class Watched:
    """Sizes on a clock of their own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sizes = QueueSizes(lambda: self.now)

    def look(self, size: int, left: int) -> None:
        self.sizes.add(QueueFigures(ready=size), left)
        self.now += STEP


def sentence(*looks: tuple[int, int]) -> str:
    watched = Watched()
    for size, left in looks:
        watched.look(size, left)
    growth = watched.sizes.growth()
    return growth.sentence() if growth else ""


def test_a_queue_that_grows_says_by_what_it_grows() -> None:
    """What comes in is what left, and what there is more."""
    assert sentence((60_000, 0), (60_400, 100), (60_800, 200)) == (
        "It grows by 40 a second: 50 a second come in, 10 a second leave. At this rate it is never empty."
    )


def test_a_queue_that_shrinks_says_when_it_is_empty() -> None:
    """At the rate of the last minute."""
    assert sentence((61_200, 0), (60_600, 700), (60_000, 1400)) == (
        "It shrinks by 60 a second: 10 a second come in, 70 a second leave. At this rate it is empty in 17 min."
    )


def test_a_queue_that_rests_says_so() -> None:
    """Neither grows nor shrinks; or is empty; or is not known yet."""
    assert sentence((500, 0), (500, 0)).startswith("It stays as it is")
    assert sentence((0, 0), (0, 9)) == "The queue is empty."
    assert sentence((500, 0)) == ""


def test_the_size_of_an_hour_and_of_a_day_is_kept() -> None:
    """The day at a coarser step, and neither for ever."""
    watched = Watched()
    for number in range(2000):
        watched.look(number, 0)
    assert len(watched.sizes.over(STEP)) == 360
    day = watched.sizes.over(LONG)
    assert {round(later.time - sooner.time) for sooner, later in itertools.pairwise(day)} == {LONG}


async def test_a_census_says_how_old_mail_is_and_where_it_waits(queue: EmbeddedQueue) -> None:
    """By MTA IP, domain and tag; results and other queues are not the outbox."""
    for number in range(3):
        values = {
            "recipient": f"u{number}@Big.example", "mime": "x", "tags": ["spring"], "results": [{"from": "192.0.2.1"}],
        }  # fmt: skip
        await published(queue, "outbox", values, delay=600.0)
    await published(queue, "outbox", {"recipient": "a@b.example", "mime": "x"})
    await published(queue, "results", {"recipient": "a@b.example", "mime": "x"})
    found = await census(queue, "outbox")
    assert (found.looked, found.whole) == (4, True)
    assert {state: sum(bars) for state, bars in found.ages.items()} == {"waiting": 3, "ready": 1}
    assert len(found.ages["ready"]) == len(AGES) + 1
    ((key, times),) = found.waiting.items()
    assert key == ("192.0.2.1", "big.example") and sum(times.values()) == 3
    assert set(found.tags) == {("spring", "big.example")}


def test_a_lens_counts_what_two_filters_have_in_common() -> None:
    """From when it is looked through; one that nobody looks through any more costs nothing."""
    events: Subject[Event] = Subject()
    lenses = Lenses(events)
    lens = lenses.of({"ip": "192.0.2.1", "tag": "spring"})
    for ip, tag in (("192.0.2.1", "spring"), ("192.0.2.1", "other"), ("192.0.2.2", "spring")):
        message = Message(recipient="you@a.example", tags=[tag])
        lease = Lease(id=1, body=b"")
        delivery = Delivery(lease=lease, message=message, domain="a.example")
        events.on_next(Taken(time=time.time(), delivery=delivery))
        delivery = delivery.but(ip=ip, lane=f"{ip}/a.example")
        events.on_next(Assigned(time=time.time(), delivery=delivery))
        outcome = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, attempted=True)
        events.on_next(Settled(time=time.time(), delivery=delivery, outcome=outcome))
    assert lens.telemetry.snapshot()["delivered"] == 1
    for number in range(MOST + 5):
        lenses.of({"ip": "192.0.2.1", "tag": str(number)})
    assert len(events.observers) == MOST
    lenses.close()
    assert not events.observers


def test_a_provider_is_called_by_its_first_host() -> None:
    """The name of its group is for machines."""
    assert provider("mx1.bigmail.example+3~8b17") == "mx1.bigmail.example and 3 more"
    assert provider("mx1.a.example") == "mx1.a.example"


def test_before_it_was_counted_nothing_is_known() -> None:
    """A chart has a gap there, and no zeros; a past that is played moves the beginning."""
    telemetry = Telemetry(lambda: 5000.0)
    assert telemetry.began == 5000
    message = Message(recipient="you@a.example")
    telemetry.count(Taken(time=4000.0, delivery=Delivery(lease=Lease(id=1, body=b""), message=message)))
    assert telemetry.began == 4000
