"""`/healthz`, `/readyz` and `/metrics`: what other programs ask.

The labels of `/metrics` are bounded: the TOP most active domains and MTA IPs have their own; the rest are "other", and
so is a domain of that name. A label is clean text of at most LONGEST characters, and stands there once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gui.access.connections import Connections
from pipeline.views.background import awaited, supervisor
from pipeline.views.facade import Facade
from pipeline.views.figures import (
    ALERTS,
    BACKGROUND,
    CLASSED,
    COUNTERS,
    DISCARDED,
    GAUGES,
    INSTANCES,
    LOST_LINES,
    NOTICES,
    REMOVED,
    STRAY,
    UNREACHED,
    WARMED,
    Dimension,
)

TOP = 50  # keys of a dimension with a label of their own
OTHER = "other"
LONGEST = 255  # characters of a label
PATIENCE = 5.0  # seconds the queue may take to answer
FRESH = 0.5  # seconds an answer of `/readyz` is good for: anybody may ask as often as he likes
LABELLED = ("attempts", "delivered", "errors", "strange", "unreached", "in_memory", "parked")


def routes(facade: Facade, connections: Connections | None = None) -> APIRouter:
    """The addresses that watchers ask."""
    router = APIRouter()
    registry = CollectorRegistry()
    registry.register(Metrics(facade))
    if connections is not None:
        registry.register(Doors(connections))
    ready = Ready(facade)
    ProcessCollector(registry=registry)

    @router.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @router.get("/readyz")
    async def readyz() -> Response:
        problem = await ready.problem()
        words = problem or ": ".join(["ok", *facade.remarks])
        return PlainTextResponse(f"{words}\n", 503 if problem else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


class Ready:
    """Whether the machine takes mail, asked at most once in FRESH seconds."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._asking: asyncio.Task[str] | None = None
        self._answered = 0.0

    async def problem(self) -> str:
        """What does not answer, or takes no mail. In general words: this page has no login."""
        asking = self._asking
        if asking is None or (asking.done() and time.monotonic() - self._answered >= FRESH):
            asking = self._asking = awaited(self._ask(), "readyz")
        return await asyncio.shield(asking)

    async def _ask(self) -> str:
        try:
            return await _problem(self._facade)
        finally:
            self._answered = time.monotonic()


async def _problem(facade: Facade) -> str:
    """What takes no mail, lets none leave, or does not answer. In general words: this page has no login."""
    if (stopped := facade.stopped) is not None:
        return stopped
    try:
        await asyncio.wait_for(facade.queue.answers(), PATIENCE)
    except Exception:
        return "the queue does not answer"
    return ""


class Metrics(Collector):
    """The telemetry, as Prometheus reads it."""

    def __init__(self, facade: Facade) -> None:
        self._facade, self._telemetry = facade, facade.telemetry
        self._cluster = facade.cluster

    def collect(self) -> Iterator[Metric]:
        """Each figure of the machine, then some by MTA IP and by domain."""
        totals, now = self._telemetry.totals(), self._telemetry.snapshot()
        for figure in (*COUNTERS, UNREACHED, REMOVED):
            yield CounterMetricFamily(f"mailrace_{figure.name}", figure.definition, value=totals[figure.name])
        for figure in GAUGES:
            yield GaugeMetricFamily(f"mailrace_{figure.name}", figure.definition, value=now[figure.name])
        background = CounterMetricFamily(f"mailrace_{BACKGROUND.name}", BACKGROUND.definition, labels=["part"])
        for part, count in supervisor().errors.items():
            background.add_metric([part], count)
        yield background
        yield CounterMetricFamily(f"mailrace_{LOST_LINES.name}", LOST_LINES.definition, value=supervisor().lost_lines())
        classes = CounterMetricFamily(f"mailrace_{CLASSED.name}", CLASSED.definition, labels=["class"])
        for class_, count in self._facade.classes().items():
            classes.add_metric([class_], count)
        yield classes
        yield CounterMetricFamily(f"mailrace_{DISCARDED.name}", DISCARDED.definition, value=self._facade.discarded)
        yield GaugeMetricFamily(f"mailrace_{INSTANCES.name}", INSTANCES.definition, value=self._cluster.count)
        yield CounterMetricFamily(f"mailrace_{STRAY.name}", STRAY.definition, value=self._cluster.refused)
        yield from self._alerts()
        yield from self._warmed()
        yield from self._by("ip", now)
        yield from self._by("domain", now)

    def _alerts(self) -> Iterator[Metric]:
        """What of the alert rules holds, and what became of their notices."""
        now = self._facade.alerts.now()
        yield GaugeMetricFamily(f"mailrace_{ALERTS.name}", ALERTS.definition, value=len(now.on))
        notices = CounterMetricFamily(f"mailrace_{NOTICES.name}", NOTICES.definition, labels=["became"])
        notices.add_metric(["sent"], now.sent)
        notices.add_metric(["lost"], now.lost)
        yield notices

    def _warmed(self) -> Iterator[Metric]:
        """How far each MTA IP is that is warmed."""
        rows = self._facade.warmups.all()[:TOP]
        for figure in WARMED:
            metric = GaugeMetricFamily(f"mailrace_{figure.name}", figure.definition, labels=["ip", "destination"])
            for row in rows:
                metric.add_metric([row.ip, row.destination], getattr(row, figure.name.removeprefix("warmup_")))
            yield metric

    def _by(self, dimension: Dimension, whole: dict[str, int]) -> Iterator[Metric]:
        keys = [key for key in self._telemetry.keys(dimension)[: TOP + 1] if key.lower() != OTHER][:TOP]
        shown = {label(key): figures for key, figures in self._telemetry.snapshots(dimension, keys).items()}
        shown.pop(OTHER, None)
        for name in LABELLED:
            text = f"{name} by {dimension}: of the last 60 s, or now; the rest as other"
            metric = GaugeMetricFamily(f"mailrace_{dimension}_{name}", text, labels=[dimension])
            for key, figures in shown.items():
                metric.add_metric([key], figures[name])
            metric.add_metric([OTHER], max(0, whole[name] - sum(figures[name] for figures in shown.values())))
            yield metric


class Doors(Collector):
    """The console's connections, as Prometheus reads them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """How many are open, and how many were closed for what."""
        known = self._connections.known
        text = "Connections to the console now; known: their last request had a session or a token."
        metric = GaugeMetricFamily("mailrace_console_connections", text, labels=["who"])
        metric.add_metric(["known"], known)
        metric.add_metric(["stranger"], len(self._connections) - known)
        yield metric
        text = "Connections that the console closed, by why: late, displaced by newer ones, or no proper HTTP."
        counter = CounterMetricFamily("mailrace_console_closed", text, labels=["why"])
        for why, count in sorted(self._connections.closed.items()):
            counter.add_metric([why], count)
        yield counter


def label(key: str) -> str:
    """A key as a label: what cannot be printed, or not be encoded, is replaced."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in key[:LONGEST])
