"""Leases: four workers at full demand, and a receiver that never sees more than the instance's limit."""

from __future__ import annotations

import bisect

import pytest

from tests.support.workers import Workers


def most_in_a_minute(moments: list[float]) -> int:
    """The most in any window of 60 s."""
    return max(bisect.bisect_left(moments, moment + 60.0) - index for index, moment in enumerate(moments))


@pytest.mark.parametrize("limit", [6, 60, 600])
def test_a_rate_is_the_instances_in_every_window(limit: int) -> None:
    """Never more than the limit in 60 s, and 97 % of it is used, by all workers."""
    four = Workers(4, domain_messages=limit)
    four.flood(180)
    moments = [moment for moment in four.moments if moment > 60]
    assert most_in_a_minute(four.moments) <= limit
    assert len(moments) >= 0.97 * limit * 2 - 1
    assert all(world.gone for world in four.worlds)


@pytest.mark.parametrize("limit", [1, 3])
def test_connections_at_once_are_the_instances(limit: int) -> None:
    """With one connection for four workers it goes from one to the next."""
    four = Workers(4, ip_connections=limit)
    for world in four.worlds:
        world.answer = lambda delivery: 0.2
    four.flood(60)
    assert max(four.worlds[0].most_open.values()) == limit
    assert all(len(world.gone) >= 3 for world in four.worlds)


@pytest.mark.parametrize(("limit", "connections"), [(600, 1), (600, 3), (600, 8), (60, 1), (60, 3), (6, 1)])
def test_a_rate_and_connections_at_once_are_used_together(limit: int, connections: int) -> None:
    """A place goes to a worker that has a connection, a connection in turn to all: 97 % of both limits, never more."""
    four = Workers(4, domain_messages=limit, ip_connections=connections)
    for world in four.worlds:
        world.answer = lambda delivery: 0.05 if limit == 600 else 0.2
    four.flood(90 if limit == 600 else 180)
    used = len([moment for moment in four.moments if moment > 60])
    assert most_in_a_minute(four.moments) <= limit
    assert max(four.worlds[0].most_open.values()) <= connections
    assert used >= 0.97 * limit * (four.now - 60) / 60 - 1
    assert all(world.gone for world in four.worlds)


def test_connections_of_a_lane_are_the_instances() -> None:
    """However many addresses the lane has."""
    four = Workers(4, domain_connections=2, ip_connections=0)
    four.flood(60)
    assert four.worlds[0].most_open["127.1.0.1"] == 2
    assert all(world.gone for world in four.worlds)


def test_new_connections_are_the_instances() -> None:
    """6 a minute, where each carries one message."""
    four = Workers(4, domain_connects=6)
    for world in four.worlds:
        world.keep_open = False
    four.flood(240)
    assert most_in_a_minute(four.moments) <= 6
    assert len(four.moments) >= 20


def test_all_connections_together_are_the_instances() -> None:
    """`max-connections` is for all workers."""
    four = Workers(4, maximum=5, ip_connections=0)
    four.flood(20)
    assert four.worlds[0].open_now.total() <= 5


def test_a_worker_that_is_killed_gives_back_its_connections_and_no_rate() -> None:
    """Whatever it had of a rate counts as used; the new one begins at once."""
    four = Workers(4, domain_messages=60, ip_connections=2)
    for which in (0, 1, 2, 3):
        four.flood(20)
        four.kill(which)
    four.flood(60)
    assert most_in_a_minute(four.moments) <= 60
    assert max(four.worlds[0].most_open.values()) <= 2
    assert len([moment for moment in four.moments if moment > 80]) >= 48  # of 60: what a killed one had counts as used


def test_without_a_word_of_the_head_nothing_new_begins() -> None:
    """A second later; what is open goes on where no rate forbids it."""
    four = Workers(4, domain_messages=600)
    four.flood(10)
    four.head_lives = False
    four.flood(10)
    assert max(four.moments) < 12.5


def test_a_changed_limit_holds_from_the_next_place() -> None:
    """A rule that is made stricter is in force at once."""
    from operators.lanes.limits import Limits

    four = Workers(4, domain_messages=600)
    four.flood(20)
    for world in four.worlds:
        world.limits = Limits(domain_messages=60)
    changed = four.now
    four.flood(60)
    assert len([moment for moment in four.moments if moment > changed + 0.1]) <= 61


def test_what_has_no_limit_asks_nobody() -> None:
    """A lane without a rate costs no word between the processes, but for its connections."""
    four = Workers(4)
    said: list[str] = []
    four.ledger.places = lambda *args: said.append(args[0]) or []  # type: ignore[method-assign, func-returns-value]
    four.flood(10)
    assert said == []
    assert len(four.moments) >= 190  # 20 connections to the address, a second each


def test_lanes_of_one_receiver_ask_for_its_connections_one_after_another() -> None:
    """Hundreds of domains on one address: a few words each, all are served, and never more connections than may be."""
    four = Workers(4, ip_connections=3)
    asked: list[str] = []
    open_ = four.ledger.open
    four.ledger.open = lambda worker, ask, now: (asked.append(ask.key), open_(worker, ask, now))[1]  # type: ignore[method-assign]
    for world in four.worlds:
        world.answer = lambda delivery: 0.02
        for number in range(100):
            world.send(1, group=f"d{number}.example")
    four.run(60)
    sent = sum(len(world.gone) for world in four.worlds)
    assert max(four.worlds[0].most_open.values()) == 3
    assert sent == 400
    assert len(asked) < 5 * sent


def test_a_connection_for_a_lane_without_mail_goes_to_another_at_once() -> None:
    """Its mail was parked before the answer came."""
    from operators.lanes.leases import Leases
    from operators.lanes.ledger import ConnectionAsk
    from operators.lanes.limits import Limits

    back: list[str] = []
    leases = Leases(
        lambda: 0.0,
        lambda rate, limit, count, given: None,
        lambda ask: None,
        lambda counted: None,
        lambda ask, at: back.append(ask.key),
        100,
    )
    leases.waits = lambda lane: False
    wanted = Limits(ip_connections=1)
    assert leases.take("127.0.0.1/a.example", "127.0.0.1", "192.0.2.1", wanted) is not None
    key = ConnectionAsk("127.0.0.1/a.example\n127.0.0.1\n192.0.2.1", {}).key
    leases.answered(key, 0.0, None)
    assert back == [key]


def test_what_a_worker_has_no_use_for_is_the_next_ones() -> None:
    """It passes on what came free, and so until one takes it."""
    from operators.lanes.ledger import ConnectionAsk, LimitLedger

    ledger, ask = LimitLedger(), ConnectionAsk("k", {"remote": 1})
    assert ledger.open(1, ask, 0.0) is None
    assert ledger.open(2, ask, 0.0) is not None
    assert ledger.open(3, ask, 0.0) is not None
    assert ledger.close(1, ["remote"], 1.0) == {2: ["remote"]}
    assert ledger.pass_on(2, ["remote"], 1.0) == {3: ["remote"]}
    assert ledger.pass_on(3, ["remote"], 1.0) == {}
    assert ledger.open(1, ask, 1.0) is None
