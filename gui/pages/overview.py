"""Overview: the counters of the last minute over a chart of the same lines, and what is wrong."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from nicegui import ui
from nicegui.element import Element

from gui.components import drawing
from gui.components.instances import WholeNote
from gui.components.parts import Chart, Counters, Gauges, Troubles, Verdict
from gui.components.running import Running
from gui.components.view import ConsolePage, View
from pipeline.views.figures import (
    COUNTERS,
    FIGURES,
    RANGES,
    STEPS,
    DomainErrors,
    Range,
)
from pipeline.views.scoped import SCOPES, Scope
from pipeline.views.verdict import answer, code, judge, share

LINES = ("processed", "delivered", "errors", "retried")  # drawn where the address does not say
UNITS: dict[Range, str] = {"1m": "per second", "1h": "per 10 seconds", "24h": "per minute"}
LABELS: dict[Range, str] = {"1m": "1 min", "1h": "1 h", "24h": "24 h"}
NAMES: dict[Scope, str] = {"ip": "MTA IPs", "domain": "domains", "tag": "tags", "pool": "pools"}
SHOWN = 200  # keys that a selector offers; any other can be typed
MOST = 8  # destinations with errors


class Choice(msgspec.Struct):
    """What the address says: which range, which lines, and of whom."""

    span: Range = "1m"
    lines: tuple[str, ...] = LINES
    dimension: Scope | None = None
    key: str | None = None
    whole: bool = False  # of all instances of the cluster

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Choice:
        """From an address; what cannot be used is left at its default."""
        choice = cls()
        for span in RANGES:
            if query.get("range") == span:
                choice.span = span
        if "lines" in query:
            choice.lines = tuple(figure.name for figure in COUNTERS if figure.name in query["lines"].split(","))
        choice.whole = query.get("of") == "cluster"
        for dimension in SCOPES:
            if key := query.get(dimension, "").strip()[:255]:
                choice.dimension, choice.key = dimension, key
                break
        return choice

    def address(self, **changes: Any) -> str:
        """The address that says this, with these changes."""
        chosen = msgspec.structs.replace(self, **changes)
        query: dict[str, str] = {chosen.dimension: chosen.key} if chosen.dimension and chosen.key else {}
        if chosen.whole:
            query["of"] = "cluster"
        if chosen.span != "1m":
            query["range"] = chosen.span
        if chosen.lines != LINES:
            query["lines"] = ",".join(chosen.lines)
        return "/" + ("?" + urlencode(query, safe=",") if query else "")


class Overview:
    """One opened Overview."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._facade, self._telemetry, self._figures = view.facade, view.facade.telemetry, view.facade.scoped
        self._choice = Choice.of(view.query)
        with view.tools:
            self._selectors()
        self._verdict = Verdict()
        with ui.element("section").classes("card flow"):
            self._counters = Counters(COUNTERS, self._choice.lines, self._toggled)
            with ui.element("div").classes("chart-head"):
                self._unit = ui.label(UNITS[self._choice.span]).classes("of")
                self._ranges()
            self._chart = Chart()
            self._chart._props["lines"] = [{"name": figure.name, "label": figure.label} for figure in COUNTERS]
            self._chart._props["initial"] = self._points()
        with ui.element("div").classes("columns"):
            with ui.element("section").classes("card"):
                _heading("Destinations with errors", "last 5 minutes")
                self._troubles = Troubles()
            with ui.element("section").classes("card now"):
                _heading("Messages", "now")
                self._messages = Gauges(_figures("in_memory", "parked", "waiting"))
                _heading("Connections", "now, of the whole machine" if self._choice.dimension else "now")
                self._connections = Gauges(_figures("attempting", "active", "idle"), bar=True)
        self._refresh()
        view.live.each(self._refresh)
        view.live.each(self._advance)

    # -- what is selected -----------------------------------------------------------------------------------------

    def _selectors(self) -> None:
        with ui.element("div").classes("selectors"):
            if self._facade.cluster.there:
                self._whole_or_not()
            for dimension in SCOPES:
                if dimension != "pool" or self._choice.dimension == "pool" or self._figures.keys("pool"):
                    self._selector(dimension)
            if self._choice.dimension != "pool":  # a pause is for one MTA IP, or all
                Running(self._view, self._choice.dimension, self._choice.key)

    def _selector(self, dimension: Scope) -> None:
        chosen = self._choice.key if self._choice.dimension == dimension else None
        keys = self._figures.keys(dimension)[:SHOWN]
        if chosen and chosen not in keys:
            keys.append(chosen)
        select = ui.select(
            sorted(keys),
            value=chosen,
            with_input=True,
            new_value_mode="add-unique",
            clearable=True,
            on_change=lambda event: self._selected(dimension, event.value),
        )
        select.props(f'placeholder="All {NAMES[dimension]}" aria-label="Show one of the {NAMES[dimension]}"')
        select.props('dense outlined options-dense input-debounce=0 popup-content-class="options"')
        if dimension == "domain":
            select.props("data-search")
        select.classes("selector" + (" chosen" if chosen else ""))

    def _whole_or_not(self) -> None:
        if self._choice.whole:
            WholeNote(self._facade, self._view.live)
        select = ui.select(
            {"": "This instance", "cluster": "Whole cluster"},
            value="cluster" if self._choice.whole else "",
            on_change=lambda event: ui.navigate.to(self._choice.address(whole=bool(event.value))),
        )
        select.props('aria-label="Of this instance or the whole cluster" dense outlined options-dense')
        select.props('popup-content-class="options"').classes("selector" + (" chosen" if self._choice.whole else ""))

    def _selected(self, dimension: Scope, key: Any) -> None:
        key = self._meant(dimension, str(key).strip()[:255]) if key else None
        ui.navigate.to(self._choice.address(dimension=dimension if key else None, key=key))

    def _meant(self, dimension: Scope, typed: str) -> str:
        """The key that was typed; where it is none, the most recently active one that has it in its name."""
        keys = self._figures.keys(dimension)
        return typed if typed in keys else next((key for key in keys if typed.lower() in key.lower()), typed)

    # -- the chart --------------------------------------------------------------------------------------------------

    def _ranges(self) -> None:
        with ui.element("div").classes("ranges").props('role=group aria-label="Range"'):
            self._buttons: dict[Range, Element] = {}
            for span, label in LABELS.items():
                button = drawing.text("button", label).props(f"type=button data-range={span}")
                button.on("click", functools.partial(self._ranged, span))
                self._buttons[span] = button
        self._mark()

    def _mark(self) -> None:
        for span, button in self._buttons.items():
            button.props(f"aria-pressed={'true' if span == self._choice.span else 'false'}")

    def _ranged(self, span: Range) -> None:
        self._choice.span = span
        self._unit.set_text(UNITS[span])
        self._mark()
        self._redraw()

    def _toggled(self, names: list[str]) -> None:
        self._choice.lines = tuple(figure.name for figure in COUNTERS if figure.name in names)
        self._counters._props["on"] = list(self._choice.lines)
        self._redraw()

    def _redraw(self) -> None:
        ui.navigate.history.replace(self._choice.address())
        self._chart.run_method("load", self._points())

    def _points(self) -> dict[str, Any]:
        """All points of the chosen lines."""
        choice = self._choice
        times, values = self._figures.series(choice.lines, choice.span, choice.dimension, choice.key)
        step = STEPS[RANGES[choice.span]]
        self._drawn = times[-1]
        return {"first": times[0], "step": step, "values": values}

    def _advance(self) -> None:
        """Send the slots that have ended since the last time."""
        choice = self._choice
        times, values = self._figures.series(choice.lines, choice.span, choice.dimension, choice.key)
        new = (times[-1] - self._drawn) // STEPS[RANGES[choice.span]]
        if 0 < new <= len(times):
            self._chart.run_method("push", {"values": {name: counts[-new:] for name, counts in values.items()}})
            self._drawn = times[-1]
        elif new:
            self._chart.run_method("load", self._points())

    # -- the figures --------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        figures = self._snapshot()
        troubles = self._telemetry.top_errors(MOST)
        if self._choice.dimension:
            troubles = [trouble for trouble in troubles if trouble.domain == self._choice.key]
        verdict = judge(figures, troubles, self._facade.states())
        for name in ("level", "word", "text", "detail"):
            self._verdict.show(name, getattr(verdict, name))
        self._counters.show("values", {figure.name: figures[figure.name] for figure in COUNTERS})
        waiting = None if self._choice.dimension else figures["waiting"]  # known of the whole machine only
        messages = {"in_memory": figures["in_memory"], "parked": figures["parked"], "waiting": waiting}
        self._messages.show("values", messages)
        self._connections.show("values", {name: figures[name] for name in ("attempting", "active", "idle")})
        self._troubles.show("rows", [self._row(trouble) for trouble in troubles])

    def _snapshot(self) -> Mapping[str, int]:
        dimension, key = self._choice.dimension, self._choice.key
        figures = self._figures.snapshot(dimension, key)
        if not self._choice.whole or dimension == "tag" or dimension == "pool":
            return figures
        if dimension is None:
            return figures | self._facade.cluster.whole().figures
        others = self._facade.cluster.by(dimension)[key or ""]
        return {name: count + others[name] for name, count in figures.items()}

    def _row(self, trouble: DomainErrors) -> dict[str, Any]:
        outcome = trouble.last.outcome
        return {
            "domain": trouble.domain,
            "errors": trouble.errors,
            "share": round(100 * share(trouble)),
            "code": code(outcome),
            "text": answer(outcome)[:300],
            "host": outcome.host or outcome.remote_ip or "",
            "time": trouble.last.time,
            "link": self._choice.address(dimension="domain", key=trouble.domain),
        }


def _figures(*names: str) -> list[Any]:
    return [FIGURES[name] for name in names]


def _heading(text: str, of: str) -> None:
    with ui.element("div").classes("card-head"):
        drawing.text("h2", text)
        ui.label(of).classes("of")


PAGE = ConsolePage(
    path="/",
    title="Overview",
    section="Monitor",
    icon=drawing.BARS,
    key="o",
    build=Overview,
)
