"""Turns in a lane: tags by weight, priority first, and nothing starves; on virtual time."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.lanes.turns import MOST, TagShare, Tenants, Turns
from operators.mail.message import from_properties
from tests.support.virtual import World

ROUTE = Route("a.example", (Target("mx", "127.1.0.1"),))
KNOWN = {"b": TagShare(weight=3), "slow": TagShare(messages=60), "shared": TagShare(messages=60, everywhere=True)}


def delivery(tag: str = "", priority: int = 0, number: int = 0) -> Delivery:
    properties: dict[str, Any] = {"recipient": f"{number}@a.example", "mime": "x", "priority": priority}
    message = from_properties(properties | ({"tags": [tag]} if tag else {}))
    lane = "127.0.0.1/a.example"
    return Delivery(
        lease=Lease(number, b""), message=message, domain="a.example", route=ROUTE, ip="127.0.0.1", lane=lane
    )


def tag_of(item: Delivery) -> str:
    return item.message.tags[0] if item.message.tags else ""


def turns(*waiting: Delivery) -> Turns:
    made = Turns(Tenants(lambda lane, tag: KNOWN.get(tag, TagShare())))
    for item in waiting:
        made.append(item)
    return made


def test_without_tags_mail_goes_in_its_order() -> None:
    """As it came."""
    made = turns(*(delivery(number=n) for n in range(20)))
    assert [made.popleft().lease.id for _ in range(20)] == list(range(20))
    assert not made


def test_tags_share_a_lane_by_weight() -> None:
    """Within 5 %, however much the first one has waiting."""
    made = turns(*(delivery("a", number=n) for n in range(5000)), *(delivery("b", number=n) for n in range(5000)))
    went = collections.Counter(tag_of(made.popleft()) for _ in range(4000))
    assert went["b"] / 4000 == pytest.approx(0.75, abs=0.05)
    even = turns(*(delivery("a", number=n) for n in range(5000)), *(delivery("c", number=n) for n in range(5000)))
    went = collections.Counter(tag_of(even.popleft()) for _ in range(4000))
    assert went["c"] / 4000 == pytest.approx(0.5, abs=0.05)


def test_a_tag_that_comes_late_owes_nothing_and_is_owed_nothing() -> None:
    """It has its share from then on."""
    made = turns(*(delivery("a", number=n) for n in range(2000)))
    for _ in range(1000):
        made.popleft()
    for n in range(1000):
        made.append(delivery("c", number=n))
    went = collections.Counter(tag_of(made.popleft()) for _ in range(200))
    assert 80 <= went["c"] <= 110


def test_priority_goes_first_and_never_starves_the_rest() -> None:
    """Nine of ten turns are its own; one of ten goes to what has waited longest."""
    made = turns(*(delivery(number=n) for n in range(100)), *(delivery(priority=9, number=n) for n in range(1000)))
    went = [made.popleft() for _ in range(100)]
    assert [bool(item.message.priority) for item in went].count(False) == 10


def test_a_tags_rate_holds_it_back_and_no_other() -> None:
    """60 a minute is one a second; what is unlimited passes by."""
    made = turns(delivery("slow", number=1), delivery("slow", number=2), delivery("x", number=3))
    now, went = 0.0, []
    while made and now < 10:
        if made.ready(now) <= now:
            item = made.popleft()
            made.went(item, now)
            went.append((tag_of(item), round(now)))
        else:
            now = made.ready(now)
    assert sorted(went) == [("slow", 0), ("slow", 1), ("x", 0)]


def test_a_rate_over_all_lanes_is_one() -> None:
    """Two lanes of a shared tag have one rate between them."""
    tenants = Tenants(lambda lane, tag: KNOWN.get(tag, TagShare()))
    one, two = Turns(tenants), Turns(tenants)
    one.append(delivery("shared"))
    two.append(delivery("shared"))
    one.went(one.popleft(), 0.0)
    assert two.ready(0.0) == pytest.approx(1.0, abs=0.01)


def test_a_tag_for_each_message_makes_no_more_lines() -> None:
    """Beyond MOST they share one, in their order."""
    made = turns(*(delivery(f"t{n}", number=n) for n in range(1000)))
    assert len(made._lines) <= MOST + 1
    assert len(made) == len(list(made)) == 1000
    assert {made.popleft().lease.id for _ in range(1000)} == set(range(1000))


def test_a_password_reset_does_not_wait_for_a_campaign() -> None:
    """It passes by what is parked, and is gone within a second; the campaign goes on."""
    world = World(credit=1000, domain_messages=600)
    for n in range(3000):
        world.input.on_next(delivery("sale", number=n))
    world.run(10)
    begun = world.now()
    world.input.on_next(delivery("reset", priority=10, number=9999))
    world.run(2)
    went = [(when, item) for when, item in world.gone if tag_of(item) == "reset"]
    assert len(went) == 1 and went[0][0] - begun < 1.0
    assert sum(1 for when, item in world.gone if when > begun and tag_of(item) == "sale") > 5


def test_each_rule_has_a_rate_of_its_own_over_all_lanes() -> None:
    """Two throttles of one tag do not use each other's permits."""
    rates = {"one": "throttles/1", "two": "throttles/2"}
    tenants = Tenants(lambda lane, tag: TagShare(messages=60, everywhere=True, rate=rates[lane]))
    one, two, also = Turns(tenants, "one"), Turns(tenants, "two"), Turns(tenants, "one")
    for line in (one, two, also):
        line.append(delivery("shared"))
    one.went(one.popleft(), 0.0)
    assert two.ready(0.0) <= 0.0
    assert also.ready(0.0) == pytest.approx(1.0, abs=0.01)
