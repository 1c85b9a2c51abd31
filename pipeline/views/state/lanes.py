"""The lanes, as they are shown: those with mail, and what each holds. Owns nothing."""

from __future__ import annotations

import collections
import heapq
from typing import TYPE_CHECKING

import msgspec

from operators.deliveries.delivery import lane_ip
from pipeline.telemetry.backlog import Backlog
from pipeline.telemetry.history import History
from pipeline.views.explain import Brief, Explainer

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine


class LaneLoad(msgspec.Struct, frozen=True):
    """What a lane holds: messages in memory, and the domains that they are for."""

    ip: str
    domains: tuple[str, ...]
    memory: int


NONE = (0, 0, 0)  # connections


class LanesView:
    """Over a running machine."""

    def __init__(self, machine: Machine, explainer: Explainer, history: History, backlog: Backlog) -> None:
        self._machine, self._explainer, self._history, self._backlog = machine, explainer, history, backlog

    def all(self) -> list[Brief]:
        """The lanes that hold mail or that a flood is in force on."""
        return [self._explainer.brief(name) for name in self._explainer.names()]

    def largest(self, most: int) -> tuple[list[Brief], int]:
        """The lanes with the most mail, in memory, parked and for a retry, and how many there are.

        There may be thousands, so only those are looked at whole.
        """
        load = collections.Counter({lane.name: lane.memory for lane in self._machine.lanes.all()})
        load.update(self._machine.queue.parked())
        load.update({lane: standing.retrying for lane, standing in self._backlog.by("lane").items()})
        names = {name: load[name] for name in self._explainer.names()}
        largest = heapq.nlargest(most, names.items(), key=lambda pair: (pair[1], pair[0]))
        return [self._explainer.brief(name) for name, _ in largest], len(names)

    def loads(self) -> list[LaneLoad]:
        """The lanes that hold mail in memory."""
        return [LaneLoad(lane.ip, tuple(lane.domains), lane.memory) for lane in self._machine.lanes.all()]

    def connections(self, domain: str | None = None) -> dict[str, tuple[int, int, int]]:
        """(attempting, active, idle) connections by MTA IP, of all lanes, or of those that a domain is in."""
        found: dict[str, tuple[int, int, int]] = {}
        for lane, counts in self._machine.slots.states().items():
            if domain is None or domain in self._explainer.domains(lane):
                before = found.get(ip := lane_ip(lane), NONE)
                found[ip] = (before[0] + counts[0], before[1] + counts[1], before[2] + counts[2])
        return found

    def by_domain(self) -> dict[str, list[str]]:
        """The lanes that the mail of each domain is in, or was."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for name in dict.fromkeys((*self._explainer.names(retried=False), *self._history.lanes())):
            for domain in self._explainer.domains(name):
                found[domain].append(name)
        return found

    def domains_of(self, name: str) -> list[str]:
        """The domains that a domain, a destination group or a provider stands for, as far as mail has shown."""
        lanes = [lane for lane in self._explainer.names() if lane.partition("/")[2] == name]
        return list(dict.fromkeys((name, *(domain for lane in lanes for domain in self._explainer.domains(lane)))))
