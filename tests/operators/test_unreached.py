"""Which MTA IPs are passed over since nothing of a receiver is reached from them."""

from __future__ import annotations

from operators.deliveries.delivery import Route, Target
from operators.lanes.unreached import REMEMBER, UnreachedLanes

V4, V6 = "192.0.2.7", "2001:db8::7"
BOTH = Route("g", (Target("mx", "192.0.2.1"), Target("mx", "2001:db8::1")))
ONE = Route("g", (Target("mx", "192.0.2.1"),))


def test_an_ip_that_reaches_nothing_gives_way_to_the_other_family_for_a_while() -> None:
    """At least a minute, or as long as its addresses are skipped; where all reach nothing, all are as good."""
    now = 0.0
    lanes = UnreachedLanes(lambda: now)
    lanes.note(f"{V4}/g", 300.0)
    assert lanes.left([V4, V6], BOTH) == [V6]
    assert lanes.left([V4, V6], Route("other", BOTH.targets)) == [V4, V6]
    assert lanes.left([V4], BOTH) == [V4]
    lanes.note(f"{V6}/g", 0.0)
    assert lanes.left([V4, V6], BOTH) == [V4, V6]
    now = 61.0
    assert lanes.left([V4, V6], BOTH) == [V6]
    now = 301.0
    assert lanes.left([V4, V6], BOTH) == [V4, V6]


def test_an_answer_ends_it_and_one_family_alone_knows_no_other() -> None:
    """A receiver with IPv4 alone is tried again from the same MTA IP, by the rules of its lane."""
    lanes = UnreachedLanes(lambda: 0.0)
    lanes.note(f"{V4}/g", 0.0)
    assert lanes.left([V4, "192.0.2.8"], ONE) == [V4, "192.0.2.8"]
    lanes.reached(f"{V4}/g")
    assert lanes.left([V4, V6], BOTH) == [V4, V6]


def test_what_is_remembered_is_bounded() -> None:
    """The oldest is forgotten."""
    lanes = UnreachedLanes(lambda: 0.0)
    for number in range(REMEMBER + 1):
        lanes.note(f"{number}", 0.0)
    assert not lanes.holds("0")
    assert lanes.holds("1")
