"""The destinations, as they are shown: how each stands, and what was wrong there last.

Owner of: the rows, which cost by the domain: they are worked out once in FRESH seconds, whoever asks, and give the
event loop back between SLICE domains.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from operators.deliveries.outcome import Outcome
from pipeline.telemetry.backlog import Backlog, Standing
from pipeline.telemetry.telemetry import LastAnswer, Telemetry
from pipeline.views.cluster import ClusterView
from pipeline.views.explain import Explainer
from pipeline.views.state.lanes import LanesView
from pipeline.views.state.standing import WORST, condition, sentence
from settings.rules.fields import lookup_name

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

FRESH = 1.0  # seconds
SLICE = 25  # domains whose figures are worked out at once, in 1 ms


class LastError(msgspec.Struct, frozen=True):
    """The last negative answer or strange end. `time` is epoch seconds."""

    time: float
    code: int | None
    status: str | None
    description: str
    result: str


class DomainRow(msgspec.Struct, frozen=True, kw_only=True):
    """A destination: now, and in the last 60 s. `ratio`: of the ended attempts were accepted, None without any."""

    domain: str
    state: str
    in_memory: int
    parked: int
    attempts: int
    delivered: int
    errors: int
    ratio: float | None
    connections: int
    lanes: list[str]
    last_error: LastError | None
    retrying: int = 0
    next_retry: float | None = None
    deferred: int = 0
    bounced: int = 0
    says: str = ""


class DomainPage(msgspec.Struct, frozen=True):
    """Some of the domains, and how many there are."""

    domains: list[DomainRow]
    total: int


SORTS = tuple(name for name in DomainRow.__struct_fields__ if name not in ("lanes", "last_error", "says"))


class DestinationsView:
    """Over a running machine."""

    def __init__(
        self, machine: Machine, explainer: Explainer, backlog: Backlog, lanes: LanesView, cluster: ClusterView
    ) -> None:
        self._machine, self._explainer, self._backlog = machine, explainer, backlog
        self._lanes, self._cluster = lanes, cluster
        self._domains: tuple[float, list[DomainRow]] = (0.0, [])
        self._working = asyncio.Lock()

    async def page(
        self,
        sort: str = "errors",
        descending: bool = True,
        containing: str = "",
        offset: int = 0,
        limit: int = 100,
        whole: bool = False,
    ) -> DomainPage:
        """Destinations, sorted by one of SORTS; `whole`: with what the other instances say of their busiest."""
        rows = await self._domain_rows()
        if whole:
            rows = _all_domains(rows, self._cluster.by("domain"))
        if containing:
            rows = [row for row in rows if containing.lower() in row.domain]
        ordered = sorted(rows, key=lambda row: _order(sort, row), reverse=descending)
        return DomainPage(ordered[offset : offset + limit], len(ordered))

    async def _domain_rows(self) -> list[DomainRow]:
        async with self._working:
            then, rows = self._domains
            if time.monotonic() - then < FRESH and then:
                return rows
            rows = [row async for row in self._work_out()]
            self._domains = (time.monotonic(), rows)
            return rows

    async def _work_out(self) -> Any:
        telemetry, lanes = self._machine.telemetry, self._lanes.by_domain()
        last, standings = last_errors(telemetry), self._backlog.by("domain")
        retried = (domain for domain, standing in standings.items() if standing.retrying)
        names = list(dict.fromkeys((*telemetry.keys("domain"), *lanes, *retried)))
        states = {name: self._explainer.brief(name).state for name in self._explainer.names(retried=False)}
        for start in range(0, len(names), SLICE):
            some = names[start : start + SLICE]
            for domain, figures in telemetry.snapshots("domain", some).items():
                standing = standings.get(domain) or Standing()
                yield self._row(domain, figures, lanes.get(domain, []), states, last.get(domain), standing)
            await asyncio.sleep(0)

    def _row(
        self,
        domain: str,
        figures: Mapping[str, int],
        lanes: list[str],
        states: Mapping[str, str],
        last: LastAnswer | None,
        standing: Standing,
    ) -> DomainRow:
        ended = figures["delivered"] + figures["errors"] + figures["strange"]
        own = {states.get(lane, "running") for lane in lanes} - {"failing", "deferring"}  # of the other domains in them
        mine = own | {self._held(domain), condition(standing) or "running"}
        return DomainRow(
            domain=domain,
            state=min(mine, key=WORST.index),
            in_memory=figures["in_memory"],
            parked=figures["parked"],
            attempts=figures["attempts"],
            delivered=figures["delivered"],
            errors=figures["errors"] + figures["strange"],
            ratio=figures["delivered"] / ended if ended else None,
            connections=sum(self._machine.slots.of(lane)[0] for lane in lanes),
            lanes=lanes,
            last_error=_last_error(last.time, last.outcome) if last else None,
            retrying=standing.retrying,
            next_retry=standing.next_retry,
            deferred=standing.deferred,
            bounced=standing.bounced,
            says=sentence(standing),
        )

    def _held(self, domain: str) -> str:
        held = self._machine.rules.snapshot.pauses_for("", lookup_name(domain), "", (), time.time())
        return "paused" if held else "running"


def last_errors(telemetry: Telemetry) -> dict[str, LastAnswer]:
    """The last negative answer of each destination that has given one."""
    found = {answer.domain: answer for answer in reversed(telemetry.answers)}
    return found | {trouble.domain: trouble.last for trouble in telemetry.top_errors(10_000)}


def _all_domains(rows: list[DomainRow], others: Mapping[str, Mapping[str, int]]) -> list[DomainRow]:
    """The rows with the figures of other instances added."""
    own = {row.domain: row for row in rows}
    return [
        *(row for row in rows if row.domain not in others),
        *(_with(own.get(domain), domain, figures) for domain, figures in others.items()),
    ]


def _with(row: DomainRow | None, domain: str, more: Mapping[str, int]) -> DomainRow:
    errors = more.get("errors", 0) + more.get("strange", 0)
    figures = {name: more.get(name, 0) for name in ("in_memory", "parked", "attempts", "delivered")} | {
        "errors": errors
    }
    if row is not None:
        figures = {name: count + getattr(row, name) for name, count in figures.items()}
    ended = figures["delivered"] + figures["errors"]
    ratio = figures["delivered"] / ended if ended else None
    return msgspec.structs.replace(row or _nothing(domain), ratio=ratio, **figures)


def _nothing(domain: str) -> DomainRow:
    """A destination of which this instance knows nothing."""
    return DomainRow(
        domain=domain, state="running", in_memory=0, parked=0, attempts=0, delivered=0, errors=0, ratio=None,
        connections=0, lanes=[], last_error=None,
    )  # fmt: skip


def _last_error(time: float, outcome: Outcome) -> LastError:
    return LastError(time, outcome.code, outcome.status, outcome.description, outcome.result)


def _order(sort: str, row: DomainRow) -> tuple[Any, ...]:
    """Empty ones are the least; equals stand in the order of their names."""
    value = getattr(row, sort)
    if sort == "state":
        value = -WORST.index(row.state)
    return (value is not None, value or 0 if sort != "domain" else value, row.domain)
