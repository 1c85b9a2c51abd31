"""The synchronous stages, each by its rule: decode, expire, assign, conclude, tap, and the guard around all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next, deferred, failed
from operators.deliveries.results import entry
from operators.mail.message import encode, from_properties, timestamp
from operators.stages.assign import assign
from operators.stages.conclude import conclude
from operators.stages.decode import decode
from operators.stages.expire import expire
from operators.stages.stage import Stage, handover, stage
from operators.stages.tap import tap
from tests.operators.pooling import pools_of

NOW = 1_800_000_000.0


def delivery(**properties: object) -> Delivery:
    message = from_properties({"recipient": "user@a.example", "mime": "x", **properties})
    return Delivery(lease=Lease(1, encode(message), queued=NOW), message=message, domain=message.domain)


def through(operator: Stage, *items: Delivery) -> list[Delivery]:
    out: list[Delivery] = []
    rx.of(*items).pipe(operator).subscribe(out.append)
    return out


def read(body: bytes, maxsize: int = 1000) -> Delivery:
    out: list[Delivery] = []
    rx.of(Lease(1, body)).pipe(decode(maxsize, lambda: 5.0)).subscribe(out.append)
    return out[0]


# -- decode ---------------------------------------------------------------------------------------------------


def test_decode_reads_a_message() -> None:
    """Known properties are checked; unknown ones are kept."""
    got = read(b'{"recipient": "User@A.Example", "mime": "x", "campaign": 7}')
    assert got.outcome is None
    assert got.domain == "a.example"
    assert got.message.properties["campaign"] == 7


# -- expire ---------------------------------------------------------------------------------------------------


def expired(item: Delivery, now: float = NOW) -> Delivery:
    return through(expire(3600, lambda: now), item)[0]


def test_a_message_past_its_maxdelivertime_ends_as_process_timeout() -> None:
    """It is given up without an attempt."""
    outcome = expired(delivery(maxdelivertime=timestamp(NOW - 1))).outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.next) == ("process", "timeout", Next.FAIL)


def test_without_maxdelivertime_the_configured_lifetime_holds() -> None:
    """It counts from when the message came into the queue."""
    assert expired(delivery(), NOW + 3599).outcome is None
    assert expired(delivery(), NOW + 3601).outcome is not None


def test_a_message_before_its_nextattempt_is_postponed_till_then() -> None:
    """Not an attempt: it goes back until its time."""
    outcome = expired(delivery(nextattempt={"time": timestamp(NOW + 60)})).outcome
    assert outcome is not None
    assert (outcome.next, outcome.until) == (Next.POSTPONE, NOW + 60)


def test_a_time_that_is_none_ends_as_process_invalid() -> None:
    """The text says which, and what is allowed."""
    outcome = expired(delivery(maxdelivertime="tomorrow")).outcome
    assert outcome is not None
    assert outcome.result == "invalid"
    assert outcome.description == "'tomorrow' is no time: YYYY-MM-DD HH:MM:SS in UTC"


# -- assign ---------------------------------------------------------------------------------------------------


def assigned(item: Delivery, allowed: list[str], outlook: Callable[[str], tuple[float, int]]) -> Delivery:
    route = Route("mx.a.example", (Target("mx.a.example", "192.0.2.1"),))
    return through(assign(lambda message: allowed, outlook, pools_of(outlook=outlook).choose), item.but(route=route))[0]


def test_the_lane_that_can_send_soonest_decides_the_mta_ip() -> None:
    """Among several MTA IPs; ties by least in memory."""
    outlooks = {
        "192.0.2.7/mx.a.example": (3.0, 0),
        "192.0.2.8/mx.a.example": (0.0, 9),
        "192.0.2.9/mx.a.example": (0.0, 2),
    }
    got = assigned(delivery(), ["192.0.2.7", "192.0.2.8", "192.0.2.9"], outlooks.__getitem__)
    assert (got.ip, got.lane) == ("192.0.2.9", "192.0.2.9/mx.a.example")


def test_a_retry_leaves_from_the_address_it_left_from_before() -> None:
    """Greylisting knows senders by their address."""
    item = delivery(results=[{"state": "rcptto", "result": "error", "from": "192.0.2.7"}])
    got = assigned(item, ["192.0.2.7", "192.0.2.8"], lambda lane: (9.0 if ".7" in lane else 0.0, 0))
    assert got.ip == "192.0.2.7"


def test_an_mta_ip_of_the_wrong_address_family_is_passed_over() -> None:
    """An IPv6 address cannot reach a receiver that has IPv4 only."""
    assert assigned(delivery(), ["2001:db8::1", "192.0.2.8"], lambda lane: (0.0, 0)).ip == "192.0.2.8"


def test_without_a_usable_mta_ip_the_message_ends_as_bind_error() -> None:
    """`ips` that are not ours are a permanent failure."""
    outcome = assigned(delivery(ips=["198.51.100.1"]), [], lambda lane: (0.0, 0)).outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.next) == ("bind", "error", Next.FAIL)


# -- conclude -------------------------------------------------------------------------------------------------


def concluded(item: Delivery, delays: tuple[int, ...] = (600, 1800), most: int = 0) -> Delivery:
    return through(conclude(86400, delays, most, lambda: NOW, lambda: 0.0), item)[0]


def test_a_transient_outcome_gets_the_time_of_its_retry() -> None:
    """By the delays, in their order; the last one repeats."""
    for attempts, delay in ((0, 600), (1, 1800), (5, 1800)):
        item = delivery(results=[{}] * attempts).ended(deferred("rcptto", "error", "later"))
        outcome = concluded(item).outcome
        assert outcome is not None
        assert outcome.until == NOW + delay


def test_the_message_s_own_delays_and_attempts_go_before_the_configured_ones() -> None:
    """`retries` and `maxattempts` of the message."""
    own = concluded(delivery(retries=[5]).ended(deferred("rcptto", "error", "later"))).outcome
    assert own is not None
    assert own.until == NOW + 5
    last = concluded(delivery(maxattempts=1).ended(deferred("rcptto", "error", "later"))).outcome
    assert last is not None
    assert last.next is Next.FAIL


def test_a_put_off_that_reached_for_no_host_is_no_attempt() -> None:
    """S2: another message's failure must not use up this one's attempts; the put-off is listed all the same."""
    skip = deferred("connect", "error", "all hosts are skipped for a while", skipped=True)
    past = [entry(skip, NOW)] * 3
    item = delivery(maxattempts=1, results=past)
    assert item.message.attempts == 0
    again = concluded(item.ended(skip)).outcome
    assert again is not None
    assert (again.next, again.until) == (Next.RETRY, NOW + 600)
    tried = concluded(item.ended(deferred("connect", "error", "refused"))).outcome
    assert tried is not None
    assert tried.next is Next.FAIL


def test_a_retry_that_would_come_after_the_deadline_is_a_failure_now() -> None:
    """Nobody waits for an attempt that will not be made."""
    item = delivery(maxdelivertime=timestamp(NOW + 100)).ended(deferred("rcptto", "error", "later"))
    outcome = concluded(item).outcome
    assert outcome is not None
    assert outcome.next is Next.FAIL


def test_a_delivery_that_no_stage_ended_is_retried() -> None:
    """A custom operator that lets a delivery fall out of its way loses nothing."""
    outcome = concluded(delivery()).outcome
    assert outcome is not None
    assert outcome.next is Next.RETRY


# -- the guard --------------------------------------------------------------------------------------------------


def test_an_exception_fails_one_delivery_and_not_the_stream() -> None:
    """The outcome is transient, the report has the exception, the next delivery goes its way."""
    reported: list[str] = []

    def step(item: Delivery) -> Delivery:
        if item.lease.id == 1:
            raise ZeroDivisionError
        return item

    second = delivery().but(lease=Lease(2, b""))
    operator = stage("mine", step, lambda name, item, error: reported.append(f"{name} {type(error).__name__}"))
    got = through(operator, delivery(), second)
    assert [item.outcome and item.outcome.next for item in got] == [Next.RETRY, None]
    assert reported == ["mine ZeroDivisionError"]


def test_an_ended_delivery_passes_every_stage_untouched() -> None:
    """So every message takes the whole way, and nothing goes around it."""
    item = delivery().ended(failed("process", "invalid", "x"))

    def never(_: Delivery) -> Delivery:
        raise AssertionError

    assert through(stage("mine", never), item) == [item]
    assert through(handover("mine", lambda *_: never(item)), item) == [item]


def test_a_tap_that_fails_changes_nothing() -> None:
    """Observers never hold a message up."""
    item = delivery()
    assert through(tap("mine", lambda _: 1 / 0), item) == [item]  # type: ignore[arg-type,return-value]


def test_a_handover_hands_on_whenever_its_work_is_done() -> None:
    """Marbles: what comes back later comes in the order in which it is done."""
    scheduler = TestScheduler()
    on_next = ReactiveTest.on_next
    first, second = delivery(), delivery().but(lease=Lease(2, b""))
    source = scheduler.create_hot_observable(on_next(210, first), on_next(220, second))

    def start(item: Delivery, done: Callable[[Delivery], None]) -> None:
        scheduler.schedule_relative(50 if item is first else 10, lambda *_: done(item))

    results = scheduler.start(lambda: source.pipe(handover("work", start), ops.map(lambda item: item.lease.id)))
    assert results.messages == [on_next(230, 2), on_next(260, 1)]


def test_a_stage_passes_on_errors_and_completion() -> None:
    """The queue's end is the chain's end."""
    source: Subject[Delivery] = Subject()
    ended: list[str] = []
    source.pipe(stage("mine", lambda item: item)).subscribe(on_completed=lambda: ended.append("done"))
    source.on_completed()
    assert ended == ["done"]


@pytest.mark.parametrize("attempts", range(3))
def test_results_grow_by_one_entry_an_attempt(attempts: int) -> None:
    """All state of a message travels in it."""
    assert delivery(results=[{}] * attempts).message.attempts == attempts
