"""AMQP monitor: what the queues hold, and what goes in and out of them. The embedded queue has the same figures."""

from __future__ import annotations

import time
from typing import Any

from nicegui import ui

from gui.components import drawing
from gui.components.gauge_strip import GaugeStrip
from gui.components.latest import Latest
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.parts import Chart
from gui.view import Page, View
from operators.events import Event, Received, Settled, Taken
from operators.outcome import Next
from pipeline.figures import FIGURES
from pipeline.queues.contract import Figures, QueueUnavailable
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.series import STEPS
from settings import effective

LINES = ("processed", "delivered", "retried", "failed")
SPAN = 10  # slots that rates are taken over; seconds
QUEUES = 100  # rows
STRIP = {
    "received": ("Received / s", "Messages that intake put into the queue, in the last 10 s, a second."),
    "processed": ("Processed / s", "Messages taken from the outbox, in the last 10 s, a second."),
    "waiting": ("Rescheduled", "Messages that wait for their retry time now."),
    "in_memory": ("In memory", FIGURES["in_memory"].definition),
    "parked": ("Parked", FIGURES["parked"].definition),
    "temporary": ("Temporary queues", "Queues that vanish when they are empty: those of parked lanes, and delays."),
}
RESULTS = {
    name: (FIGURES[name].label, FIGURES[name].definition)
    for name in ("delivered", "retried", "failed", "returned", "refused")
}
COLUMNS = (
    Column("queue", "Queue", "text", width="34%", main=True),
    Column("ready", "Ready", "number", "Messages that can be lent now, or that wait for their time.", width="104px"),
    Column("unacked", "Unacked", "number", "Messages that are lent and not settled.", width="104px"),
    Column("consumers", "Consumers", "number", "Who takes messages from it.", width="104px"),
    Column("in", "In / s", "amount", "Messages put into it a second, over the last 10 s.", width="90px"),
    Column("out", "Out / s", "amount", "Messages lent a second, over the last 10 s.", width="90px"),
    Column("ack", "Ack / s", "amount", "Messages settled a second, over the last 10 s.", width="90px"),
)
EMPTY = Empty("No queue", "The queues appear here when the broker answers.")


class Amqp:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._facade, self._machine = view.facade, view.facade.machine
        self._telemetry = self._machine.telemetry
        self._flow = Flow()
        view.live.keep(self._machine.events.subscribe(self._flow.count))
        self._drawn = 0
        with ui.element("div").classes("card connection").props("role=status"):
            with drawing.tag("span", "state state-connected") as self._state:
                drawing.tag("i")
                self._word = ui.label("")
            self._where = ui.label("").classes("of")
        self._strip = GaugeStrip(STRIP)
        with ui.element("section").classes("card log-chart"):
            with ui.element("div").classes("card-head"):
                drawing.text("h2", "Messages through the queue")
                ui.label("per second").classes("of")
            self._chart = Chart()
            self._chart._props["lines"] = [{"name": name, "label": FIGURES[name].label} for name in LINES]
            self._chart._props["initial"] = self._points()
        with ui.element("div").classes("card-head results-head"):
            drawing.text("h2", "Results")
            ui.label("of the last 60 s").classes("of")
        self._results = GaugeStrip(RESULTS)
        self._table = LiveTable(COLUMNS, "Queues", EMPTY)
        self._table.classes("card table-card")
        self._refresh = Latest(self._show, (QueueUnavailable,), self._failed)
        self._refresh()
        view.live.each(self._refresh.idly)
        view.live.each(self._advance)

    async def _show(self) -> None:
        figures = await self._facade.queues()
        now = self._telemetry.snapshot()
        self._connected(True, _address(self._machine))
        self._strip.show(
            "values",
            {
                "received": self._flow.rate("in"),
                "processed": self._flow.rate("out"),
                "waiting": figures.waiting,
                "in_memory": figures.unsettled,
                "parked": sum(figures.parked.values()),
                "temporary": len(figures.parked) + bool(figures.waiting),
            },
        )
        self._results.show("values", {name: now[name] for name in RESULTS})
        rows = self._rows(figures)
        more = {"text": f"{QUEUES} of {len(rows):,} queues"} if len(rows) > QUEUES else {}
        self._table.show(rows[:QUEUES], pager=more)

    def _rows(self, figures: Figures) -> list[dict[str, Any]]:
        outbox = self._machine.settings.rabbitmq_outbox
        first = _row(outbox, figures.ready, figures.unsettled, 1)
        first |= {name: f"{self._flow.rate(name):.1f}" for name in ("in", "out", "ack")}
        rows = [first, _row(f"{outbox}, waiting for a time", figures.waiting)]
        rows += [_row(name, count) for name, count in sorted(figures.other.items())]
        parked = sorted(figures.parked.items(), key=lambda pair: -pair[1])
        return rows + [_row(f"{outbox}.parked.{lane}", count) for lane, count in parked]

    def _failed(self, why: str) -> None:
        self._connected(False, shown(why))

    def _connected(self, there: bool, where: str) -> None:
        self._word.set_text("Connected" if there else "Not connected")
        self._state.classes(replace=f"state state-{'connected' if there else 'failed'}")
        self._where.set_text(where)

    # -- the chart ------------------------------------------------------------------------------------------------

    def _points(self) -> dict[str, Any]:
        times, values = self._telemetry.series(LINES, "1m")
        self._drawn = times[-1]
        return {"first": times[0], "step": STEPS[0], "values": values}

    def _advance(self) -> None:
        """Send the slots that have ended since the last time."""
        times, values = self._telemetry.series(LINES, "1m")
        new = times[-1] - self._drawn
        if 0 < new <= len(times):
            self._chart.run_method("push", {"values": {name: counts[-new:] for name, counts in values.items()}})
            self._drawn = times[-1]
        elif new:
            self._chart.run_method("load", self._points())


class Flow:
    """What goes into the outbox, is lent and is settled, counted by the second while a page looks."""

    def __init__(self) -> None:
        self._begun = time.time()
        self._seconds: dict[str, dict[int, int]] = {"in": {}, "out": {}, "ack": {}}

    def count(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Received):
            self._add("in", event.time)
        elif isinstance(event, Settled):
            self._add("ack", event.time)
            if event.outcome.next in (Next.RETRY, Next.POSTPONE):
                self._add("in", event.time)
        elif isinstance(event, Taken):
            self._add("out", event.time)

    def _add(self, name: str, when: float) -> None:
        seconds, second = self._seconds[name], int(when)
        if second not in seconds:
            for old in [old for old in seconds if not second - SPAN <= old <= second]:
                del seconds[old]
        seconds[second] = seconds.get(second, 0) + 1

    def rate(self, name: str) -> float:
        """A second, over the last SPAN."""
        now = time.time()
        counted = sum(count for second, count in self._seconds[name].items() if now - SPAN <= second + 1)
        return round(counted / min(SPAN, max(1.0, now - self._begun)), 1)


def _row(name: str, ready: int, unacked: int = 0, consumers: int = 0) -> dict[str, Any]:
    figures = {"ready": ready, "unacked": unacked, "consumers": consumers, "in": "", "out": "", "ack": ""}
    return {"key": name, "queue": shown(name, 300), **figures}


def _address(machine: Any) -> str:
    if isinstance(machine.queue, EmbeddedQueue):
        return "the embedded queue: one file in data-dir, no broker"
    return next((value for key, value, _ in effective(machine.settings) if key == "rabbitmq-address"), "RabbitMQ")


PAGE = Page(path="/amqp", title="AMQP monitor", section="Monitor", icon=drawing.FLOW, key="a", build=Amqp)
