"""What is said of a lane: its limits and where they come from, what it waits for, where it goes."""

from __future__ import annotations

import datetime
import time
from types import SimpleNamespace
from typing import Any

import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.events import Assigned
from operators.deliveries.outcome import Next, Outcome
from operators.lanes.floods import Floods
from operators.lanes.slots import Slots
from operators.mail.message import Message
from pipeline.smtp.client.egress import Egress
from pipeline.telemetry.history import History
from pipeline.views.explain import Explained, Explainer
from settings import load
from settings.rules import Flood, Pause, Snapshot, Throttle

LANE = "192.0.2.1/a.example"
TARGETS = (Target("mx", "198.51.100.1"), Target("mx", "198.51.100.2"), Target("mx", "2001:db8::1"))
SOON = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)


class Scene:
    """Real parts with nothing in memory: a lane that is known from its past."""

    def __init__(self, *domains: str, parked: dict[str, int] | None = None, **rules: list[Any]) -> None:
        self.history, self.floods, self.slots = History(), Floods(time.monotonic), Slots()
        self.snapshot, self.lanes = Snapshot(rules), dict[str, Any]()
        self.egress = Egress((), time.monotonic, lambda kind, text: None)
        machine: Any = SimpleNamespace(
            settings=load([], None, None),
            rules=SimpleNamespace(snapshot=self.snapshot),
            floods=self.floods,
            slots=self.slots,
            lanes=SimpleNamespace(get=self.lanes.get, all=list),
            queue=SimpleNamespace(parked=lambda: parked or {}),
            egress=self.egress,
        )
        self.explainer = Explainer(machine, self.history)
        for domain in domains or ("a.example",):
            route = Route("a.example", TARGETS)
            delivery = Delivery(lease=Lease(id=1, body=b""), message=Message(), domain=domain, lane=LANE, route=route)
            self.history.note(Assigned(time=1, delivery=delivery))

    def flood(self) -> None:
        """The receiver answers what the first flood pattern matches."""
        outcome = Outcome(state="mailfrom", result="error", next=Next.RETRY, code=421, description="too many")
        lent = Delivery(lease=Lease(id=1, body=b""), message=Message(), lane=LANE, outcome=outcome)
        rx.of(lent).pipe(self.floods.detect(lambda: self.snapshot)).subscribe()

    def explain(self, lane: str = LANE) -> Explained:
        found = self.explainer.explain(lane)
        assert found is not None
        return found


def source(lane: Explained, field: str) -> tuple[Any, str, int | None, str]:
    (found,) = [each for each in lane.limits if each.field == field]
    return found.value, found.source.kind, found.source.id, found.source.name


def test_a_lane_that_nobody_knows_has_no_explanation() -> None:
    """None, not an empty one."""
    assert Scene().explainer.explain("192.0.2.1/b.example") is None


def test_a_lane_without_mail_sends_when_some_comes() -> None:
    """It runs, and nothing waits."""
    lane = Scene().explain()
    assert (lane.state, lane.next_send, lane.next_why, lane.waits_for) == ("running", None, "nothing waits", [])


def test_a_lane_whose_proxy_is_down_waits_for_it() -> None:
    """The proxy's failure is said, with the time of the next try."""
    scene = Scene()
    scene.egress.failed("192.0.2.1", "the proxy is down")
    (obstacle,) = scene.explain().waits_for
    assert (obstacle.kind, obstacle.why) == ("proxy", "the proxy is down")
    assert obstacle.until is not None and obstacle.until > time.time()


def test_each_limit_names_its_rule_or_its_key() -> None:
    """Field by field: the flood in force, the most specific rule, the configuration."""
    rules = [
        Throttle(id=1, domain_messages=100, queue=9),
        Throttle(id=2, ip="192.0.2.1", domain="a.example", domain_messages=5),
    ]
    scene = Scene(throttles=rules, floods=[Flood(id=3, name="busy", pattern="too many", ip_connections=1)])
    lane = scene.explain()
    assert source(lane, "domain_messages") == (5, "throttles", 2, "192.0.2.1 > a.example")
    assert source(lane, "queue") == (9, "throttles", 1, "all > all")
    assert source(lane, "ip_connections") == (20, "configuration", None, "ip-maxconnections")
    scene.flood()
    assert source(scene.explain(), "ip_connections") == (1, "floods", 3, "busy")
    assert source(scene.explain(), "domain_messages") == (5, "throttles", 2, "192.0.2.1 > a.example")


@pytest.mark.parametrize("field", [limit.field for limit in Scene().explain().limits])
def test_the_key_of_each_limit_is_one_of_the_configuration(field: str) -> None:
    """So that it can be looked up there."""
    value, kind, _, key = source(Scene().explain(), field)
    assert kind == "configuration"
    assert getattr(load([], None, None), key.replace("-", "_")) == value


def test_a_flood_says_when_it_ends() -> None:
    """And the lane sends next when its pause is over."""
    scene = Scene(parked={LANE: 3}, floods=[Flood(id=3, name="busy", pattern="too many", pause=50, reduced=500)])
    scene.flood()
    lane = scene.explain()
    assert lane.flood is not None
    assert (lane.state, lane.flood.state, lane.flood.answer) == ("flooded", "paused", "421 too many")
    assert lane.flood.paused_until == pytest.approx(time.time() + 50, abs=5)
    assert lane.flood.reduced_until == pytest.approx(time.time() + 550, abs=5)
    assert lane.next_send == pytest.approx(lane.flood.paused_until, abs=1)
    assert lane.next_why == "paused by the flood pattern 'busy'"


@pytest.mark.parametrize(
    ("pause", "state", "next_send"),
    [
        (Pause(id=1), "paused", None),
        (Pause(id=1, until=SOON), "paused", SOON.timestamp()),
        (Pause(id=1, ip="192.0.2.1", domain="a.example", until=SOON), "paused", SOON.timestamp()),
        (Pause(id=1, tag="news"), "throttled", "now"),
        (Pause(id=1, remote_ip="198.51.100.1"), "throttled", "now"),
    ],
)
def test_a_pause_holds_all_of_a_lane_or_a_part(pause: Pause, state: str, next_send: Any) -> None:
    """A tag's or a host's pause is told, and the rest goes on."""
    lane = Scene(parked={LANE: 3}, pauses=[pause]).explain()
    assert [(each.kind, each.rule) for each in lane.waits_for] == [("pause", 1)]
    assert lane.state == state
    assert lane.next_send == (pytest.approx(time.time(), abs=5) if next_send == "now" else next_send)


def test_what_a_pause_holds_is_told_with_it() -> None:
    """It lies in the pause's parked queue, not in the lane's; a pause of others holds nothing of this lane."""
    scene = Scene(parked={"pause/1": 7, "pause/2": 9}, pauses=[Pause(id=1), Pause(id=2, domain="b.example")])
    lane = scene.explain()
    assert (lane.parked, lane.held, [each.held for each in lane.waits_for]) == (0, 7, [7])


@pytest.mark.parametrize("pause", [Pause(id=1, ip="192.0.2.2"), Pause(id=1, domain="b.example")])
def test_a_pause_of_others_is_not_told(pause: Pause) -> None:
    """Neither another MTA IP's nor another domain's."""
    assert Scene(pauses=[pause]).explain().waits_for == []


def test_hosts_say_whether_they_are_tried() -> None:
    """Ready; skipped with why and until when; paused; of the other family."""
    scene, first = Scene(pauses=[Pause(id=1, remote_ip="198.51.100.2")]), Target("mx1.example", "198.51.100.1")
    scene.slots.skip("192.0.2.1", first, "refused", time.monotonic() + 60)
    one, second, third = scene.explain().hosts
    assert (one.state, one.why) == ("skipped", "refused")
    assert one.until == pytest.approx(time.time() + 60, abs=5)
    assert (second.state, second.why) == ("paused", "paused: by hand")
    assert third.state == "unreachable"
    scene.slots.healthy("192.0.2.1", first)
    assert scene.explain().hosts[0].state == "ready"


@pytest.mark.parametrize(
    ("waits", "field"),
    [
        ("15 messages a minute to the domain", "domain_messages"),
        ("2 connections at once to the domain", "domain_connections"),
        ("3 new connections a minute to 198.51.100.1", "ip_connects"),
    ],
)
def test_a_throttle_with_a_name_is_named_where_it_limits(waits: str, field: str) -> None:
    """In what the lane waits for, and among its limits."""
    rule = Throttle(id=1, name="Gmail warm", domain="a.example", **{field: 15})
    scene = Scene(throttles=[rule])
    held = {"waiting": [SimpleNamespace(route=None)], "memory": 1, "in_flight": 0, "window": 5, "domains": {}}
    scene.lanes[LANE] = SimpleNamespace(**held, waits_for=waits, waits_until=None)
    explained = scene.explain()
    assert [one.why for one in explained.waits_for] == [f"'Gmail warm': {waits}"]
    assert [one.source.called for one in explained.limits if one.field == field] == ["Gmail warm"]


def test_domains_of_one_lane_name_the_one_whose_limits_they_use() -> None:
    """That with a rule; else the one the group is named for."""
    assert Scene("b.example", "a.example").explain().shares == ["b.example uses the limits of a.example: same servers"]
    rules = [Throttle(id=1, domain="b.example", queue=5)]
    lane = Scene("a.example", "b.example", throttles=rules).explain()
    assert lane.shares == ["a.example uses the limits of b.example: same servers"]


def test_a_lane_before_its_look_up_waits_for_dns() -> None:
    """Nobody knows until when."""
    lane = Scene(parked={"?/slow.example": 2}).explain("?/slow.example")
    assert (lane.parked, lane.next_send) == (2, None)
    assert lane.next_why == "the mail servers of slow.example are being looked up"
