"""The counters of the machine: what each event counts, for whom, and what they always add up to."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Assigned, Connecting, Event, Parked, Redirected, Settled, Taken, Unparked
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.telemetry.telemetry import COUNTERS, FIGURES, Telemetry
from pipeline.telemetry.telemetry import TAGS as MOST_TAGS

START = 1_000_000_000


class Machine:
    """A clock, a telemetry that watches a stream, and the events of messages on their way."""

    def __init__(self, **options: Any) -> None:
        self.now = float(START)
        self.events: Subject[Event] = Subject()
        self.telemetry = Telemetry(lambda: self.now, **options)
        self.watching = self.telemetry.watch(self.events)

    def take(
        self, domain: str = "example.com", tags: tuple[str, ...] = (), lane: str | None = None, ip: str = ""
    ) -> Delivery:
        message = Message(recipient=f"info@{domain}", tags=list(tags))
        delivery = Delivery(lease=Lease(id=1, body=b"{}", recalled=lane), message=message, domain=domain)
        self.events.on_next(Taken(time=self.now, delivery=delivery))
        if not ip:
            return delivery
        delivery = delivery.but(ip=ip, lane=f"{ip}/{domain}")
        self.events.on_next(Assigned(time=self.now, delivery=delivery))
        return delivery

    def settle(self, delivery: Delivery, next_: Next = Next.DELIVERED, result: str = "accepted", **more: Any) -> None:
        if next_ is Next.PARK:
            more.setdefault("lane", delivery.lane)
        outcome = Outcome(state=more.pop("state", "process"), result=result, next=next_, **more)
        self.events.on_next(Settled(time=self.now, delivery=delivery, outcome=outcome))

    def counted(self, dimension: Any = None, key: str | None = None) -> dict[str, int]:
        """What is not zero."""
        return {name: count for name, count in self.telemetry.snapshot(dimension, key).items() if count}


def test_a_message_is_counted_for_all_and_for_its_ip_domain_and_tags() -> None:
    """Each dimension sees what concerns it."""
    machine = Machine()
    machine.settle(
        machine.take(tags=("news", "vip"), ip="192.0.2.1"), code=250, attempted=True, messages=2, remote_ip="192.0.2.9"
    )
    expected = {"processed": 1, "attempts": 1, "delivered": 1, "reuses": 1}
    assert machine.counted() == expected
    assert machine.counted("ip", "192.0.2.1") == expected
    assert machine.counted("domain", "example.com") == expected
    assert machine.counted("tag", "news") == machine.counted("tag", "vip") == expected
    assert machine.counted("domain", "example.net") == {}


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        ({"next_": Next.DELIVERED, "code": 250, "attempted": True, "remote_ip": "::1"}, {"attempts", "delivered"}),
        ({"next_": Next.RETRY, "result": "error", "code": 451, "attempted": True}, {"attempts", "errors", "retried"}),
        ({"next_": Next.RETRY, "result": "timeout", "remote_ip": "::1"}, {"strange", "retried"}),
        ({"next_": Next.RETRY, "result": "lost", "attempted": True}, {"attempts", "strange", "retried"}),
        ({"next_": Next.POSTPONE, "result": "error"}, {"retried"}),
        ({"next_": Next.FAIL, "result": "error", "code": 550, "remote_ip": "::1"}, {"errors", "failed"}),
        ({"next_": Next.FAIL, "result": "error"}, {"failed", "not_tried"}),
        ({"next_": Next.RETRY, "result": "error", "state": "connect"}, {"unreached", "retried"}),
        ({"next_": Next.FAIL, "result": "error", "state": "dns"}, {"unreached", "failed", "not_tried"}),
        ({"next_": Next.REFUSE, "result": "invalid"}, {"refused"}),
        ({"next_": Next.RETURN, "result": "lost"}, {"returned"}),
        ({"next_": Next.PARK, "result": "error"}, {"parked"}),
    ],
)
def test_an_end_is_counted_by_what_it_was(outcome: dict[str, Any], counted: set[str]) -> None:
    """The mapping from outcomes to counters."""
    machine = Machine()
    machine.settle(machine.take(), **outcome)
    assert machine.counted() == dict.fromkeys(counted | {"processed"}, 1)


def test_a_message_that_is_called_in_again_is_not_processed_again() -> None:
    """Parking and calling in moves a message between parked and in memory, and nothing else."""
    machine = Machine()
    machine.settle(machine.take(ip="192.0.2.1", tags=("news",)), Next.PARK, "error")
    assert machine.counted("tag", "news") == {"processed": 1, "parked": 1}
    machine.take(tags=("news",), lane="192.0.2.1/example.com", ip="192.0.2.1")
    for dimension, key in ((None, None), ("ip", "192.0.2.1"), ("domain", "example.com"), ("tag", "news")):
        assert machine.counted(dimension, key) == {"processed": 1, "in_memory": 1}


@pytest.mark.parametrize("queue", ["pause/3", "?/example.com"])
def test_only_a_lane_counts_for_an_mta_ip(queue: str) -> None:
    """`pause/3` and `?/example.com` are parked queues too, but `pause` and `?` are no MTA IPs."""
    machine = Machine()
    machine.events.on_next(Parked(time=machine.now, lane=queue, count=2))
    machine.settle(machine.take(ip="192.0.2.1"), Next.PARK, "error", lane=queue)
    assert machine.counted()["parked"] == 3
    machine.settle(machine.take(lane=queue, ip="192.0.2.2"), Next.PARK, "error", lane="192.0.2.2/example.com")
    assert machine.telemetry.keys("ip") == ["192.0.2.2", "192.0.2.1"]
    assert "parked" not in machine.counted("ip", "192.0.2.1")
    assert machine.counted("ip", "192.0.2.2") == {"processed": 1, "parked": 1}


def test_what_is_found_parked_at_start_is_processed_at_start() -> None:
    """It was processed by an earlier run; this one begins with it."""
    machine = Machine()
    machine.events.on_next(Parked(time=machine.now, lane="192.0.2.1/example.com", count=40))
    assert machine.counted() == machine.counted("ip", "192.0.2.1") == {"processed": 40, "parked": 40}
    machine.settle(machine.take(lane="192.0.2.1/example.com", ip="192.0.2.1"))
    assert machine.counted("ip", "192.0.2.1") == {"processed": 40, "parked": 39, "delivered": 1}


def test_what_an_operator_takes_out_is_parked_no_more() -> None:
    """K7: for all, and for whom it was parked; the oldest first."""
    machine = Machine()
    for domain in ("old.example", "new.example", "new.example"):
        machine.settle(machine.take(domain, ("news",), ip="192.0.2.1"), Next.PARK, "error", lane="192.0.2.1/mx.example")
    machine.events.on_next(Unparked(time=machine.now, lane="192.0.2.1/mx.example", count=2))
    assert machine.counted() == {"processed": 3, "parked": 1, "removed": 2}
    assert machine.counted("domain", "old.example") == {"processed": 1, "removed": 1}
    assert machine.counted("domain", "new.example") == {"processed": 2, "parked": 1, "removed": 1}
    assert machine.counted("tag", "news") == machine.counted("ip", "192.0.2.1") == machine.counted()


def test_a_redirect_is_counted_for_the_address_that_was_replaced() -> None:
    """What is sent is counted for the address that sends it."""
    machine = Machine()
    delivery = machine.take(ip="192.0.2.1").but(ip="192.0.2.2", lane="192.0.2.2/example.com")
    machine.events.on_next(Redirected(time=machine.now, delivery=delivery, from_ip="192.0.2.1"))
    machine.events.on_next(Assigned(time=machine.now, delivery=delivery))
    machine.settle(delivery)
    assert machine.counted("ip", "192.0.2.1") == {"processed": 1, "redirected": 1}
    assert machine.counted("ip", "192.0.2.2") == {"processed": 1, "delivered": 1}


def test_a_new_connection_is_counted() -> None:
    """For all, and for the MTA IP it leaves from."""
    machine = Machine()
    machine.events.on_next(
        Connecting(time=machine.now, lane="192.0.2.1/example.com", ip="192.0.2.1", remote_ip="192.0.2.9", host="mx")
    )
    assert machine.counted() == machine.counted("ip", "192.0.2.1") == {"connects": 1}


def test_the_last_minute_is_forgotten_a_second_at_a_time() -> None:
    """A figure is the sum of the last 60 s."""
    machine = Machine()
    machine.settle(machine.take())
    machine.now += 59.9
    machine.settle(machine.take())
    assert machine.counted()["delivered"] == 2
    machine.now += 0.1
    assert machine.counted()["delivered"] == 1
    machine.now += 60
    assert machine.counted() == {}
    assert machine.telemetry.totals()["delivered"] == 2


@pytest.mark.parametrize(("span", "step", "slots"), [("1m", 1, 60), ("1h", 10, 360), ("24h", 60, 1440)])
def test_a_series_holds_each_slot_of_its_range(span: Any, step: int, slots: int) -> None:
    """One message a step, then two in the last: the series says so, and has nothing from before its range."""
    machine = Machine()
    for _ in range(slots + 5):
        machine.settle(machine.take())
        machine.now += step
    machine.settle(machine.take())
    machine.now -= 1
    machine.settle(machine.take())
    machine.now += 1 + step
    times, values = machine.telemetry.series(["delivered", "failed"], span)
    assert len(times) == slots
    assert times[1] - times[0] == step
    assert times[-1] + step <= machine.now < times[-1] + 2 * step
    assert sum(values["delivered"][-2:]) == 3
    assert set(values["delivered"][:-2]) == {1}
    assert not any(values["failed"])


def test_a_slot_holds_more_than_sixteen_bits() -> None:
    """Blocks are 16 bit numbers until one does not fit."""
    machine = Machine()
    for _ in range(3):
        machine.events.on_next(Parked(time=machine.now, lane="192.0.2.1/example.com", count=40_000))
        machine.now += 1
    machine.now += 60
    _, values = machine.telemetry.series(["processed"], "24h")
    assert values["processed"][-1] == 120_000


def test_a_clock_that_jumps_back_harms_no_figure() -> None:
    """The future is dropped, and counting goes on."""
    machine = Machine()
    machine.settle(machine.take())
    machine.now -= 86_400
    machine.settle(machine.take())
    assert machine.counted() == {"processed": 1, "delivered": 1}


def test_the_least_recently_active_key_is_forgotten() -> None:
    """A hundred thousand domains leave as many series as are allowed."""
    machine = Machine(keys=3)
    for number in range(100):
        machine.settle(machine.take(domain="busy.example"))
        machine.settle(machine.take(domain=f"d{number}.example"))
        machine.now += 1
    assert set(machine.telemetry.keys("domain")) == {"d99.example", "busy.example", "d98.example"}
    assert machine.counted("domain", "busy.example")["delivered"] == 59


def test_a_message_with_a_thousand_tags_is_counted_for_the_first_ten() -> None:
    """What comes from outside cannot grow the work of an event."""
    machine = Machine()
    machine.take(tags=tuple(f"t{number}" for number in range(1000)))
    assert len(machine.telemetry.keys("tag")) == MOST_TAGS


def test_an_event_that_cannot_be_counted_leaves_the_stream_alive() -> None:
    """The next one is counted."""
    machine = Machine()
    machine.events.on_next(Taken(time=machine.now, delivery=None))  # type: ignore[arg-type]
    machine.settle(machine.take())
    assert machine.counted() == {"processed": 1, "delivered": 1}


def test_the_worst_destination_comes_first_with_its_last_answer() -> None:
    """Errors of the last 5 minutes, whoever did not want or could not be reached; older ones are gone."""
    machine = Machine()
    machine.settle(machine.take(domain="old.example"), Next.FAIL, "error", code=550, description="Gone")
    machine.now += 301
    for answer in ("Try later", "Still busy"):
        machine.settle(machine.take(domain="bad.example"), Next.RETRY, "error", code=451, description=answer)
    machine.settle(machine.take(domain="some.example"), Next.RETRY, "error", state="connect", description="Refused")
    machine.settle(machine.take(domain="good.example"), attempted=True)
    worst = machine.telemetry.top_errors()
    assert [(trouble.domain, trouble.errors) for trouble in worst] == [("bad.example", 2), ("some.example", 1)]
    assert worst[0].last.outcome.description == "Still busy"
    assert [answer.domain for answer in machine.telemetry.answers] == [
        "some.example", "bad.example", "bad.example", "old.example",
    ]  # fmt: skip


def test_gauges_of_others_are_read_when_they_are_shown() -> None:
    """Connections and waiting messages have their owners."""
    machine = Machine(gauges={"active": lambda: 7, "waiting": lambda: 9})
    assert machine.counted() == {"active": 7, "waiting": 9}


def test_samples_come_once_a_second_from_one_timer() -> None:
    """However many look, it is worked out once."""
    machine, scheduler, seen = Machine(), TestScheduler(), []
    samples = machine.telemetry.samples(scheduler)
    watching = rx.merge(samples, samples).subscribe(seen.append)
    machine.settle(machine.take())
    scheduler.advance_to(2.5)
    watching.dispose()
    scheduler.advance_to(9)
    assert [sample["delivered"] for sample in seen] == [1, 1, 1, 1]


def test_every_figure_has_a_label_and_a_definition() -> None:
    """An operator can ask of each what it means."""
    assert all(figure.label and figure.definition.endswith(".") for figure in FIGURES.values())
    assert len(COUNTERS) == 13


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "assign", "settle", "recall", "remove", "tick"]),
        st.integers(0, 3),
        st.sampled_from(list(Next)),
    ),
    max_size=80,
)


@given(found=st.integers(0, 3), steps=STEPS)
def test_processed_is_always_what_became_of_it(found: int, steps: list[tuple[str, int, Next]]) -> None:
    """K7: processed = delivered + retried + failed + refused + returned + in memory + parked + removed, always."""
    machine = Machine()
    held: list[Delivery] = []
    parked: list[tuple[str, str]] = [("192.0.2.1/d0.example", "d0.example")] * found
    if found:
        machine.events.on_next(Parked(time=machine.now, lane="192.0.2.1/d0.example", count=found))
    for step, number, next_ in steps:
        domain, ip = f"d{number}.example", f"192.0.2.{number}"
        if step == "take":
            held.append(machine.take(domain=domain, tags=("a", "b")[:number]))
        elif step == "assign" and held and not held[-1].ip:
            held[-1] = held[-1].but(ip=ip, lane=f"{ip}/{held[-1].domain}")
            machine.events.on_next(Assigned(time=machine.now, delivery=held[-1]))
        elif step == "settle" and held:
            delivery = held.pop(number % len(held))
            machine.settle(delivery, next_, "error")
            if next_ is Next.PARK:
                parked.append((delivery.lane or f"/{delivery.domain}", delivery.domain))
        elif step == "recall" and parked:
            lane, domain = parked.pop(0)
            held.append(machine.take(domain=domain, lane=lane))
        elif step == "remove" and parked:
            lane = parked[0][0]
            machine.events.on_next(Unparked(time=machine.now, lane=lane, count=sum(one == lane for one, _ in parked)))
            parked = [(one, domain) for one, domain in parked if one != lane]
        else:
            machine.now += number
        _adds_up(machine.telemetry.totals())
        assert machine.telemetry.totals()["in_memory"] == len(held)
        assert machine.telemetry.totals()["parked"] == len(parked)
    for dimension in ("domain", "tag"):
        for key in machine.telemetry.keys(dimension):
            if machine.now - START < 60:
                _adds_up(machine.telemetry.snapshot(dimension, key))


def _adds_up(figures: dict[str, int]) -> None:
    ends = ("delivered", "retried", "failed", "refused", "returned", "in_memory", "parked", "removed")
    assert figures["processed"] == sum(figures[name] for name in ends), figures
