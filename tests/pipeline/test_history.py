"""The history of the lanes."""

from __future__ import annotations

import gc
from typing import Any

from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.events import (
    Assigned,
    Connected,
    Connecting,
    Disconnected,
    Event,
    Notice,
    Redirected,
    Settled,
)
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.telemetry.history import ANSWERS, EVENTS, LANES, NAMES, TEXT, History

LANE = "192.0.2.1/a.example"
CONNECTION = {"lane": LANE, "ip": "192.0.2.1", "remote_ip": "198.51.100.1", "host": "mx.a.example"}


def delivery(lane: str = LANE, domain: str = "a.example", body: bytes = b"") -> Delivery:
    message = Message(recipient=f"you@{domain}", message_id="m1")
    route = Route("a.example", (Target("mx.a.example", "198.51.100.1"),))
    return Delivery(lease=Lease(id=1, body=body), message=message, domain=domain, lane=lane, route=route)


def settled(next: Next = Next.DELIVERED, lane: str = LANE, time: float = 1.0, **outcome: Any) -> Settled:
    values = {"state": "message", "result": "accepted", "code": 250, "description": "queued", **outcome}
    return Settled(time=time, delivery=delivery(lane), outcome=Outcome(next=next, **values))


def noted(*events: Event) -> History:
    history = History()
    for event in events:
        history.note(event)
    return history


def events_of(history: History, lane: str = LANE) -> list[tuple[str, str, int]]:
    past = history.get(lane)
    assert past is not None
    return [(event.kind, event.text, event.count) for event in past.events]


def test_a_lane_remembers_what_happened_to_it() -> None:
    """Each kind of event that is about a lane, in its words."""
    history = noted(
        Assigned(time=1, delivery=delivery()),
        Redirected(time=1, delivery=delivery(), from_ip="192.0.2.9"),
        Connecting(time=1, **CONNECTION),
        Connected(time=1, **CONNECTION, tls=True),
        settled(),
        settled(Next.RETRY, code=451, description="later", result="error"),
        settled(Next.FAIL, code=None, description="no DNS", result="error"),
        settled(Next.PARK, code=None, description="paused"),
        Disconnected(time=1, **CONNECTION, reason="quit", messages=2),
        Notice(time=1, kind="flood", text="slow down", fields={"lane": LANE}),
    )
    assert events_of(history) == [
        ("redirected", "from 192.0.2.9", 1),
        ("connecting", "mx.a.example [198.51.100.1]", 1),
        ("connected", "mx.a.example [198.51.100.1] with TLS", 1),
        ("delivered", "", 1),
        ("retried", "451 later", 1),
        ("failed", "no DNS", 1),
        ("parked", "paused", 1),
        ("disconnected", "mx.a.example [198.51.100.1]: quit", 1),
        ("flood", "slow down", 1),
    ]
    past = history.get(LANE)
    assert past is not None
    assert list(past.domains) == ["a.example"]
    assert past.route == delivery().route
    assert [(answer.code, answer.description, answer.message_id) for answer in past.answers] == [
        (250, "queued", "m1"),
        (451, "later", "m1"),
    ]


def test_what_is_alike_is_one_event_with_a_count() -> None:
    """So that a million deliveries do not hide what came before."""
    history = noted(Connecting(time=1, **CONNECTION), *(settled(time=float(n)) for n in range(1000)))
    assert events_of(history) == [("connecting", "mx.a.example [198.51.100.1]", 1), ("delivered", "", 1000)]
    past = history.get(LANE)
    assert past is not None
    assert (past.events[-1].since, past.events[-1].time) == (0.0, 999.0)


def test_what_was_given_back_is_no_event() -> None:
    """It was never tried."""
    assert noted(settled(Next.RETURN)).get(LANE) is None


def test_of_each_lane_a_bounded_past_stays() -> None:
    """Answers, events, domains, and the length of a text."""
    history = noted(
        *(settled(Next.RETRY, code=450, description=f"{n} " + "x" * 5000, result="error") for n in range(200)),
        *(Assigned(time=1, delivery=delivery(domain=f"d{n}.example")) for n in range(200)),
    )
    past = history.get(LANE)
    assert past is not None
    assert (len(past.answers), len(past.events), len(past.domains)) == (ANSWERS, EVENTS, NAMES)
    assert past.answers[-1].description.startswith("199 ")
    assert max(len(answer.description) for answer in past.answers) == TEXT


def test_the_least_recently_active_lane_is_forgotten() -> None:
    """There are never more than LANES."""
    history = History()
    for number in range(LANES):
        history.note(settled(lane=f"192.0.2.1/{number}"))
    history.note(settled(lane="192.0.2.1/0"))
    history.note(settled(lane="192.0.2.1/new"))
    assert len(history.lanes()) == LANES
    assert history.get("192.0.2.1/0") is not None
    assert history.get("192.0.2.1/1") is None


def test_no_delivery_is_kept() -> None:
    """It would hold its body."""

    class Body(bytes):
        pass

    body = Body(b"large")
    history = History()
    lent = delivery(body=body)
    outcome = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250)
    history.note(Assigned(time=1, delivery=lent))
    history.note(Settled(time=1, delivery=lent, outcome=outcome))
    held = {id(lent), id(lent.message), id(lent.lease), id(body)}
    assert not held & {id(each) for each in reachable(history)}


def reachable(start: object) -> list[object]:
    """Every object that can be reached from one, classes and functions aside."""
    found: dict[int, object] = {}
    todo = [start]
    while todo:
        each = todo.pop()
        if id(each) in found or isinstance(each, type) or callable(each) or type(each).__name__ == "module":
            continue
        found[id(each)] = each
        todo += gc.get_referents(each)
    return list(found.values())


def test_an_event_that_cannot_be_noted_does_not_end_the_watching() -> None:
    """It is dropped, and the next is noted."""
    history, events = History(), Subject[Event]()
    history.watch(events)
    events.on_next(Connecting(time=1, lane=[], ip="", remote_ip="", host=""))  # type: ignore[arg-type]
    events.on_next(settled())
    assert events_of(history) == [("delivered", "", 1)]
