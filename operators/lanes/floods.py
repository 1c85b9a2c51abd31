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
from operators.lanes.thresholds import Thresholds
from operators.stages.stage import Done, Report, Stage, handover, unreported
from settings.rules import Flood, Snapshot
from settings.rules.fields import lookup_name

HOUR = 3600.0  # seconds for which hits are counted


class Active(msgspec.Struct, frozen=True):
    """A flood in force on a lane. Times are monotonic seconds."""

    lane: str
    rule: Flood
    answer: str
    since: float
    paused_until: float
    reduced_until: float


def with_threshold(rule: Flood) -> bool:
    """Whether a pattern needs more than one match."""
    return rule.percent is not None or rule.count > 1


def at_once(rule: Flood) -> bool:
    """Whether one match is enough."""
    return not with_threshold(rule)


class Floods:
    """The floods in force.

    Args:
        clock: monotonic seconds.
        begun: told of each match.
        decides: whether a pattern is looked for here; of several workers each sees a part of the answers, so that a
            pattern with a threshold is looked for by their head, which sees all.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        begun: Callable[[Active], None] = lambda active: None,
        decides: Callable[[Flood], bool] = lambda rule: True,
    ) -> None:
        self._clock, self._begun, self._decides = clock, begun, decides
        self._active: dict[str, Active] = {}
        self._tagged: dict[tuple[str, str], Active] = {}
        self._thresholds = Thresholds()
        self._hits: dict[int, collections.deque[float]] = {}

    def detect(self, rules: Callable[[], Snapshot], report: Report = unreported) -> Stage:
        """The stage: looks at each negative answer; a match begins a flood on its lane, or begins it anew.

        The rule that did so stands in the delivery, for the log; what it raises is reported, and changes nothing.
        """

        def start(delivery: Delivery, done: Done) -> None:
            begun = None
            try:
                begun = self.look(delivery, rules())
            except Exception as error:
                report("detect_floods", delivery, error)
            done(delivery if begun is None else delivery.but(rules=(*delivery.rules, f"floods/{begun.id}")))

        return handover("detect_floods", start, report, ended=True)

    def look(self, delivery: Delivery, snapshot: Snapshot) -> Flood | None:
        """At the end of one attempt: the rule of a flood that it begins, or None."""
        outcome, lane, rule = delivery.outcome, delivery.lane, None
        if outcome is None or outcome.code is None or outcome.ours or not lane:
            return None
        if outcome.result != "accepted":
            names, tags = (lookup_name(delivery.domain), lane.partition("/")[2]), delivery.message.tags
            rule = snapshot.flood_match(outcome.code, outcome.status, outcome.description, names, tags)
        if snapshot.flood_shares:
            self._thresholds.attempt(lane, snapshot.flood_shares, rule)
        if rule is None or not self._decides(rule) or not self._thresholds.reached(rule, lane, self._clock()):
            return None
        self._thresholds.forget(rule, lane)
        self._begin(lane, rule, f"{outcome.code} {outcome.description}")
        return rule

    def _begin(self, lane: str, rule: Flood, answer: str) -> None:
        now = self._clock()
        paused = now + rule.pause
        active = Active(lane, rule, answer[:500], now, paused, paused + rule.reduced)
        self.adopt(active)
        self._begun(active)

    def of_tag(self, lane: str, tag: str) -> Active | None:
        """The flood in force on a tag's mail in a lane, or None."""
        if not self._tagged or (active := self._tagged.get((lane, tag))) is None:
            return None
        if active.reduced_until <= self._clock():
            del self._tagged[lane, tag]
            return None
        return active

    def tagged(self) -> list[Active]:
        """The floods in force on single tags."""
        return [active for key in list(self._tagged) if (active := self.of_tag(*key)) is not None]

    def adopt(self, active: Active) -> None:
        """A flood that has begun, here or in another worker."""
        if active.rule.tag is None:
            self._active[active.lane] = active
        else:
            self._tagged[active.lane, active.rule.tag] = active
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
        """End the floods of a lane early, those of single tags too; False where there is none."""
        tagged = [key for key in self._tagged if key[0] == lane]
        for key in tagged:
            del self._tagged[key]
        return self._active.pop(lane, None) is not None or bool(tagged)

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
