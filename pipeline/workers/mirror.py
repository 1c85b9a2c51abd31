"""What all workers hold together, as the views ask for it: lanes and connections, from their last reports.

Owner of: the last report of each. The head's lanes and slots are these; nothing goes through them.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Any

from operators.deliveries.delivery import Target
from operators.lanes.lane import Lane, Pace
from operators.lanes.slots import Slots


class Reports:
    """The last report of each worker, by its number."""

    def __init__(self) -> None:
        self.of: dict[int, dict[str, Any]] = {}
        self.dry: collections.Counter[int] = collections.Counter()  # what dry rules would have done, since the start

    def put(self, number: int, report: dict[str, Any]) -> None:
        """The next report of a worker."""
        before = self.of.get(number, {}).get("dry", {})
        self.dry.update({rule: count - before.get(rule, 0) for rule, count in report["dry"].items()})
        self.of[number] = report

    def total(self, name: str, index: int) -> int:
        """The sum of a figure that stands in a list."""
        return sum(report[name][index] for report in self.of.values())

    def waiting(self) -> int:
        """Messages that wait for a time."""
        return sum(report["waiting"] for report in self.of.values())


class MirroredSlots(Slots):
    """The connections of all workers. Skipped hosts are kept here as there."""

    def __init__(self, reports: Reports, maximum: int, tell: Callable[..., None]) -> None:
        self._reports, self._say = reports, tell
        super().__init__(maximum)

    @property
    def idle(self) -> int:
        """Open, and without a message."""
        return self._reports.total("slots", 1)

    @property
    def active(self) -> int:
        """With a message."""
        opened, attempting = self._reports.total("slots", 0), self._reports.total("slots", 2)
        return opened - self.idle - attempting

    @property
    def making(self) -> int:
        """Connections that are being made."""
        return self._reports.total("slots", 2)

    def states(self) -> dict[str, tuple[int, int, int]]:
        """(attempting, active, idle) connections of each lane that has some, those of all added up."""
        found: dict[str, tuple[int, int, int]] = {}
        for report in self._reports.of.values():
            for lane, (attempting, active, idle) in report["connections"].items():
                before = found.get(lane, (0, 0, 0))
                found[lane] = (before[0] + attempting, before[1] + active, before[2] + idle)
        return found

    def of(self, lane: str) -> tuple[int, int]:
        """(open, idle) connections of a lane."""
        rows = [row for report in self._reports.of.values() for row in report["lanes"] if row[0] == lane]
        return sum(row[10] for row in rows), sum(row[11] for row in rows)

    def healthy(self, ip: str, target: Target) -> None:
        """An address is tried again, by all."""
        super().healthy(ip, target)
        self._say("healthy", ip, target.host, target.address, target.port)


class MirroredLanes:
    """The lanes of all workers, added up."""

    def __init__(self, reports: Reports, tell: Callable[..., None]) -> None:
        self._reports, self._say = reports, tell
        self._made: tuple[float, dict[str, Lane]] = (0.0, {})

    def _lanes(self) -> dict[str, Lane]:
        then, lanes = self._made
        if time.monotonic() - then > 0.2:
            lanes = {}
            for report in self._reports.of.values():
                for row in report["lanes"]:
                    _add(lanes, row)
            self._made = time.monotonic(), lanes
        return lanes

    def get(self, name: str) -> Lane | None:
        """A lane by its name."""
        return self._lanes().get(name)

    def all(self) -> list[Lane]:
        """The lanes in memory."""
        return list(self._lanes().values())

    def go_on(self, name: str) -> None:
        """What this lane waited for may have happened."""
        self._say("go_on", name)

    def sweep(self) -> None:
        """Each worker does."""

    def reconsider(self) -> None:
        """Each worker does, when it has read the rules."""

    def close(self) -> None:
        """Each worker does."""

    def settled(self, delivery: object) -> None:
        """Each worker does."""


def _add(lanes: dict[str, Lane], row: list[Any]) -> None:
    name, ip, group, domains, waiting, in_flight, window, pace, waits_for, waits_until, _, _ = row
    lane = lanes.get(name)
    if lane is None:
        lane = lanes[name] = Lane(name, ip, group, time.monotonic())
        lane.window, lane.pace = 0, Pace(pace)
    lane.domains.update(dict.fromkeys(domains))
    lane.waiting.count_others(waiting)
    lane.in_flight += in_flight
    lane.window += window
    lane.pace = max(lane.pace, Pace(pace))
    if waits_for and (not lane.waits_for or (waits_until or 0) < (lane.waits_until or 0)):
        lane.waits_for, lane.waits_until = waits_for, waits_until
