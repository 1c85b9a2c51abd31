"""floods: what receivers answer when they have had enough, and how their lanes are slowed down then.

`Floods` owns the floods in force, one a lane at most; they end by themselves. Bound: the lanes that receivers have
answered with a pattern within its pause and reduced time. Nothing of it outlives the process.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

import msgspec

from operators.deliveries.delivery import Delivery
from operators.lanes.limits import Limits
from operators.lanes.slots import Wait
from operators.stages.stage import Report, Stage, unreported
from operators.stages.tap import tap
from settings.rules import Flood, Snapshot

HOUR = 3600.0  # seconds for which hits are counted


class Active(msgspec.Struct, frozen=True):
    """A flood in force on a lane. Times are monotonic seconds."""

    lane: str
    rule: Flood
    answer: str
    since: float
    paused_until: float
    reduced_until: float


class Floods:
    """The floods in force.

    Args:
        clock: monotonic seconds.
        begun: told of each match.
    """

    def __init__(self, clock: Callable[[], float], begun: Callable[[Active], None] = lambda active: None) -> None:
        self._clock, self._begun = clock, begun
        self._active: dict[str, Active] = {}
        self._hits: dict[int, collections.deque[float]] = {}

    def detect(self, rules: Callable[[], Snapshot], report: Report = unreported) -> Stage:
        """The stage: looks at each negative answer; a match begins a flood on its lane, or begins it anew."""

        def look(delivery: Delivery) -> None:
            outcome = delivery.outcome
            if outcome is None or outcome.code is None or outcome.result == "accepted" or outcome.ours:
                return
            rule = rules().flood_match(outcome.code, outcome.status, outcome.description)
            if rule is not None and delivery.lane:
                self._begin(delivery.lane, rule, f"{outcome.code} {outcome.description}")

        return tap("detect_floods", look, report)

    def _begin(self, lane: str, rule: Flood, answer: str) -> None:
        now = self._clock()
        paused = now + rule.pause
        active = Active(lane, rule, answer[:500], now, paused, paused + rule.reduced)
        self._active[lane] = active
        self._hits.setdefault(rule.id, collections.deque(maxlen=10_000)).append(now)
        self._begun(active)

    def adopt(self, active: Active) -> None:
        """A flood that began in another worker."""
        self._active[active.lane] = active
        self._hits.setdefault(active.rule.id, collections.deque(maxlen=10_000)).append(active.since)

    def get(self, lane: str) -> Active | None:
        """The flood in force on a lane, or None."""
        active = self._active.get(lane)
        if active is not None and active.reduced_until <= self._clock():
            del self._active[lane]
            return None
        return active

    def all(self) -> list[Active]:
        """Every flood in force."""
        return [active for lane in list(self._active) if (active := self.get(lane)) is not None]

    def hits(self, rule: int) -> int:
        """Matches of a pattern in the last hour."""
        moments = self._hits.get(rule)
        if moments is None:
            return 0
        while moments and moments[0] < self._clock() - HOUR:
            moments.popleft()
        return len(moments)

    def end(self, lane: str) -> bool:
        """End a flood early; False where there is none."""
        return self._active.pop(lane, None) is not None

    def paused(self, lane: str) -> Wait | None:
        """Until when a lane is paused by a flood, or None. Costs 0.1 microseconds where there are no floods."""
        if not self._active or (active := self.get(lane)) is None or active.paused_until <= self._clock():
            return None
        return Wait(f"paused by the flood pattern {active.rule.name!r}", active.paused_until)

    def over(self, lane: str, limits: Limits) -> Limits:
        """The limits with those of the flood that is in force on the lane."""
        if not self._active or (active := self.get(lane)) is None:
            return limits
        return active.rule.over(limits)
