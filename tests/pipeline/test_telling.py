"""What a worker tells its head of its events: nothing that is shown is lost, and little is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.events import Assigned, Event, Passed, Received, Settled, Taken
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.telemetry.backlog import Backlog
from pipeline.telemetry.history import History
from pipeline.telemetry.telemetry import Telemetry
from pipeline.workers.link import decode, encode
from pipeline.workers.telling import HELD, Telling
from pipeline.workers.wire import Unpacking

NOW = 1_700_000_000.0
MOMENT = 0.001


def steps(number: int, next_: Next = Next.DELIVERED, recalled: str | None = None) -> tuple[Event, ...]:
    """A message's way, at a millisecond of its own."""
    host = f"mx{number % 2}.example"
    message = Message(recipient=f"u{number}@{host}", tags=["news", f"t{number % 2}"], message_id=f"m{number}")
    delivery = Delivery(
        lease=Lease(number, b"body", recalled=recalled),
        message=message,
        domain=host,
        ip="192.0.2.1",
        lane=f"192.0.2.1/{host}",
        route=Route(host, (Target(host, "192.0.2.9"),)),
    )
    outcome = Outcome(
        state="message",
        result="accepted" if next_ is Next.DELIVERED else "error",
        next=next_,
        code=250 if next_ is Next.DELIVERED else 451,
        description=f"queued as {number}",
        remote_ip="192.0.2.9",
        host=host,
        messages=1 + number // 2,
        attempted=True,
    )
    time = NOW + number * MOMENT
    retry_at = time + 60 if next_ is Next.RETRY else None
    return (
        Taken(time=time, delivery=delivery),
        Assigned(time=time, delivery=delivery),
        Settled(time=time, delivery=delivery, outcome=outcome, retry_at=retry_at),
    )


class Head:
    """Counts what it is told; `words` and `found` are what that was."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now
        self.words: list[Any] = []
        self.found: list[Event] = []
        self.unpacking = Unpacking()
        self.telemetry, self.history, self.backlog = Telemetry(self._clock), History(), Backlog(self._clock)
        self.telling = Telling(self.hear, self._clock)

    def _clock(self) -> float:
        return self.now

    def hear(self, kind: str, said: list[Any]) -> None:
        """What a worker says."""
        for one in decode(encode(said)):
            self.words.append(one)
            if (event := self.unpacking.event(one)) is not None:
                self.count(event)

    def count(self, event: Event) -> None:
        """As the views do."""
        self.found.append(event)
        self.telemetry.count(event)
        self.history.note(event)
        self.backlog.count(event)

    def shown(self) -> Iterator[Any]:
        """Everything that is shown of it."""
        yield self.telemetry.totals()
        for dimension in ("ip", "domain", "tag"):
            keys = sorted(self.telemetry.keys(dimension))
            yield self.telemetry.snapshots(dimension, keys)
        yield self.backlog.standing(domain="mx0.example")
        yield [
            (name, past.domains, sorted(past.answers, key=lambda answer: answer.time), past.route)
            for name, past in sorted(self.history.lanes().items())
        ]
        yield [sum(one.count for one in past.events) for _, past in sorted(self.history.lanes().items())]


async def test_what_went_alike_is_told_as_one_and_counts_as_each() -> None:
    """Of hundreds of messages the head hears a few words, and shows the same."""
    head, alone = Head(), Head()
    events = [event for number in range(400) for event in steps(number, Next.RETRY if number == 7 else Next.DELIVERED)]
    for event in events:
        head.telling.tell(event)
        alone.count(event)
    head.telling.flush()
    assert list(head.shown()) == list(alone.shown())
    assert len(head.words) < 10


async def test_each_event_is_told_while_somebody_watches() -> None:
    """What is on its way at that moment is told, too, and nothing twice."""
    head = Head()
    taken, assigned, settled = steps(1)
    received = Received(time=NOW, message_id="m2", envelope="", recipient="", size=1, source="smtp")
    head.telling.tell(received)
    head.telling.tell(taken)
    head.telling.each(True)
    for event in (assigned, settled, received, *steps(2)):
        head.telling.tell(event)
    head.telling.each(False)
    for event in steps(3):
        head.telling.tell(event)
    head.telling.flush()
    told = [Taken, Assigned, Settled, Received, Taken, Assigned, Settled, Passed]
    assert [type(event) for event in head.found] == told


async def test_what_lasts_is_told_before_its_end() -> None:
    """It shows as in memory after a second, and is counted once."""
    head = Head()
    taken, assigned, settled = steps(0)
    head.telling.tell(taken)
    head.telling.tell(assigned)
    head.telling.flush()
    assert head.telemetry.totals()["in_memory"] == 0
    head.now += HELD
    head.telling.flush()
    assert head.telemetry.totals()["in_memory"] == 1
    head.telling.tell(settled)
    head.telling.flush()
    totals = head.telemetry.totals()
    assert (totals["processed"], totals["delivered"], totals["in_memory"]) == (1, 1, 0)


async def test_what_comes_from_parking_or_was_decided_by_a_rule_is_told_by_itself() -> None:
    """Its counters are not those of new mail."""
    head = Head()
    for event in steps(1, recalled="192.0.2.1/mx1.example"):
        head.telling.tell(event)
    for event in steps(2):
        ruled = event.delivery.but(rules=("errors/3",))  # type: ignore[attr-defined]
        head.telling.tell(msgspec.structs.replace(event, delivery=ruled))  # type: ignore[call-arg]
    head.telling.flush()
    assert [type(event) for event in head.found] == [Taken, Assigned, Settled] * 2
    assert head.found[-1].delivery.rules == ("errors/3",)  # type: ignore[attr-defined]


async def test_the_head_hears_of_it_soon() -> None:
    """By itself, and not only when asked."""
    told = asyncio.Event()
    telling = Telling(lambda kind, said: told.set())
    for event in steps(1):
        telling.tell(event)
    await asyncio.wait_for(told.wait(), 5)
