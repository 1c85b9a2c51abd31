"""Restored: the charts' last hour and day from the delivery log, after a restart.

The log knows how attempts ended, so what came in, connections and reuses are not restored. Between the last line and
the start nobody counted: that is a gap. Owner of nothing; `telemetry` keeps what is put into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from operators.deliveries.outcome import STATES, Next
from pipeline.telemetry.figures import INDEX, OUTSIDE, counted
from pipeline.telemetry.series import SLOTS, STEPS
from pipeline.telemetry.telemetry import Telemetry

TIERS = (1, 2)  # the hour and the day; the last minute is over before anybody looks
_ENDS = frozenset(Next)
_TRIED = frozenset(STATES[STATES.index("mailfrom") :])  # MAIL FROM was sent


class LoggedEnds(NamedTuple):
    """So many lines of the log that ended alike, in the slot that begins at `time` (epoch seconds)."""

    time: int
    ip: str
    next: str
    result: str
    state: str
    code: bool
    connected: bool
    lines: int


def spans(now: float) -> list[tuple[int, int, int]]:
    """(tier, since, seconds a slot) of what can be restored."""
    return [(tier, int(now) - SLOTS[tier] * STEPS[tier], STEPS[tier]) for tier in TIERS]


def restore(telemetry: Telemetry, tier: int, ends: Iterable[LoggedEnds]) -> None:
    """Put these into the series of all mail and of its MTA IP, as far as they lie before the start."""
    for one in ends:
        if one.time + STEPS[tier] > telemetry.began or one.next not in _ENDS:
            continue
        counters = counted(
            Next(one.next),
            one.result,
            one.code,
            one.state in _TRIED,
            False,
            one.connected,
            one.state in OUTSIDE,
        )
        telemetry.put_back(tier, one.time, one.ip, (INDEX["processed"], *counters), one.lines)
