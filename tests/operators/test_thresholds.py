"""Flood patterns completed: thresholds, shares, selection, tags, and limits as a part of the normal ones."""

from __future__ import annotations

from typing import Any

import pytest

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next, Outcome, deferred
from operators.lanes.floods import Floods
from operators.lanes.limits import Limits
from operators.mail.message import from_properties
from settings.rules import Flood, Snapshot
from tests.operators.test_force import through

LANE = "127.0.0.1/a.example"
BUSY = deferred("rcptto", "error", "too many", code=421)
FINE = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250)


class Watch:
    """A detector on a clock that a test moves."""

    def __init__(self, **rule: Any) -> None:
        self.now = 0.0
        self.floods = Floods(lambda: self.now)
        snapshot = Snapshot({"floods": [Flood(id=1, name="x", pattern="too many", pause=60, reduced=600, **rule)]})
        self.stage = self.floods.detect(lambda: snapshot)

    def ends(self, outcome: Outcome = BUSY, lane: str = LANE, tags: tuple[str, ...] = ()) -> tuple[str, ...]:
        """An attempt's end; returns the rules that have decided on it."""
        message = from_properties({"recipient": "u@a.example", "mime": "x", "tags": list(tags)})
        item = Delivery(lease=Lease(1, b""), message=message, domain="a.example", lane=lane, ip="127.0.0.1")
        return through(self.stage, item.ended(outcome)).rules

    @property
    def flooded(self) -> bool:
        return self.floods.get(LANE) is not None


def test_so_many_matches_within_the_period_begin_it() -> None:
    """Three within ten seconds; matches that are older do not count, nor do those of another lane."""
    watch = Watch(count=3, period=10)
    for now in (0, 6, 12):
        watch.now = now
        watch.ends()
    assert not watch.flooded
    assert watch.ends(lane="127.0.0.2/a.example") == ()
    assert not watch.flooded
    watch.now = 13
    assert watch.ends() == ("floods/1",)
    assert watch.flooded


def test_a_share_of_the_last_attempts_begins_it() -> None:
    """30 % of the last ten: of fewer attempts none is taken."""
    watch = Watch(percent=30, attempts=10)
    for outcome in (BUSY, BUSY, BUSY, *[FINE] * 6):
        watch.ends(outcome)
    assert not watch.flooded
    watch.ends()
    assert watch.flooded
    calm = Watch(percent=30, attempts=10)
    for outcome in (*[FINE] * 8, BUSY, BUSY, *[FINE] * 20, BUSY):
        calm.ends(outcome)
    assert not calm.flooded


@pytest.mark.parametrize(("domain", "begins"), [("a.example", True), ("gmail", True), ("b.example", False)])
def test_a_pattern_may_be_for_a_domain_or_a_provider(domain: str, begins: bool) -> None:
    """The destination group has a provider's name."""
    watch = Watch(domain=domain)
    watch.ends(lane="127.0.0.1/gmail")
    assert (watch.floods.get("127.0.0.1/gmail") is not None) is begins


def test_with_a_tag_only_that_tags_mail_is_slowed() -> None:
    """The lane itself goes on."""
    watch = Watch(tag="sale")
    watch.ends(tags=("news",))
    assert watch.floods.of_tag(LANE, "sale") is None
    watch.ends(tags=("sale",))
    assert watch.floods.paused(LANE) is None
    active = watch.floods.of_tag(LANE, "sale")
    assert active is not None and active.paused_until == 60
    assert [one.rule.name for one in watch.floods.tagged()] == ["x"]
    assert watch.floods.end(LANE) and watch.floods.of_tag(LANE, "sale") is None


def test_limits_may_be_a_part_of_the_normal_ones() -> None:
    """An unlimited one stays so, one that is given counts, and none falls to nothing."""
    rule = Flood(id=1, name="x", pattern="y", reduce_to=25, ip_connects=7)
    limits = rule.over(Limits(domain_messages=600, ip_connections=2, domain_connects=0))
    assert (limits.domain_messages, limits.ip_connections, limits.domain_connects, limits.ip_connects) == (150, 1, 0, 7)


def test_a_tags_flood_that_began_in_another_worker_slows_that_tag_alone() -> None:
    """Its lane goes on."""
    there, here = Watch(tag="news"), Watch(tag="news")
    there.ends(tags=("news",))
    (flood,) = there.floods.tagged()
    here.floods.adopt(flood)
    assert here.floods.get(LANE) is None
    assert here.floods.of_tag(LANE, "news") == flood
    assert here.floods.end(LANE)
    assert not here.floods.tagged()
