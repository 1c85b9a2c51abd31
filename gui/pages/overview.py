"""Overview: the counters of the last minute over a chart of the same lines, and what is wrong."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
from nicegui import ui
from nicegui.element import Element

from gui.components import drawing
from gui.components.dialog_box import DialogBox
from gui.components.filter_bar import address
from gui.components.instances import WholeNote
from gui.components.live_table import shown
from gui.components.mail.answer_table import AnswerTable, answer_rows
from gui.components.mail.mta_names import MtaNames
from gui.components.notes import Notes
from gui.components.parts import Chart, Counters, Gauges, Moment, Troubles, Verdict
from gui.components.pausing.running import Running
from gui.components.view import ConsolePage, View
from pipeline.views.figures import (
    COUNTERS,
    FIGURES,
    RANGES,
    SLOTS,
    STEPS,
    DomainErrors,
    Range,
    Telemetry,
)
from pipeline.views.scoped import SCOPES, Scope
from pipeline.views.state.lens import Lens
from pipeline.views.state.pauses import held_mail
from pipeline.views.state.standing import Standing, sentence
from pipeline.views.verdict import answer, code, judge, share

LINES = ("processed", "delivered", "errors", "retried")  # drawn where the address does not say
UNITS: dict[Range, str] = {"1m": "per second", "1h": "per 10 seconds", "24h": "per minute"}
WINDOWS: dict[Range, str] = {"1m": "last 60 s", "1h": "last hour", "24h": "last 24 h"}
LABELS: dict[Range, str] = {"1m": "1 min", "1h": "1 h", "24h": "24 h"}
NAMES: dict[Scope, str] = {"ip": "MTA IPs", "domain": "domains", "tag": "tags", "pool": "pools"}
SHOWN = 200  # keys that a selector offers; any other can be typed
MOST = 8  # destinations with errors


class Choice(msgspec.Struct):
    """What the address says: which range, which lines, and of whom: an MTA IP, a domain, a tag, or what is of all."""

    span: Range = "1m"
    lines: tuple[str, ...] = LINES
    selected: dict[str, str] = {}
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
        given = {scope: query.get(scope, "").strip()[:255] for scope in SCOPES}
        choice.selected = {scope: key for scope, key in given.items() if key}
        if len(choice.selected) > 1:
            choice.selected.pop("pool", None)  # its figures are sums, of which nothing is known in common with others
        return choice

    def address(self, **changes: Any) -> str:
        """The address that says this, with these changes."""
        chosen = msgspec.structs.replace(self, **changes)
        query = dict(chosen.selected)
        if chosen.whole:
            query["of"] = "cluster"
        if chosen.span != "1m":
            query["range"] = chosen.span
        if chosen.lines != LINES:
            query["lines"] = ",".join(chosen.lines)
        return "/" + ("?" + urlencode(query, safe=",") if query else "")

    @property
    def scope(self) -> tuple[Scope, str] | tuple[None, None]:
        """The one that is selected, where it is one."""
        if len(self.selected) != 1:
            return None, None
        ((scope, key),) = self.selected.items()
        return cast(Scope, scope), key


class Overview:
    """One opened Overview."""

    def __init__(self, view: View) -> None:
        self._view, self._facade, self._choice = view, view.facade, Choice.of(view.query)
        self._selected = self._choice.selected
        self._lens = lens = self._facade.lenses.of(self._selected) if len(self._selected) > 1 else None
        self._figures = lens.telemetry if lens else self._facade.scoped
        self._summed: tuple[str, int, dict[str, int]] = ("", 0, {})  # counters of a longer range, by its last slot
        with view.tools:
            self._selectors()
        self._verdict = Verdict()
        if self._selected:
            self._links(lens)
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
                self._below()
            with ui.element("section").classes("card now"):
                _heading("Messages", "now")
                self._messages = Gauges(_figures("in_memory", "parked", "waiting"))
                _heading("Connections", "now")
                self._connections = Gauges(_figures("attempting", "active", "idle"), bar=True)
                drawing.text("a", "Queues in and out: AMQP monitor", "more-link").props("href=/amqp")
        self._refresh()
        view.live.each(self._refresh)
        view.live.each(self._advance)

    def _below(self) -> None:
        if self._selected:
            _heading("Answers", "of the last 5 minutes, equal ones counted together")
            self._answers: AnswerTable | None = AnswerTable()
        else:
            self._answers = None
        if "domain" not in self._selected:
            _heading("Destinations with errors", "last 5 minutes")
        self._troubles = Troubles() if "domain" not in self._selected else None

    # -- what is selected -----------------------------------------------------------------------------------------

    def _selectors(self) -> None:
        with ui.element("div").classes("selectors"):
            if self._facade.cluster.there:
                self._whole_or_not()
            for scope in SCOPES:
                if scope != "pool" or "pool" in self._selected or self._facade.scoped.keys("pool"):
                    self._selector(scope)
            self._box, self._notes = box, notes = DialogBox(), Notes()
            if "pool" not in self._selected:  # a pause is for one MTA IP, or all
                Running(self._view, dict(self._selected), box, notes)

    def _renaming(self, ip: str) -> None:
        names = MtaNames(self._view, self._box, self._notes, self._named)
        button = drawing.text("button", "Rename", "small rename").props("type=button data-do-rename")
        button.on("click", lambda: names.edit(ip))
        self._name = ui.label("").classes("of ip-name")
        self._named()

    def _named(self) -> None:
        self._name.set_text(shown(self._facade.store.snapshot.mta_name(self._selected["ip"]) or "", 60))

    def _links(self, lens: Lens | None) -> None:
        """From here to what else is known of what is selected."""
        ip, domain, tag = (self._selected.get(name, "") for name in ("ip", "domain", "tag"))
        smtp = {"mta_ip": ip, "domain": domain}
        pages = [("Queue", address("/queue", self._selected)), ("Log", address("/logs", self._selected))]
        if "pool" in self._selected:
            pages = [("Members of the pool", address("/pools", {"q": self._selected["pool"]}))]
        elif not tag:
            pages.append(("SMTP monitor", address("/smtp", smtp)))
        if domain:
            lanes = address("/domains", {"domain": domain})
            pages = [
                ("Lanes and limits", lanes),
                *pages,
                ("Throttle it", address("/throttling", {"ip": ip, "domain": domain})),
            ]
        with ui.element("nav").classes("of-it").props('aria-label="More of it"'):
            for label, href in pages:
                drawing.text("a", label, "small").props(f'href="{html.escape(href)}"')
            if ip:
                self._renaming(ip)
            drawing.text("a", "Show everything", "small").props("href=/")
            if lens is not None:
                with ui.element("span").classes("of"):
                    drawing.text("span", "The counters of a combination begin when it is looked at: ")
                    Moment(lens.since)

    def _whole_or_not(self) -> None:
        if self._choice.whole:
            WholeNote(self._facade, self._view.live)
        select = ui.select(
            {"": "This instance", "cluster": "Whole cluster"},
            value="cluster" if self._choice.whole else "",
            on_change=lambda event: ui.navigate.to(self._choice.address(whole=bool(event.value))),
        )
        select.props('aria-label="Of this instance or the whole cluster" dense outlined options-dense')
        select.props(f'popup-content-class="options" dropdown-icon="{drawing.DOWN}"')
        select.classes("selector" + (" chosen" if self._choice.whole else ""))

    def _selector(self, dimension: Scope) -> None:
        chosen = self._selected.get(dimension)
        keys = self._facade.scoped.keys(dimension)[:SHOWN]
        if chosen and chosen not in keys:
            keys.append(chosen)
        select = ui.select(
            sorted(keys),
            value=chosen,
            with_input=True,
            new_value_mode="add-unique",
            clearable=True,
            on_change=lambda event: self._select(dimension, event.value),
        )
        select.props(f'placeholder="All {NAMES[dimension]}" aria-label="Show one of the {NAMES[dimension]}"')
        select.props('dense outlined options-dense input-debounce=0 popup-content-class="options"')
        select.props(f'dropdown-icon="{drawing.DOWN}" clear-icon="{drawing.CROSS}"')
        if dimension == "domain":
            select.props("data-search")
        select.classes("selector" + (" chosen" if chosen else ""))

    def _select(self, dimension: Scope, key: Any) -> None:
        key = self._meant(dimension, str(key).strip()[:255]) if key else ""
        given: dict[str, str] = {} if dimension == "pool" else {**self._selected, "pool": ""}
        given[dimension] = key
        ui.navigate.to(self._choice.address(selected={name: given[name] for name in SCOPES if given.get(name)}))

    def _meant(self, dimension: Scope, typed: str) -> str:
        """The key that was typed; where it is none, the most recently active one that has it in its name."""
        keys = self._facade.scoped.keys(dimension)
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
        self._refresh()
        ui.navigate.history.replace(self._choice.address())
        self._chart.run_method("load", self._points())

    def _points(self) -> dict[str, Any]:
        """All points of the chosen lines."""
        choice = self._choice
        times, values = self._figures.series(choice.lines, choice.span, *choice.scope)
        step = STEPS[RANGES[choice.span]]
        self._drawn = times[-1]
        known = {
            name: [n if self._known(at) else None for at, n in zip(times, row, strict=True)]
            for name, row in values.items()
        }
        return {"first": times[0], "step": step, "values": known}

    @property
    def _telemetry(self) -> Telemetry:
        return self._lens.telemetry if self._lens else self._facade.telemetry

    @property
    def _is_restored(self) -> bool:
        """Whether the log was asked what was before the start; of a domain or a tag it is not."""
        return not self._selected or self._choice.scope[0] == "ip"

    def _known(self, slot: int) -> bool:
        """Whether anybody counted in this slot; where nobody did there is a gap, and not nothing."""
        tier = RANGES[self._choice.span]
        return slot + STEPS[tier] > self._telemetry.began or (self._is_restored and self._telemetry.knows(slot, tier))

    def _began(self) -> int:
        """Since when it is counted, as far as that is known."""
        telemetry = self._telemetry
        known = telemetry.restored.get(RANGES[self._choice.span]) if self._is_restored else None
        return known[0] if known else telemetry.began

    def _advance(self) -> None:
        """Send the slots that have ended since the last time."""
        choice = self._choice
        times, values = self._figures.series(choice.lines, choice.span, *choice.scope)
        new = (times[-1] - self._drawn) // STEPS[RANGES[choice.span]]
        if 0 < new <= len(times):
            self._chart.run_method("push", {"values": {name: counts[-new:] for name, counts in values.items()}})
            self._drawn = times[-1]
        elif new:
            self._chart.run_method("load", self._points())

    # -- the figures --------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        selected = self._selected
        figures = self._snapshot()
        troubles, standing = self._facade.selected.troubles(selected, MOST), self._facade.selected.standing(selected)
        self._judge(figures, troubles, standing)
        self._count(figures)
        waiting = standing.retrying if selected else figures["waiting"]
        messages = {"in_memory": figures["in_memory"], "parked": figures["parked"], "waiting": waiting}
        self._messages.show("values", messages)
        self._connections.show("values", self._connected(figures))
        if self._troubles is not None:
            self._troubles.show("rows", [self._row(trouble) for trouble in troubles])
        if self._answers is not None:
            self._answers.show("rows", answer_rows(standing))

    def _count(self, figures: Mapping[str, int]) -> None:
        """The counters of the chosen range; those of the whole cluster are known of the last minute alone."""
        span = "1m" if self._choice.whole else self._choice.span
        step, slots = STEPS[RANGES[span]], SLOTS[RANGES[span]]
        slot = int(time.time()) // step
        counts = {figure.name: figures[figure.name] for figure in COUNTERS}
        if span != "1m":
            if self._summed[:2] != (span, slot):
                names = [figure.name for figure in COUNTERS]
                _, values = self._figures.series(names, span, *self._choice.scope)
                self._summed = span, slot, {name: sum(row) for name, row in values.items()}
            counts = self._summed[2]
        began = self._began() if span != "1m" else self._facade.telemetry.began
        known, whole = time.time() - began, slots * step
        short = f", of which {spoken(known)} are known" if known < whole - step else ""
        self._counters.show("values", counts)
        self._counters.show("window", {"seconds": int(max(1, min(known, whole))), "text": WINDOWS[span] + short})

    def _snapshot(self) -> Mapping[str, int]:
        scope, key = self._choice.scope
        figures = self._figures.snapshot(scope, key)  # type: ignore[arg-type]
        if not self._choice.whole or len(self._selected) > 1 or scope == "tag" or scope == "pool":
            return figures
        if scope is None:
            return figures | self._facade.cluster.whole().figures
        others = self._facade.cluster.by(scope)[key or ""]
        return {name: count + others[name] for name, count in figures.items()}

    def _judge(self, figures: Mapping[str, int], troubles: Sequence[DomainErrors], standing: Standing) -> None:
        selected, facade = self._selected, self._facade
        held = held_mail(facade.store.snapshot.pauses, selected, facade.rules.held)
        what = " and ".join(shown(key, 80) for key in selected.values())
        seen = not selected or standing.ended or standing.retrying or facade.selected.knows(selected)
        of_it = {**figures, "waiting": standing.retrying} if selected else figures
        verdict = judge(of_it, troubles, facade.states(), held, what, bool(seen))
        detail = sentence(standing) if selected and not verdict.detail else verdict.detail
        for name, value in {**msgspec.structs.asdict(verdict), "detail": detail}.items():
            self._verdict.show(name, value)

    def _connected(self, figures: Mapping[str, int]) -> dict[str, int | None]:
        """Connections of what is selected; a connection has no tag."""
        names = ("attempting", "active", "idle")
        if not self._selected:
            return {name: figures[name] for name in names}
        if "tag" in self._selected:
            return dict.fromkeys(names)
        by_ip = self._facade.lanes.connections(self._selected.get("domain"))
        ips = self._facade.selected.ips_of(self._selected) or list(by_ip)
        counts = [by_ip.get(ip, (0, 0, 0)) for ip in ips]
        return {name: sum(count[at] for count in counts) for at, name in enumerate(names)}

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
            "link": self._choice.address(selected={**self._selected, "domain": trouble.domain}),
        }


def spoken(seconds: float) -> str:
    """A span, roughly."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


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
    purpose="What goes through this machine now, and what is wrong: of all mail, an MTA IP, a domain, a tag.",
)
