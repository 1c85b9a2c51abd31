"""K1. A fault of ours ends one attempt by the ordinary rule: counted, retried by its times, given up with a result and
a notice. Nothing of it gets around `max-attempts` and the retry interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex as rx
from reactivex.scheduler import VirtualTimeScheduler

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.dsn import bounce
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.deliveries.settlement import Retry, Settlement
from operators.mail.message import encode, from_properties
from operators.stages.conclude import conclude
from operators.stages.deliver import deliver
from operators.stages.settle import settle
from operators.stages.stage import Done, stage

NOW = 1_800_000_000.0
DELAYS, MOST = [600], 3
QUEUES = {"results": "results", "success": "success", "failure": "failure", "retry": "retry", "refused": "refused"}
USUAL = {
    "recipient": "user@a.example",
    "envelope": "me@s.example",
    "mime": "Subject: Hi\r\n\r\nx",
    "dsn": {"notify": "FAILURE"},
}
LATER = deferred("rcptto", "error", "later", code=451)


class Journey:
    """A message's way from its attempt to the queue, and back until it is done."""

    def __init__(self, attempt: Callable[[Delivery], Delivery], notify: Any = None) -> None:
        self.attempt = attempt
        self.notify = notify or self._notice
        self.faults: list[tuple[str, str]] = []
        self.settlements: list[Settlement] = []

    def _notice(self, delivery: Delivery, when: float) -> tuple[str, bytes] | None:
        properties = bounce(delivery, "mta.example", "id@mta.example", when)
        return ("outbox", msgspec.json.encode(properties)) if properties else None

    def report(self, stage: str, delivery: Delivery, error: Exception) -> None:
        self.faults.append((delivery.message.recipient, type(error).__name__))

    def _settler(self, lease: Lease, settlement: Settlement, confirmed: Callable[[Exception | None], None]) -> None:
        self.settlements.append(settlement)
        confirmed(None)

    def once(self, body: bytes) -> Settlement:
        """One attempt."""
        item = Delivery(lease=Lease(1, body, queued=NOW), message=from_properties(msgspec.json.decode(body)))
        rx.of(item).pipe(
            stage("attempt", self.attempt, self.report),
            conclude(86400, DELAYS, MOST, lambda: NOW, lambda: 0.0, self.report),
            settle(self._settler, QUEUES, 86400, lambda: NOW, VirtualTimeScheduler(), self.report, self.notify),
        ).subscribe()
        return self.settlements[-1]

    def to_its_end(self, properties: dict[str, Any]) -> Settlement:
        """All attempts; each retry must obey the interval and be counted."""
        body = msgspec.json.encode(properties)
        for attempt in range(1, MOST):
            settlement = self.once(body)
            assert isinstance(settlement.then, Retry), f"attempt {attempt}"
            assert settlement.then.at == NOW + DELAYS[0]
            body = settlement.then.body
            assert len(msgspec.json.decode(body)["results"]) == attempt
        return self.once(body)


def ends(outcome: Outcome, **changes: Any) -> Callable[[Delivery], Delivery]:
    return lambda delivery: delivery.ended(msgspec.structs.replace(outcome, **changes))


def raises(delivery: Delivery) -> Delivery:
    raise ZeroDivisionError("ours")


def spoils(delivery: Delivery) -> Delivery:
    """A custom operator leaves something in the message that no JSON has."""
    properties = {**delivery.message.properties, "own": object()}
    return delivery.but(message=msgspec.structs.replace(delivery.message, properties=properties)).ended(LATER)


ODD = [
    raises,
    spoils,
    ends(LATER, description="m\udcfcller"),
    ends(LATER, mta="m\udcfcller.test", remote_ip="192.0.2.1"),
    ends(LATER, description=b"octets"),
    ends(LATER, tls={"certificate": {"subject": object()}}),
    ends(LATER, tls={"certificate": {"subject": "\ud800"}}),
    ends(LATER, status="4.\udcfc", host="\udcff"),
    ends(LATER, remote_ip="192.0.2.1", sent_data=object()),
]


@pytest.mark.parametrize("attempt", ODD)
def test_a_fault_of_ours_is_counted_and_ends_with_a_result_and_a_notice(attempt: Any) -> None:
    """K1. `max-attempts` and the interval hold, whatever cannot be said of an attempt."""
    journey = Journey(attempt)
    settlement = journey.to_its_end(USUAL)
    assert settlement.then is None
    assert [queue for queue, _ in settlement.publish] == ["results", "failure", "outbox"]
    [entry, *_] = msgspec.json.decode(settlement.publish[0][1])["results"][-1:]
    assert entry["result"] == "error"
    assert {recipient for recipient, _ in journey.faults} <= {"user@a.example"}


@pytest.mark.parametrize("outcome", [deferred("message", "accepted", ""), failed("rcptto", "error", "no")])
def test_what_has_ended_gets_its_result_though_the_description_cannot_be_written(outcome: Outcome) -> None:
    """K1. It is not sent again, and its application hears of it."""
    next = Next.DELIVERED if outcome.result == "accepted" else Next.FAIL
    journey = Journey(ends(outcome, next=next, mta="\udcff", remote_ip="192.0.2.1", code=250, tls={"x": {1: object()}}))
    settlement = journey.once(msgspec.json.encode(USUAL))
    assert settlement.then is None and settlement.publish[0][0] == "results"
    assert msgspec.json.decode(settlement.publish[0][1])["results"][0]["code"] == 250


@pytest.mark.parametrize("retries", [[10**18], [-5], [10**17, 2], []])
def test_no_retry_times_of_a_message_get_around_the_rule(retries: list[int]) -> None:
    """K1. Numbers that no clock can reach are no reason to try for ever."""
    settlement = Journey(ends(LATER)).once(msgspec.json.encode({**USUAL, "retries": retries}))
    assert settlement.then is None or settlement.then.at > NOW  # type: ignore[union-attr]


def test_a_notice_that_cannot_be_composed_keeps_no_result_back() -> None:
    """K1. The copies go, and the fault is told."""
    journey = Journey(ends(failed("rcptto", "error", "no", code=550)), notify=lambda *_: raises(*_[:1]))
    settlement = journey.once(msgspec.json.encode(USUAL))
    assert [queue for queue, _ in settlement.publish] == ["results", "failure"]
    assert journey.faults[0] == ("user@a.example", "ZeroDivisionError")


def test_a_queue_that_raises_is_asked_again() -> None:
    """K1. As one that calls back with an error: the lease is never left."""
    scheduler, tries, out = VirtualTimeScheduler(), [], []

    def queue(lease: Lease, settlement: Settlement, confirmed: Callable[[Exception | None], None]) -> None:
        tries.append(scheduler.clock)
        if len(tries) < 3:
            raise ZeroDivisionError
        confirmed(None)

    item = Delivery(lease=Lease(1, encode(from_properties(USUAL))), message=from_properties(USUAL), outcome=LATER)
    rx.of(item).pipe(settle(queue, QUEUES, 60, lambda: NOW, scheduler)).subscribe(out.append)
    scheduler.advance_by(5)
    assert (tries, len(out)) == ([0, 1, 2], 1)


def test_a_transport_that_raises_is_one_attempt() -> None:
    """K1. And the stream goes on."""

    def transport(delivery: Delivery, done: Done) -> None:
        raise ZeroDivisionError

    out: list[Delivery] = []
    item = Delivery(lease=Lease(1, b"{}"), message=from_properties(USUAL))
    rx.of(item, item).pipe(deliver(transport)).subscribe(out.append)
    assert [one.outcome.next for one in out if one.outcome] == [Next.RETRY, Next.RETRY]


def test_what_nothing_can_be_written_of_comes_back_until_its_time_is_over() -> None:
    """K1. Not for ever: then the refused queue has it."""
    seen: list[Settlement] = []
    message = msgspec.structs.replace(from_properties(USUAL), properties={"own": object()})
    for queued in (NOW, NOW - 10_000):
        item = Delivery(lease=Lease(1, b"no JSON", queued=queued), message=message, outcome=LATER)
        operator = settle(
            lambda lease, settlement, done: seen.append(settlement), QUEUES, 60, lambda: NOW, VirtualTimeScheduler()
        )
        rx.of(item).pipe(operator).subscribe()
    assert seen[0] == Settlement(then=Retry(b"no JSON", NOW + 60))
    assert seen[1].then is None and [queue for queue, _ in seen[1].publish] == ["refused"]
