"""Lane: the state of one (MTA IP, destination group), and the messages of a parked queue that are on their way.

Only `Lanes` changes it, and bounds it.
"""

from __future__ import annotations

import enum
import math

from reactivex import abc

from operators.lanes.limits import Pacer
from operators.lanes.turns import Tenants, Turns

START = 5  # deliveries under way at once in a new lane
QUICK = 1.0  # seconds: what a lane lets go within them, it may always hold
SLOW, SILENT = 5.0, 30.0  # seconds until an answer, from which a lane is slow, and as good as silent
RECALL_AGAIN = 5.0  # seconds after which messages that were called in, and did not come, are given up


class Pace(enum.IntEnum):
    """How soon a lane's receiver answers, the slowest first."""

    SILENT = 0
    NEW = 1  # never asked, or not answered yet
    SLOW = 2
    QUICK = 3


class Called:
    """How many messages of a parked queue have been called in, and are not here yet."""

    __slots__ = ("_at", "count")

    def __init__(self) -> None:
        self.count, self._at = 0, -math.inf

    def add(self, count: int, now: float) -> None:
        """So many have been called in."""
        self.count += count
        self._at = now

    def discount(self) -> None:
        """One is here."""
        self.count = max(0, self.count - 1)

    def stale(self, now: float) -> bool:
        """The rest will not come: the queue had fewer."""
        return now - self._at > RECALL_AGAIN


class Lane:
    """One lane's state. Read it for the console; only `Lanes` changes it."""

    __slots__ = (
        "_rate", "active_at", "domains", "gated_at", "group", "heard_at", "in_flight", "ip", "latency", "measured_at",
        "name", "pace", "pacer", "parking", "progress_at", "rate", "waiting", "waits_for", "waits_until", "wake",
        "went", "window",
    )  # fmt: skip

    def __init__(self, name: str, ip: str, group: str, now: float, tenants: Tenants | None = None) -> None:
        self.name = name
        self.ip = ip
        self.group = group
        self.domains: dict[str, None] = {}
        self.waiting = Turns(tenants, name)
        self.in_flight = 0
        self.parking = 0  # deliveries on their way to its parked queue
        self.window = START
        self.pacer = Pacer()
        self.wake: abc.DisposableBase | None = None
        self.waits_for = ""  # why the head of the lane does not go now
        self.waits_until: float | None = None  # monotonic seconds, where known
        self.active_at = now
        self.progress_at = now
        self.rate = math.inf  # deliveries a second that it lets go; infinite as long as nothing has held it up
        self._rate = 0.0  # the last second's
        self.measured_at: float | None = None  # monotonic seconds; None: it was not held up when last looked at
        self.went = 0  # deliveries let go since then
        self.pace = Pace.NEW  # `Gate` changes it
        self.latency = 0.0  # seconds that a delivery takes, lately
        self.heard_at = now  # of the last answer, or since when one is awaited
        self.gated_at: float | None = None  # since when it waits for a place at the gate

    @property
    def memory(self) -> int:
        """Deliveries that it holds in memory."""
        return len(self.waiting) + self.in_flight

    @property
    def can_go(self) -> bool:
        """Nothing of its own is in the way of the next one."""
        return not self.waiting and self.in_flight < self.window

    @property
    def quick(self) -> bool:
        """What it holds goes within QUICK seconds."""
        return self.memory <= self.rate * QUICK

    def measure(self, now: float) -> None:
        """Its rate, anew, to be called about once a second: the better of the last two, for one bad second is none."""
        if self.can_go:
            self.rate, self._rate, self.measured_at = math.inf, 0.0, None
            return
        if self.measured_at is not None:
            rate = self.went / (now - self.measured_at)
            self.rate, self._rate = max(rate, self._rate), rate
        self.measured_at, self.went = now, 0

    def heard(self, seconds: float, now: float) -> Pace:
        """The receiver has answered after so long: the lane's pace from now on."""
        known = self.pace in (Pace.QUICK, Pace.SLOW)
        self.latency = 0.8 * self.latency + 0.2 * seconds if known else seconds
        self.heard_at = now
        return Pace.QUICK if self.latency < SLOW else Pace.SLOW if self.latency < SILENT else Pace.SILENT

    def unheard(self, now: float) -> Pace:
        """The lane's pace, by how long it has waited for an answer; to be asked about once a second."""
        silence = now - self.heard_at if self.in_flight else 0.0
        if silence < SLOW:
            return self.pace
        return Pace.SILENT if silence >= SILENT or self.pace is Pace.NEW else min(self.pace, Pace.SLOW)

    @property
    def rests(self) -> bool:
        """It has nothing to do."""
        return not self.memory and not self.parking

    def keep(self, least: float, most: float) -> float:
        """Seconds for which it is kept with nothing to do: one more for each step that its window has made."""
        return min(most, least + abs(self.window - START))
