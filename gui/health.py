"""`/healthz`, `/readyz` and `/metrics`: what other programs ask.

The labels of `/metrics` are bounded: the TOP most active domains and MTA IPs have their own; the rest are "other".
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gui.machine import Machine
from pipeline.figures import BACKGROUND, COUNTERS, GAUGES, LOST_LINES, REMOVED, UNREACHED
from pipeline.process.supervisor import supervisor
from pipeline.telemetry import Dimension

TOP = 50  # keys of a dimension with a label of their own
PATIENCE = 5.0  # seconds the queue may take to answer
LABELLED = ("attempts", "delivered", "errors", "strange", "unreached", "in_memory", "parked")


def routes(machine: Machine) -> APIRouter:
    """The addresses that watchers ask."""
    router = APIRouter()
    registry = CollectorRegistry()
    registry.register(Figures(machine))
    ProcessCollector(registry=registry)

    @router.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @router.get("/readyz")
    async def readyz() -> Response:
        problem = await _problem(machine)
        return PlainTextResponse(f"{problem or 'ok'}\n", 503 if problem else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _problem(machine: Machine) -> str:
    """What takes no mail, lets none leave, or does not answer. In general words: this page has no login."""
    if (stopped := machine.health.stopped) is not None:
        return stopped
    try:
        figures = machine.queue.figures()
        if inspect.isawaitable(figures):
            await asyncio.wait_for(figures, PATIENCE)
    except Exception:
        return "the queue does not answer"
    return "a part of the program has failed: its log says which" if supervisor().grave else ""


class Figures(Collector):
    """The telemetry, as Prometheus reads it."""

    def __init__(self, machine: Machine) -> None:
        self._telemetry = machine.telemetry

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
        yield from self._by("ip", now)
        yield from self._by("domain", now)

    def _by(self, dimension: Dimension, whole: dict[str, int]) -> Iterator[Metric]:
        shown = self._telemetry.snapshots(dimension, self._telemetry.keys(dimension)[:TOP])
        for name in LABELLED:
            text = f"{name} by {dimension}: of the last 60 s, or now; the rest as other"
            metric = GaugeMetricFamily(f"mailrace_{dimension}_{name}", text, labels=[dimension])
            for key, figures in shown.items():
                metric.add_metric([key], figures[name])
            metric.add_metric(["other"], max(0, whole[name] - sum(figures[name] for figures in shown.values())))
            yield metric
