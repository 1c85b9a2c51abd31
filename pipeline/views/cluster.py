"""The cluster, as it is shown: who lives, and the figures of all together.

Owns nothing. Whoever asks has the others asked; their answers are a few seconds old at most. An instance that has not
answered for LATE seconds while it was asked counts with what it said last, and is named.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from pipeline.cluster.cluster import FRESH
from pipeline.cluster.words import Announcement
from pipeline.machine.announcing import console_url

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

LATE = 3 * FRESH  # seconds
LOOK = 0.05  # seconds
Sum = Literal["ip", "domain"]


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A live instance. `own`: the one that answers; `silent`: seconds since it was heard."""

    id: str
    own: bool
    url: str
    state: str
    level: str
    silent: float
    workers: int
    load: float
    version: str
    outbox: str
    ips: Sequence[str]
    figures: Mapping[str, int]


class WholeCluster(msgspec.Struct, frozen=True, kw_only=True):
    """All instances together. `missing`: those that have not answered lately; `refused`: of no use on the exchange."""

    instances: list[InstanceRow]
    figures: dict[str, int]
    missing: list[str]
    refused: int
    trouble: str | None


class ClusterView:
    """Over a running machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def there(self) -> bool:
        """Whether this instance is in a cluster."""
        return self._machine.cluster is not None

    def others(self) -> list[InstanceRow]:
        """The other live instances, by their names."""
        cluster, now = self._machine.cluster, time.monotonic()
        return [] if cluster is None else [_row(one.said, now - one.heard, False) for one in cluster.live()]

    def whole(self) -> WholeCluster:
        """Everybody, and the sum; this instance alone where there is no cluster."""
        cluster = self._machine.cluster
        if cluster is None:
            figures = self._machine.telemetry.snapshot()
            return WholeCluster(instances=[], figures=figures, missing=[], refused=0, trouble=None)
        cluster.ask()
        rows = [_row(cluster.own(), 0.0, True), *self.others()]
        total: collections.Counter[str] = collections.Counter()
        for row in rows:
            total.update(row.figures)
        late = [row.id for row in rows if min(row.silent, cluster.looked) > LATE]
        return WholeCluster(
            instances=rows, figures=dict(total), missing=late, refused=cluster.refused, trouble=cluster.trouble
        )

    async def fresh(self) -> WholeCluster:
        """The same for who looks once: the others are asked, and waited for as long as `cluster-timeout`."""
        cluster, begin = self._machine.cluster, time.monotonic()
        if cluster is not None:
            cluster.ask()
            end = begin + self._machine.settings.cluster_timeout
            while time.monotonic() < end and any(one.heard < begin - FRESH for one in cluster.live()):  # noqa: ASYNC110
                await asyncio.sleep(LOOK)
        whole = self.whole()
        late = [row.id for row in whole.instances if row.silent > time.monotonic() - begin + FRESH]
        return msgspec.structs.replace(whole, missing=late)

    def by(self, dimension: Sum) -> dict[str, collections.Counter[str]]:
        """The others' figures of each MTA IP, or of each of their busiest domains, added up."""
        found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        cluster = self._machine.cluster
        if cluster is None:
            return found
        cluster.ask()
        for one in cluster.live():
            for key, figures in (one.said.by_ip if dimension == "ip" else one.said.by_domain).items():
                found[key].update(figures)
        return found

    def at(self, id: str) -> InstanceRow | None:
        """One of the others."""
        return next((row for row in self.others() if row.id == id), None)

    @property
    def count(self) -> int:
        """Live instances, this one counted."""
        return 1 + len(self.others())

    @property
    def refused(self) -> int:
        """Messages on the exchange that were of no use."""
        return self._machine.cluster.refused if self._machine.cluster is not None else 0

    @property
    def own_url(self) -> str:
        """Where this instance's console is, as it tells the others."""
        return console_url(self._machine.settings, self._machine.ips.all)

    def note(self) -> str:
        """How many there are, and who has not answered."""
        whole = self.whole()
        count = len(whole.instances)
        missing = f"; no answer from {', '.join(whole.missing)}" if whole.missing else ""
        return f"{count} instances{missing}" if count != 1 else f"1 instance{missing}"


def _row(said: Announcement, silent: float, own: bool) -> InstanceRow:
    return InstanceRow(
        id=said.id,
        own=own,
        url=said.url,
        state=said.state,
        level=said.level,
        silent=round(silent, 1),
        workers=said.workers,
        load=said.load,
        version=said.version,
        outbox=said.outbox,
        ips=said.ips,
        figures=said.figures,
    )
