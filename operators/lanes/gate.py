"""Gate: how much the receivers that do not answer may hold together, however many they are.

A delivery under way holds a connection and credit until the receiver answers, for minutes where it is silent
(RFC 5321 4.5.3.2.1: five for the greeting alone). So lanes are told apart by how soon they answer (`Pace`). A place is
a connection and a credit: lanes that are silent have SHARE of the places, new ones as many, and all that are not quick
have MOST of them. What is left is for lanes that answer: no lane waits for a receiver that is not known to answer.

A lane that has never answered is new. While places are plenty, its connection has all the time that the RFC asks for.
While they are few, it has one, and must answer within HURRIED or HASTY seconds; if it does not, its message is parked,
which is no attempt, and the lane waits as a silent one for a place with all the time. So new lanes always find places
within seconds, and a receiver that is slow by nature gets its mail.
"""

from __future__ import annotations

import enum

from operators.lanes.lane import START, Lane, Pace

SHARE, MOST = 1 / 4, 3 / 4  # of the places
WAITING = 1 / 8  # of the credit, for deliveries that wait in lanes that are not quick
FRESH = 0.25  # seconds for which a lane that waits for its first answer may hold as much as a quick one
HURRIED, HASTY = 10.0, 3.0  # seconds for the first answer, with SHARE of the places used, and with half as much again


class Hold(enum.StrEnum):
    """Why a delivery of a lane that does not answer goes no further, for people."""

    PLACES = "too many receivers do not answer: it waits for a place among them"
    MEMORY = "too many wait for receivers that do not answer"


class Gate:
    """The places, counted. Asked before each delivery; every count is kept as it changes.

    Attributes:
        waiting: deliveries that wait in lanes that are not quick; counted about once a second, and added to.
        called: parked messages of such lanes that were called in since.
    """

    def __init__(self, credit: int, connections: int) -> None:
        places = min(credit, connections)
        self._share, self._all = max(1, int(places * SHARE)), max(1, int(places * MOST))
        self._most = max(1, int(credit * WAITING))
        self._used = dict.fromkeys(Pace, 0)
        self.waiting = 0
        self.called = 0

    @property
    def held(self) -> int:
        """Places that lanes have which are not quick."""
        return sum(count for pace, count in self._used.items() if pace is not Pace.QUICK)

    def _left(self, pace: Pace) -> int:
        """Places for lanes of this pace, which is not quick."""
        left = self._all - self.held
        return left if pace is Pace.SLOW else min(left, self._share - self._used[pace])

    def admits(self, lane: Lane) -> bool:
        """Whether another delivery of the lane may be under way. While places are few, new lanes have one each."""
        if lane.pace is Pace.QUICK:
            return True
        least = self._share / 2 if lane.pace is not Pace.SLOW and lane.in_flight else 0
        return self._left(lane.pace) > least

    def patience(self, lane: Lane) -> float | None:
        """Seconds that a new connection has for the first answer; None: what the RFC asks for."""
        if lane.pace is not Pace.NEW:
            return None
        part = (self._used[Pace.NEW] + self._used[Pace.SILENT]) / self._share
        return None if part < 1 else HURRIED if part < 3 / 2 else HASTY

    @property
    def full(self) -> bool:
        """No more may wait in lanes that do not answer, unless they are fresh."""
        return self.waiting >= self._most

    def fresh(self, lane: Lane, now: float) -> bool:
        """Whether it is too early to say of a lane that it does not answer: most answer the first burst soon."""
        return lane.pace is Pace.QUICK or (lane.pace is Pace.NEW and now - lane.heard_at < FRESH)

    def crowded(self, lane: Lane, now: float) -> bool:
        """Whether no more may wait in this lane. Fresh ones may hold more until `Lanes` relieves them."""
        if self.waiting < self._most / 2 or self.fresh(lane, now) or (lane.can_go and self.admits(lane)):
            return False
        return self.full or len(lane.waiting) >= START

    def space(self, pace: Pace) -> int:
        """Messages of a lane of this pace that may be called in."""
        return max(0, min(START, self._left(pace) - self.called))

    def enter(self, lane: Lane) -> None:
        """A delivery of the lane is under way."""
        self._used[lane.pace] += 1

    def leave(self, lane: Lane) -> None:
        """It is not any more."""
        self._used[lane.pace] -= 1

    def turn(self, lane: Lane, pace: Pace) -> None:
        """The lane has another pace now."""
        self._used[lane.pace] -= lane.in_flight
        self._used[pace] += lane.in_flight
        lane.pace = pace
