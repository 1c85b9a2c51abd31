"""SMTP monitor: what clients and servers say, in and out, while somebody watches."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

from nicegui import background_tasks, ui
from nicegui.element import Element
from reactivex.disposable import SerialDisposable

from gui.components import drawing
from gui.components.detail_drawer import DetailDrawer, html, text
from gui.components.filter_bar import Field, FilterBar, address, kept, mistakes, say_mistakes
from gui.components.live_table import shown
from gui.components.mail.message_drawer import FRAMED
from gui.components.mail.preview import framed, preview
from gui.components.notes import Notes
from gui.components.parts import SCRIPTS
from gui.components.view import ConsolePage, View
from pipeline.views.background import supervisor
from pipeline.views.dialogue import Line, Only, SkippedLines

RATE = 100  # lines a second; more is faster than eyes
HELD = 500  # lines between two ticks of the page
FIELDS = (
    Field("direction", "Direction", "choice", options=(("", "In and out"), ("in", "In"), ("out", "Out"))),
    Field("mta_ip", "MTA IP"),
    Field("domain", "Domain", placeholder="All or part of it"),
    Field("remote_ip", "Remote IP"),
)


class SmtpPage(Element, component=f"{SCRIPTS}/smtp_monitor.js"):
    """The dialogue, grouped by connection."""


class SmtpMonitor:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._client = ui.context.client
        self._dialogue = view.facade.dialogue
        self._values = kept(FIELDS, view.query)
        say_mistakes(mistakes(FIELDS, view.query))
        self._watching = SerialDisposable()
        view.live.keep(self._watching)
        self._lines: collections.deque[Line] = collections.deque(maxlen=HELD)
        self._skipped = 0
        self._kept: list[int] = []  # messages that can be opened
        self._running = False
        with ui.element("div").classes("toolbar"):
            FilterBar(FIELDS, self._values, self._filtered, "Filter the dialogue")
            with ui.element("div").classes("toolbar-keys"):
                self._said = ui.label("").classes("of").props("role=status data-skipped")
                self._switch = drawing.text("button", "Stop", "small").props("type=button data-switch")
                self._switch.on("click", self._toggle)
                drawing.text("button", "Clear lines", "small").props("type=button").on("click", self._clear)
        self._monitor = SmtpPage()
        self._notes = Notes()
        self._drawer = DetailDrawer(lambda: None)
        self._monitor.on("open", lambda event: self._open(event.args))
        view.live.each(self._send)
        self._start()

    def _start(self) -> None:
        only = Only(**{name: self._values.get(name, "").lower() for name in Only.__struct_fields__})
        self._running = True
        self._watching.disposable = supervisor().listen(
            self._dialogue.watch(only, RATE), self._heard, "page", grave=False
        )
        self._show_running()

    def _stop(self) -> None:
        self._running = False
        self._watching.disposable = None
        self._show_running()

    def _show_running(self) -> None:
        self._switch.set_text("Stop" if self._running else "Start")  # type: ignore[attr-defined]
        self._monitor._props["running"] = self._running
        self._monitor.update()

    def _toggle(self) -> None:
        if self._running:
            self._stop()
        else:
            self._start()

    def _clear(self) -> None:
        self._lines.clear()
        self._skipped = 0
        self._said.set_text("")
        self._monitor.run_method("clear")

    def _filtered(self, values: dict[str, str]) -> None:
        self._values = values
        with self._client:
            ui.navigate.history.replace(address("/smtp", values))
        self._clear()
        self._start()

    def _heard(self, item: Line | SkippedLines) -> None:
        if isinstance(item, SkippedLines):
            self._skipped += item.count
            return
        if len(self._lines) == HELD:
            self._skipped += 1
        self._lines.append(item)

    def _send(self) -> None:
        if self._lines:
            lines = [_told(line) for line in self._lines]
            self._lines.clear()
            self._monitor.run_method("add", lines)
        if (kept := self._dialogue.kept) != self._kept:
            self._kept = kept
            self._monitor.run_method("keep", kept)
        self._said.set_text(
            f"{self._skipped:,} lines left out: as many whole connections as eyes can follow" if self._skipped else ""
        )

    def _open(self, number: Any) -> None:
        caught = self._dialogue.caught(number) if isinstance(number, int) else None
        if caught is None:
            self._notes.say("This message is not kept any more.", level="bad")
            return
        background_tasks.create(self._show(caught.source, caught.size))

    async def _show(self, source: bytes, size: int) -> None:
        parts = await asyncio.to_thread(preview, source)
        sections = [text("Header", parts.header, "Header")]
        if parts.text:
            sections.append(text("Text", parts.text, "Text"))
        if parts.html:
            sections.append(html("HTML", framed(parts.html), "HTML", FRAMED))
        sections.append(text("Source", parts.source, "Source"))
        self._drawer.show("Message", sections, under=f"{size:,} bytes, as they went over the connection")


def _told(line: Line) -> dict[str, Any]:
    return {
        "time": line.time,
        "connection": line.connection,
        "direction": line.direction,
        "sender": line.sender,
        "text": shown(line.text, 1010),
        "mta_ip": line.mta_ip,
        "remote_ip": line.remote_ip,
        "domain": shown(line.domain, 255),
        "size": line.size,
        "caught": line.caught,
        "missed": line.missed,
    }


PAGE = ConsolePage(
    path="/smtp",
    title="SMTP monitor",
    section="Monitor",
    icon=drawing.DIALOG,
    key="s",
    build=SmtpMonitor,
    purpose="What servers and clients say to each other, live.",
)
