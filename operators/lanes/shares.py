"""Shares: this instance's part of the limits of an MTA IP that several instances have, so that receivers see them once.

A rate is divided by their number, also where a part is less than one a minute. What is counted at once goes by whole
numbers: the first in the order of names have one more. Where it is less than one for each, they take turns: each has
all of it for TURN seconds, of which the last PAUSE are for the others' connections to end.
"""

from __future__ import annotations

import math

import msgspec

from operators.lanes.limits import Limits

TURN = 60.0  # seconds of epoch time, which the instances have in common
PAUSE = 10.0
NONE = -1  # connections at once, where another instance has the turn
RATES = ("domain_messages", "domain_connects", "ip_messages", "ip_connects")
AT_ONCE = ("domain_connections", "ip_connections")


class Share(msgspec.Struct, frozen=True):
    """The part of the `rank`-th of `count` instances, from 0."""

    rank: int = 0
    count: int = 1

    def of(self, limits: Limits, now: float) -> Limits:
        """The limits for this instance alone; `now` is epoch seconds."""
        if self.count <= 1:
            return limits
        parts: dict[str, float] = {name: self._rate(getattr(limits, name)) for name in RATES}
        parts |= {name: self._at_once(getattr(limits, name), now) for name in AT_ONCE}
        if NONE in parts.values():
            parts["connection_messages"] = 1  # a connection that is open carries no further message
        return msgspec.structs.replace(limits, **parts)

    def _rate(self, limit: float) -> float:
        if not limit % self.count:
            return limit // self.count
        return max(0.001, math.floor(1000 * limit / self.count) / 1000)

    def _at_once(self, limit: int, now: float) -> int:
        if not limit:
            return 0
        if limit >= self.count:
            return limit // self.count + (self.rank < limit % self.count)
        turn, part = divmod(now, TURN)
        first = int(turn) * limit % self.count
        mine = (self.rank - first) % self.count < limit
        return 1 if mine and part < TURN - PAUSE else NONE
