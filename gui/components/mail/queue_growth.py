"""How the queue grows: its size over time, in words what it does, and how old its messages are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from gui.components import drawing
from gui.components.latest import Latest
from gui.components.parts import Bars, Chart
from gui.components.view import View
from pipeline.views.queues import Census, QueueUnavailable, Unbrowsable
from pipeline.views.state.growth import LONG, STEP, QueueSample

SIZES = (("ready", "Ready"), ("waiting", "Retrying"), ("parked", "Parked"), ("in_memory", "In memory"))
SPANS = {"1h": (STEP, "1 h"), "24h": (LONG, "24 h")}
LABELS = ("under 1 min", "1 to 5 min", "5 to 15 min", "15 min to 1 h", "1 to 6 h", "6 h to 1 day", "over 1 day")  # AGES


class QueueGrowth:
    """Two cards of a page."""

    def __init__(self, view: View) -> None:
        self._facade = view.facade
        self.oldest: dict[str, float] = {}  # when the oldest parked message came, by lane
        self._span, self._drawn = "1h", 0.0
        with ui.element("div").classes("halves queue-growth"):
            with ui.element("section").classes("card"):
                with ui.element("div").classes("card-head"):
                    drawing.text("h2", "Size")
                    self._said = ui.label("It is measured.").classes("of").props("role=status data-growth")
                    with ui.element("div").classes("ranges").props('role=group aria-label="Range"'):
                        self._buttons = {span: self._range(span, label) for span, (_, label) in SPANS.items()}
                self._chart = Chart()
                self._chart._props["legend"] = True
                self._chart._props["lines"] = [{"name": name, "label": label} for name, label in SIZES]
                self._chart._props["initial"] = self._points()
            with ui.element("section").classes("card"):
                with ui.element("div").classes("card-head"):
                    drawing.text("h2", "Age")
                    self._looked = ui.label("since the messages came into the queue").classes("of")
                self._ages = Bars("Messages by age")

        self._count = Latest(self._look, (QueueUnavailable, Unbrowsable))
        self._count()
        view.live.each(self._count.idly)
        view.live.each(self._refresh)

    def _range(self, span: str, label: str) -> ui.element:
        button = drawing.text("button", label).props(f"type=button data-range={span}")
        button.props(f"aria-pressed={'true' if span == self._span else 'false'}")
        button.on("click", lambda: self._ranged(span))
        return button

    def _ranged(self, span: str) -> None:
        self._span = span
        for name, button in self._buttons.items():
            button.props(f"aria-pressed={'true' if name == span else 'false'}")
        self._chart.run_method("load", self._points())

    def _points(self) -> dict[str, Any]:
        step = SPANS[self._span][0]
        samples = self._facade.sizes.over(step)
        self._drawn = samples[-1].time if samples else 0.0
        return sized(samples, step)

    def _refresh(self) -> None:
        growth = self._facade.sizes.growth()
        if growth is not None:
            self._said.set_text(growth.sentence())
        samples = self._facade.sizes.over(SPANS[self._span][0])
        if samples and samples[-1].time != self._drawn:
            self._chart.run_method("load", self._points())

    async def _look(self) -> None:
        """A look at all messages, now and then only."""
        census = await self._facade.queue.census()
        if census is None:
            self._looked.set_text("a broker does not say it")
            return
        self.oldest = census.oldest
        self._ages.show("rows", aged(census))
        more = "" if census.whole else f", of the {census.looked:,} that were looked at"
        self._looked.set_text(f"since the messages came into the queue{more}")


def sized(samples: Sequence[QueueSample], step: int) -> dict[str, Any]:
    """Samples as the chart takes them; where none was taken there is a gap."""
    if not samples:
        return {"first": int(time.time()), "step": step, "values": {name: [None, None] for name, _ in SIZES}}
    first = int(samples[0].time) // step
    slots = max(2, int(samples[-1].time) // step - first + 1)
    values: dict[str, list[int | None]] = {name: [None] * slots for name, _ in SIZES}
    for sample in samples:
        for name, _ in SIZES:
            values[name][int(sample.time) // step - first] = getattr(sample, name)
    return {"first": first * step, "step": step, "values": values}


def aged(census: Census) -> list[dict[str, Any]]:
    """Bars by age, in parts by state."""
    parts = ("ready", "waiting", "parked")
    return [
        {"label": label, "parts": {part: census.ages.get(part, [0] * len(LABELS))[at] for part in parts}}
        for at, label in enumerate(LABELS)
    ]
