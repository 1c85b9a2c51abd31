"""Figures of what can be selected: an MTA IP, a domain, a tag, or a pool, whose figures are those of its members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from operators.lanes.pools import PREFIX as PARKED
from pipeline.telemetry.telemetry import DIMENSIONS, Range, Telemetry
from settings.rules import Pool, Snapshot

Scope = Literal["ip", "domain", "tag", "pool"]
SCOPES: tuple[Scope, ...] = (*DIMENSIONS, "pool")
SHARED = ("attempting", "active", "idle", "waiting")  # of the whole machine, whatever is selected


class PoolMemberFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a pool, and what went through it in the last 60 s. `mine`: this machine has it."""

    ip: str
    weight: int
    mine: bool
    figures: dict[str, int]


class ScopedFigures:
    """Over the telemetry of a machine, and its rules.

    Args:
        rules: the rules in force.
        ours: whether a MTA IP is of this machine.
    """

    def __init__(self, telemetry: Telemetry, rules: Callable[[], Snapshot], ours: Callable[[str], bool]) -> None:
        self._telemetry, self._rules, self._ours = telemetry, rules, ours

    def keys(self, scope: Scope) -> list[str]:
        """What can be selected; pools by name, others the most recently active first."""
        if scope == "pool":
            return sorted(pool.name for pool in self._rules().pools)
        return self._telemetry.keys(scope)

    def snapshot(self, scope: Scope | None = None, key: str | None = None) -> dict[str, int]:
        """Counters of the last 60 s, and gauges."""
        if scope != "pool":
            return self._telemetry.snapshot(scope, key)
        found = list(self._telemetry.snapshots("ip", self._rules().pool(key or "")).values())
        whole = self._telemetry.snapshot()
        sums = {name: sum(figures[name] for figures in found) for name in whole}
        return sums | {name: whole[name] for name in SHARED if name in whole}

    def series(
        self, counters: Iterable[str], span: Range, scope: Scope | None = None, key: str | None = None
    ) -> tuple[list[int], dict[str, list[int]]]:
        """The slots of a range that are over: their starts (epoch seconds), and each counter's count in them."""
        names = list(counters)
        if scope != "pool":
            return self._telemetry.series(names, span, scope, key)
        times, sums = self._telemetry.series(names, span, "ip", "")
        for ip in self._rules().pool(key or ""):
            _, values = self._telemetry.series(names, span, "ip", ip)
            sums = {name: [a + b for a, b in zip(sums[name], values[name], strict=True)] for name in names}
        return times, sums

    def members(self, pool: Pool) -> list[PoolMemberFigures]:
        """The members of a pool with their figures."""
        figures = self._telemetry.snapshots("ip", [member.ip for member in pool.members])
        return [
            PoolMemberFigures(
                ip=member.ip,
                weight=member.weight,
                mine=self._ours(member.ip),
                figures={name: value for name, value in figures[member.ip].items() if name not in SHARED},
            )
            for member in pool.members
        ]


def waits_for(queue: str, pause: int) -> bool:
    """Whether this parked queue is of a pool that one pause holds, with others."""
    return queue.startswith(PARKED) and str(pause) in queue.rpartition("/")[2].split("+")


def moved(pool: Pool, before: Sequence[Pool]) -> list[dict[str, str]]:
    """The MTA IPs that left another pool for this one when it was stored, and which."""
    mine = {member.ip for member in pool.members}
    lost = (other for other, _ in pool.taking(before))
    return [{"ip": one.ip, "from": other.name} for other in lost for one in other.members if one.ip in mine]
