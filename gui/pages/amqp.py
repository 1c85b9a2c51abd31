"""AMQP monitor: what the queues hold, and what goes in and out of them. The embedded queue has the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from gui.components import drawing
from gui.components.gauge_strip import GaugeStrip
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.parts import Chart
from gui.components.view import ConsolePage, View
from pipeline.views.background import supervisor
from pipeline.views.figures import FIGURES, STEPS
from pipeline.views.queues import QueueRow, Seen

LINES = ("processed", "delivered", "retried", "failed")
STRIP = {
    "received": ("Received / s", "Messages put into the outbox a second, over the last 10 s."),
    "processed": ("Processed / s", "Messages that this instance took from the outbox a second, over the last 10 s."),
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
    Column("queue", "Queue", "text", main=True),
    Column("trend", "Last minute", "spark", "Messages in it, once a second while this view is open.", width="132px"),
    Column("ready", "Ready", "number", "Messages that can be lent now, or that wait for their time.", width="96px"),
    Column("unacked", "Unacked", "number", "Messages that are lent and not settled.", width="96px"),
    Column("consumers", "Consumers", "number", "Who takes messages from it.", width="96px"),
    Column("into", "In / s", "amount", "Messages put into it a second.", width="84px"),
    Column("out", "Out / s", "amount", "Messages lent a second.", width="84px"),
    Column("ack", "Ack / s", "amount", "Messages settled a second.", width="84px"),
)
SOURCES = {
    "embedded": "one file in data-dir, no broker",
    "management": "with the management API: figures of all its clients",
    "amqp": "over AMQP alone, rates and unacked are those of this instance",
    "": "",
}
EMPTY = Empty("No queue", "The queues appear here when the broker answers.")


class Amqp:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._telemetry = view.facade.telemetry
        self._seen: Seen | None = None
        self._drawn = 0
        with ui.element("div").classes("card connection").props("role=status"):
            with drawing.tag("span", "state state-waiting") as self._state:
                drawing.tag("i")
                self._word = ui.label("Asking")
            self._where = ui.label("").classes("where")
            self._source = ui.label("").classes("of")
        self._strip = GaugeStrip(STRIP)
        with ui.element("section").classes("card log-chart"):
            with ui.element("div").classes("card-head"):
                drawing.text("h2", "Messages through the queue")
                ui.label("per second").classes("of")
            self._chart = Chart()
            self._chart._props["legend"] = True
            self._chart._props["lines"] = [{"name": name, "label": FIGURES[name].label} for name in LINES]
            self._chart._props["initial"] = self._points()
        with ui.element("div").classes("card-head results-head"):
            drawing.text("h2", "Results")
            ui.label("of the last 60 s").classes("of")
        self._results = GaugeStrip(RESULTS)
        self._table = LiveTable(COLUMNS, "Queues", EMPTY)
        self._table.classes("card table-card")
        self._advance()
        view.live.keep(supervisor().listen(view.facade.monitor.stream, self._saw, "page", grave=False))
        view.live.each(self._show)
        view.live.each(self._advance)

    def _saw(self, seen: Seen) -> None:
        first, self._seen = self._seen is None, seen
        if first:
            self._show()

    def _show(self) -> None:
        seen = self._seen
        if seen is None:
            return
        self._word.set_text("Connected" if seen.connected else "Not connected")
        self._state.classes(replace=f"state state-{'connected' if seen.connected else 'failed'}")
        self._where.set_text(shown(seen.where.replace(":******@", "@")))
        note = f" ({seen.note})" if seen.note and seen.source == "amqp" else ""
        self._source.set_text(SOURCES[seen.source] + note)
        self._strip.show("values", _gauges(seen))
        more = {"text": f"{len(seen.rows)} of {seen.total:,} queues"} if seen.total > len(seen.rows) else {}
        self._table.show([_row(row) for row in seen.rows], pager=more)

    # -- what comes of the messages ---------------------------------------------------------------------------------

    def _points(self) -> dict[str, Any]:
        times, values = self._telemetry.series(LINES, "1m")
        self._drawn = times[-1]
        return {"first": times[0], "step": STEPS[0], "values": values}

    def _advance(self) -> None:
        """Send the slots that have ended since the last time."""
        now = self._telemetry.snapshot()
        self._results.show("values", {name: now[name] for name in RESULTS})
        times, values = self._telemetry.series(LINES, "1m")
        new = times[-1] - self._drawn
        if 0 < new <= len(times):
            self._chart.run_method("push", {"values": {name: counts[-new:] for name, counts in values.items()}})
            self._drawn = times[-1]
        elif new:
            self._chart.run_method("load", self._points())


def _gauges(seen: Seen) -> Mapping[str, Any]:
    if not seen.connected:
        return {**dict.fromkeys(STRIP), "in_memory": seen.in_memory, "parked": seen.parked}
    return {name: getattr(seen, name) for name in STRIP}


def _row(row: QueueRow) -> dict[str, Any]:
    rates = {"into": row.into, "out": row.out, "ack": row.ack}
    return {
        "key": row.name,
        "queue": shown(row.name, 300),
        "trend": list(row.trend),
        "ready": row.ready,
        "unacked": row.unacked,
        "consumers": row.consumers,
        **{name: None if rate is None else f"{rate:,.1f}" if rate else "0" for name, rate in rates.items()},
    }


PAGE = ConsolePage(
    path="/amqp",
    title="AMQP monitor",
    section="Monitor",
    icon=drawing.FLOW,
    key="a",
    build=Amqp,
    purpose="What the queues hold, and what goes in and out of them.",
)
