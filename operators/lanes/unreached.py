"""Unreached lanes: MTA IPs from which no address of a receiver could be reached a moment ago.

A receiver has IPv4 and IPv6 addresses, and an MTA IP reaches those of its own family. Where all of these fail, the
others are next (RFC 5321 5.1): the message goes at once to an MTA IP of the other family, by all stages, so that every
rule for that one holds. Pure. Bound: REMEMBER lanes; the oldest is forgotten.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from operators.deliveries.delivery import Route, lane_name

REMEMBER = 10_000
SHORTEST = 60.0  # seconds for which another MTA IP is preferred


def both_families(route: Route) -> bool:
    """Whether it has IPv4 and IPv6 addresses."""
    return len({":" in target.address for target in route.targets}) == 2


class UnreachedLanes:
    """Which lanes reached nothing, until when.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: collections.OrderedDict[str, float] = collections.OrderedDict()

    def note(self, lane: str, seconds: float) -> None:
        """From there no address was reached; it may be so for so many seconds."""
        self._until[lane] = self._clock() + max(SHORTEST, seconds)
        self._until.move_to_end(lane)
        if len(self._until) > REMEMBER:
            self._until.popitem(last=False)

    def reached(self, lane: str) -> None:
        """A receiver there has answered."""
        if self._until:
            self._until.pop(lane, None)

    def holds(self, lane: str) -> bool:
        """Whether nothing is reached from this lane now."""
        return bool(self._until) and self._until.get(lane, 0.0) > self._clock()

    def left(self, ips: Sequence[str], route: Route) -> Sequence[str]:
        """Those of several MTA IPs from which the route may be reached; all, where that is none."""
        if not self._until or not both_families(route):
            return ips
        return [ip for ip in ips if not self.holds(lane_name(ip, route.group))] or ips
