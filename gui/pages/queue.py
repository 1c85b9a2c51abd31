"""Queue: what waits, is parked and is retried, by lane and message by message, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from nicegui import ui

from gui.components import drawing
from gui.components.dialog_box import DialogBox
from gui.components.filter_bar import Field, FilterBar, address, kept, mistakes, say_mistakes
from gui.components.gauge_strip import GaugeStrip
from gui.components.latest import Latest
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.mail.message_drawer import MessageDrawer
from gui.components.mail.message_table import MessageTable
from gui.components.mail.queue_growth import QueueGrowth
from gui.components.notes import Notes
from gui.components.progress import Progress
from gui.components.view import ConsolePage, View
from pipeline.views.bulk import MOST, BulkJob, Busy, Selection
from pipeline.views.explain import Brief
from pipeline.views.queues import Action, QueueFigures, QueueUnavailable, Unbrowsable
from pipeline.views.state.standing import WORST, many, provider
from settings.store import NotAllowed

LANES = 5  # rows of the table above
LOOKED = 50  # lanes that the next retry is looked for in
STATES = (("", "All"), ("ready", "Ready"), ("waiting", "Retrying"), ("parked", "Parked"))
AGES = (
    ("", "Any"),
    ("900", "15 min and more"),
    ("3600", "1 h and more"),
    ("21600", "6 h and more"),
    ("86400", "1 day and more"),
)
LAST = (("", "Any"), ("none", "Not tried yet"), ("4xx", "4xx"), ("5xx", "5xx"), ("silent", "No answer"))
FIELDS = (
    Field("containing", "Search", "search", "Address, subject, message-id"),
    Field("state", "State", "choice", options=STATES),
    Field("domain", "Domain", placeholder="example.com"),
    Field("tag", "Tag"),
    Field("ip", "MTA IP", rare=True),
    Field("envelope", "Sender", placeholder="<> for none", rare=True),
    Field("older", "In the queue", "choice", options=AGES, rare=True),
    Field("last", "Last answer", "choice", options=LAST, rare=True),
    Field("lane", "Parked in lane", placeholder="MTA IP/destination", rare=True),
    Field("queue", "Queue", placeholder="outbox", rare=True),
)
GAUGES = {
    "ready": ("Ready", "Messages that can be taken up now."),
    "waiting": ("Retrying", "Messages that wait for their retry."),
    "parked": ("Parked", "Messages outside memory, because their lane is full, slow or paused."),
    "unsettled": ("In memory", "Messages that are lent, and on their way."),
    "next": ("Next retry", "When the next of the waiting messages goes, and what was said to it the last time."),
    "other": ("Other queues", "Messages in other queues: results, local mail. Name one in the filter to see them."),
}
LANE_COLUMNS = (
    Column(
        "lane", "Where it waits", "link", "MTA IP and destination, and what its mail waits for.", False, "34%", True
    ),
    Column("state", "State", "state", width="104px"),
    Column("in_memory", "Memory", "number", "Deliveries of the lane in memory.", width="76px"),
    Column("parked", "Parked", "number", "Outside memory, since the lane is full, slow or paused.", width="72px"),
    Column("retrying", "Retrying", "number", "Wait for their retry, and left from it last.", width="82px"),
    Column("due", "Next", "in", "When the first of those goes.", width="84px"),
    Column("oldest", "Oldest", "time", "When the oldest parked message came into the queue.", width="94px"),
    Column("why", "Why", "text", "How it answered in the last 5 minutes."),
)
LANES_EMPTY = Empty(
    "Nothing waits",
    "A lane, which is an MTA IP and a destination, stands here while mail of it is in memory, parked, or retried.",
)
ACTIONS: dict[Action, tuple[str, str, str]] = {  # label, question, done
    "retry": ("Retry now", "goes now, whatever time it waits for", "go now"),
    "release": ("Release", "leaves its parked queue and goes round again", "are released"),
    "delete": ("Delete", "is thrown away; nobody is told, and it cannot be undone", "are deleted"),
}


class QueuePage:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._client = ui.context.client
        self._facade, self._who = view.facade, view.who
        self._filters = kept(FIELDS, view.query)
        self._mistakes = mistakes(FIELDS, view.query, ("message",))
        say_mistakes(self._mistakes)
        self._job: BulkJob | None = None
        self._gauges = GaugeStrip(GAUGES)
        self._growth = QueueGrowth(view)
        self._lanes = LiveTable(LANE_COLUMNS, "Lanes", LANES_EMPTY)
        self._lanes.classes("card table-card queue-lanes")
        self._build_messages(view)
        self._box, self._notes = DialogBox(), Notes()
        self._drawer = MessageDrawer(view, self._box, self._notes, self._opened)
        expected = (QueueUnavailable, Unbrowsable)
        self._refresh_figures = Latest(self._show_figures, expected)
        self._refresh_figures()
        view.live.each(self._refresh_figures.idly)
        view.live.each(self._show_job)
        message = view.query.get("message", "")
        if message.isdecimal() and len(message) < 19:
            self._drawer.open(int(message))

    def _build_messages(self, view: View) -> None:
        with ui.element("div").classes("toolbar"):
            self._bar = FilterBar(FIELDS, self._filters, self._filtered, "Filter messages")
            with ui.element("div").classes("toolbar-keys"):
                for action, (label, _, _) in ACTIONS.items():
                    button = drawing.text("button", f"{label}…", "small" + (" danger" if action == "delete" else ""))
                    button.props(f"type=button data-bulk={action}").on("click", lambda _, a=action: self._bulk(a))
                export = drawing.text("button", "↓ CSV", "small")
                export.props('type=button data-export=csv aria-label="Export as CSV"').on("click", self._export)
        self._progress = Progress()
        self._messages = MessageTable(view, self._chosen, lambda id: self._drawer.open(id), self._say)

    # -- figures and lanes ------------------------------------------------------------------------------------------

    async def _show_figures(self) -> None:
        figures = await self._facade.queue.figures()
        found, total = self._facade.lanes.largest(LOOKED)
        briefs = sorted(found, key=_largest)
        self._gauges.show("values", _gauges(figures, briefs))
        oldest = self._growth.oldest
        rows = [_lane_row(brief, oldest.get(brief.lane)) for brief in briefs[:LANES]]
        self._lanes.show(rows, pager=_of(len(rows), total, "lanes, those with the most first"))

    # -- messages ---------------------------------------------------------------------------------------------------

    def _selection(self) -> Selection:
        filters = self._filters
        domain = filters.get("domain", "").lower().rstrip(".")
        state: Any = filters.get("state", "")
        last: Any = filters.get("last", "")
        return Selection(
            queue=filters.get("queue", ""),
            state=state,
            lane=filters.get("lane", ""),
            domain=(domain,) if domain else (),
            containing=filters.get("containing", ""),
            ip=filters.get("ip", ""),
            envelope=filters.get("envelope", ""),
            tag=filters.get("tag", ""),
            older=int(filters.get("older", "0")),
            last=last,
        )

    def _chosen(self) -> tuple[Selection, bool]:
        return self._selection(), bool(self._filters)

    async def _export(self) -> None:
        self._notes.say("The messages are being listed…")
        try:
            await self._messages.export()
        except (QueueUnavailable, Unbrowsable) as error:
            self._notes.say(str(error), level="bad")

    def _filtered(self, filters: dict[str, str]) -> None:
        self._filters, self._mistakes = filters, []
        self._say()
        self._messages.restart()

    def _say(self, message: str = "") -> None:
        with self._client:
            ui.navigate.history.replace(
                address("/queue", {**self._filters, **self._messages.address, "message": message})
            )

    def _opened(self, id: int | None) -> None:
        self._say(str(id) if id is not None else "")
        self._messages.again()

    # -- in bulk ----------------------------------------------------------------------------------------------------

    async def _bulk(self, action: Action) -> None:
        try:
            await (self._change_ticked(action) if self._messages.ticked else self._change_all(action))
        except (QueueUnavailable, Unbrowsable, Busy, NotAllowed) as error:
            self._notes.say(str(error), level="bad")

    async def _change_ticked(self, action: Action) -> None:
        label, question, _ = ACTIONS[action]
        ids = self._messages.ticked
        title = f"{label} {many(len(ids))}?"
        if not await self._box.confirm(title, [f"Each of them {question}."], label, danger=action == "delete"):
            return
        changed = 0
        for id in ids:
            changed += await self._facade.queue.change(action, id, self._who)
        self._notes.say(f"{many(changed)} of {len(ids):,} {_done(action, changed)}.")
        self._messages.again()

    async def _change_all(self, action: Action) -> None:
        if self._mistakes:
            self._notes.say(f"Not done: {'; '.join(self._mistakes)}. Set the filters first.", level="bad")
            return
        selection = self._meant(action)
        self._messages.table.wait()
        count = await self._facade.bulk.count(selection)
        self._messages.table.show_again()
        if not count:
            self._notes.say(f"Nothing that passes these filters could be {_past(action)}.")
            return
        if await self._sure(action, count):
            self._job = self._facade.queue.begin(action, selection, self._who)

    async def _sure(self, action: Action, count: int) -> bool:
        """Ask; to delete everything, the number has to be typed."""
        label, question, _ = ACTIONS[action]
        at_most = " at most, the rest takes another time" if count >= MOST else ""
        which = "All that pass the filters" if self._filters else "All messages of the outbox: no filter is set"
        lines, title = [f"{which}{at_most}. Each of them {question}.", *_said(self._filters)], f"{label} {many(count)}?"
        if action == "delete" and not self._filters:
            return await self._box.confirm_count(title, lines, label, count)
        return await self._box.confirm(title, lines, label, danger=action == "delete")

    def _meant(self, action: Action) -> Selection:
        """Only what waits can be retried, and only what is parked released."""
        selection = self._selection()
        state: Any = {"retry": "waiting", "release": "parked"}.get(action, selection.state)
        return selection if selection.lane else msgspec.structs.replace(selection, state=state)

    def _show_job(self) -> None:
        job = self._job
        if job is None:
            return
        self._progress.show("job", _progress(job))
        if job.ended is not None:
            self._job = None
            done = f"{many(job.changed)} {_done(job.action, job.changed)}."
            self._notes.say(job.error or done, level="bad" if job.error else "good")
            self._progress.show("job", None)
            self._messages.again()


def _largest(brief: Brief) -> tuple[int, int, str]:
    """The most mail first, of as much the worst state."""
    return -(brief.in_memory + brief.parked + brief.retrying), WORST.index(brief.state), brief.lane


def _gauges(figures: QueueFigures, briefs: Sequence[Brief]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "ready": figures.ready,
        "waiting": figures.waiting,
        "parked": sum(figures.parked.values()),
        "unsettled": figures.unsettled,
        "other": sum(figures.other.values()),
        "next": None,
    }
    if figures.other:
        values["other_under"] = ", ".join(
            f"{shown(name, 60)} {count:,}" for name, count in sorted(figures.other.items())
        )
    retried = [brief for brief in briefs if brief.next_retry is not None]
    if retried:
        first = min(retried, key=lambda brief: brief.next_retry or 0.0)
        values["next"] = {"at": first.next_retry}
        values["next_under"] = f"{shown(provider(first.group), 80)}: {shown(first.says, 160)}"
    return values


def _lane_row(brief: Brief, oldest: float | None) -> dict[str, Any]:
    where = {"?": "looked up", "pause": "paused", "": "never connected"}.get(brief.ip, brief.ip)
    lane = {"lane": brief.lane} if brief.ip else {"domain": brief.group}
    return {
        "key": brief.lane,
        "lane": {
            "text": f"{where} → {shown(provider(brief.group), 255)}",
            "under": shown(brief.waits_for, 200),
            "href": address("/domains", lane) if brief.ip != "pause" else "/paused",
        },
        "state": brief.state,
        "in_memory": brief.in_memory,
        "parked": brief.parked,
        "retrying": brief.retrying,
        "due": brief.next_retry,
        "oldest": oldest,
        "why": shown(brief.says, 300),
    }


def _of(count: int, total: int, what: str) -> dict[str, Any]:
    return {"text": f"{count} of {total:,} {what}"} if total > count else {}


def _progress(job: BulkJob) -> dict[str, Any]:
    label = ACTIONS[job.action][0]
    if job.state == "counting":
        return {"text": f"{label}: counting, {job.total:,} so far", "share": 0}
    share = round(100 * job.looked / job.total) if job.total else 100
    return {"text": f"{label}: {job.looked:,} of {job.total:,}", "share": share}


def _said(filters: Mapping[str, str]) -> list[str]:
    labels = {field.name: field.label for field in FIELDS}
    return ["; ".join(f"{labels[name]}: {shown(value, 100)}" for name, value in filters.items())] if filters else []


def _past(action: Action) -> str:
    return {"retry": "retried: it does not wait", "release": "released: it is not parked", "delete": "deleted"}[action]


def _done(action: Action, count: int) -> str:
    words = ACTIONS[action][2]
    return words.replace("are ", "is ").replace("go ", "goes ") if count == 1 else words


PAGE = ConsolePage(
    path="/queue",
    title="Queue",
    section="Monitor",
    icon=drawing.STACK,
    key="q",
    build=QueuePage,
    purpose="What waits, why, and how long it will; each message, and what can be done with many at once.",
)
