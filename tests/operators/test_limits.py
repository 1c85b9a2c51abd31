"""The pacer spreads a rate evenly."""

import bisect
import itertools

from hypothesis import given
from hypothesis import strategies as st

from operators.lanes.limits import Pacer


def takes(pacer: Pacer, limit: int, until: float, late: float = 0.0, start: float = 0.0) -> list[float]:
    """The moments at which a taker who is always ready, but `late` at each wake-up, gets a permit."""
    now, got = start, []
    while (now := max(now, pacer.ready(limit)) + late) < until:
        pacer.take(now)
        got.append(now)
    return got


def most_in_a_window(moments: list[float]) -> int:
    return max(bisect.bisect_left(moments, begin + 60) - index for index, begin in enumerate(moments))


def test_sixty_a_minute_is_one_a_second() -> None:
    """Permits are evenly spaced; there is no burst at the minute."""
    moments = takes(Pacer(), 60, until=180)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert min(gaps) > 0.99
    assert max(gaps) < 1.01


@given(st.integers(1, 3000), st.floats(0, 0.2), st.floats(0, 100))
def test_no_window_of_a_minute_has_more_than_the_limit(limit: int, late: float, start: float) -> None:
    """However late the taker wakes up, sixty seconds never hold more than the limit."""
    assert most_in_a_window(takes(Pacer(), limit, start + 130, late, start)) <= limit


def test_a_late_permit_keeps_its_place_on_the_grid() -> None:
    """Jitter of a few milliseconds costs no rate."""
    assert len(takes(Pacer(), 600, until=60, late=0.004)) >= 594


def test_a_raised_limit_holds_from_the_next_permit() -> None:
    """After a change from 60 to 600 a minute the next message comes a tenth of a second after the last."""
    pacer = Pacer()
    pacer.ready(60)
    pacer.take(100.0)
    assert pacer.ready(60) > 100.99
    assert 100.0 < pacer.ready(600) < 100.11


def test_no_limit_is_always_ready() -> None:
    """Zero is unlimited."""
    pacer = Pacer()
    pacer.take(5.0)
    assert pacer.ready(0) <= 5.0
