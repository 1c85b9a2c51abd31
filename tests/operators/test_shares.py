"""Shares: several instances with the same MTA IP, and a receiver that sees its limit once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.lanes.limits import Limits, Pacer
from operators.lanes.shares import NONE, PAUSE, TURN, Share


def of_all(limits: Limits, count: int, now: float = 0.0) -> list[Limits]:
    """What each of so many instances may do."""
    return [Share(rank, count).of(limits, now) for rank in range(count)]


def test_alone_nothing_changes() -> None:
    """The same object, so that it costs nothing."""
    limits = Limits(domain_messages=60)
    assert Share().of(limits, 0.0) is limits


@given(st.integers(1, 1000), st.integers(2, 20))
def test_the_rates_of_all_add_up_to_the_limit(limit: int, count: int) -> None:
    """Never to more, and hardly to less."""
    total = sum(one.domain_messages for one in of_all(Limits(domain_messages=limit), count))
    assert limit - 0.001 * count <= total <= limit + 1e-9


@given(st.integers(1, 50), st.integers(2, 20), st.floats(0, 1e6))
def test_connections_at_once_add_up_to_the_limit_at_any_time(limit: int, count: int, now: float) -> None:
    """Where there are fewer than instances, these take turns."""
    shares = [one.domain_connections for one in of_all(Limits(domain_connections=limit), count, now)]
    assert sum(share for share in shares if share != NONE) <= limit
    assert 0 not in shares  # which would be without limit


def test_each_has_its_turn() -> None:
    """The only connection goes round; between two turns nobody has it, so that the last one can end."""
    limits = Limits(domain_connections=1, domain_messages=3)
    turns = [[one.domain_connections for one in of_all(limits, 3, turn * TURN)].index(1) for turn in range(6)]
    assert turns == [0, 1, 2, 0, 1, 2]
    assert {one.domain_connections for one in of_all(limits, 3, TURN - PAUSE)} == {NONE}
    assert of_all(limits, 3, TURN - PAUSE)[0].connection_messages == 1


def test_unlimited_stays_unlimited() -> None:
    """0 divided is 0."""
    assert Share(1, 3).of(Limits(domain_messages=0, ip_connections=0), 0.0).ip_connections == 0


@pytest.mark.parametrize("limit", [1, 2, 7, 60])
def test_a_pacer_takes_a_part_of_a_permit_a_minute(limit: int) -> None:
    """One of three instances, at a limit of 1 a minute, goes every three minutes."""
    pacer, part, now, taken = Pacer(), Share(0, 3).of(Limits(domain_messages=limit), 0.0).domain_messages, 0.0, []
    while now < 600:
        now = max(now, pacer.ready(part))
        pacer.take(now)
        taken.append(now)
    assert min(b - a for a, b in pairwise(taken)) >= 180 / limit
