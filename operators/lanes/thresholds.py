"""Thresholds: when so many matches of a flood pattern are enough. Counted for each (pattern, lane); pure but for that.

Bound: PLACES pairs, the one that was looked at longest ago is forgotten; for each at most as many moments as its
pattern counts, or as many attempts as its share is of.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TypeVar

from settings.rules import Flood

PLACES = 10_000
Place = tuple[int, str]
T = TypeVar("T")


class Thresholds:
    """Counts matches, and attempts where a pattern has a share."""

    def __init__(self) -> None:
        self._moments: collections.OrderedDict[Place, collections.deque[float]] = collections.OrderedDict()
        self._attempts: collections.OrderedDict[Place, collections.deque[bool]] = collections.OrderedDict()

    def attempt(self, lane: str, shares: Iterable[Flood], matched: Flood | None) -> None:
        """An attempt on a lane has ended; `shares` are the patterns that look at a share of them."""
        for rule in shares:
            seen = _place(self._attempts, (rule.id, lane), rule.attempts)
            seen.append(rule is matched)

    def reached(self, rule: Flood, lane: str, now: float) -> bool:
        """Whether this match of the pattern is one too many."""
        if rule.percent is not None:
            seen = self._attempts.get((rule.id, lane), ())
            return len(seen) >= rule.attempts and 100 * sum(seen) >= rule.percent * len(seen)
        if rule.count <= 1:
            return True
        moments = _place(self._moments, (rule.id, lane), rule.count)
        moments.append(now)
        return len(moments) == rule.count and moments[0] > now - rule.period

    def forget(self, rule: Flood, lane: str) -> None:
        """A flood has begun: counting begins anew."""
        self._moments.pop((rule.id, lane), None)
        self._attempts.pop((rule.id, lane), None)


def _place(
    places: collections.OrderedDict[Place, collections.deque[T]], place: Place, most: int
) -> collections.deque[T]:
    found = places.get(place)
    if found is None or found.maxlen != most:
        found = places[place] = collections.deque(found or (), maxlen=most)
    places.move_to_end(place)
    if len(places) > PLACES:
        places.popitem(last=False)
    return found
