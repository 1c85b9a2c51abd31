"""Queue: what waits, is parked and is retried, by lane and message by message, and what can be done with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from nicegui import ui

from gui.components import drawing
from gui.components.dialog_box import DialogBox
from gui.components.filter_bar import Field, FilterBar, address, kept
from gui.components.gauge_strip import GaugeStrip
from gui.components.latest import Latest
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.mail.message_drawer import MessageDrawer
from gui.components.mail.message_table import MessageTable, last_answer
from gui.components.notes import Notes
from gui.components.progress import Progress
from gui.components.view import ConsolePage, View
from pipeline.views.bulk import MOST, Bulk, BulkJob, Busy, Selection
from pipeline.views.explain import Brief
from pipeline.views.facade import WORST
from pipeline.views.queues import Action, Listed, QueueFigures, QueueUnavailable, Unbrowsable

LANES = 6  # rows in each table above
SOONEST = 1000  # waiting messages that are looked at
LOOK = 5.0  # seconds between looks into the queue for these tables
STATES = (("", "All"), ("ready", "Ready"), ("waiting", "Waiting for a retry"), ("parked", "Parked"))
FIELDS = (
    Field("containing", "Recipient or sender", "search", "Part of an address"),
    Field("state", "State", "choice", options=STATES),
    Field("domain", "Domain", placeholder="example.com"),
    Field("lane", "Parked in lane", placeholder="MTA IP/destination"),
    Field("queue", "Queue", placeholder="outbox"),
)
GAUGES = {
    "ready": ("Ready", "Messages that can be taken up now."),
    "waiting": ("Waiting", "Messages that wait for their retry time."),
    "parked": ("Parked", "Messages outside memory, because their lane is full, slow or paused."),
    "unsettled": ("In memory", "Messages that are lent, and on their way."),
    "next": ("Next retry", "When the next of the waiting messages goes, and what was said to it the last time."),
    "other": ("Other queues", "Messages in other queues: results, local mail. Name one in the filter to see them."),
}
LANE_COLUMNS = (
    Column("lane", "Lane", "link", "MTA IP and destination, and what its mail waits for.", main=True),
    Column("state", "State", "state", width="98px"),
    Column("in_memory", "Memory", "number", "Deliveries of the lane in memory.", width="72px"),
    Column("parked", "Parked", "number", "Messages of the lane outside memory.", width="70px"),
    Column("oldest", "Oldest", "time", "When the oldest parked message came into the queue.", width="94px"),
)
RETRY_COLUMNS = (
    Column(
        "from", "Retried", "link", "From the MTA IP of the last attempt to the destination.", width="40%", main=True
    ),
    Column("count", "Waiting", "number", f"Of the {SOONEST:,} messages that go soonest.", width="76px"),
    Column("due", "Next", "in", "When the first of them goes.", width="78px"),
    Column("last", "Why", "answer", "The last answer to the first of them."),
)
RETRIES_EMPTY = Empty("Nothing is retried", "A destination appears here when it has deferred mail, which then waits.")
LANES_EMPTY = Empty(
    "No lane holds mail", "A lane appears while mail of one MTA IP to one destination is in memory or parked."
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
        self._looked, self._oldest, self._waiting = 0.0, dict[str, float](), list[Listed]()
        self._job: BulkJob | None = None
        self._gauges = GaugeStrip(GAUGES)
        with ui.element("div").classes("halves"):
            self._lanes = LiveTable(LANE_COLUMNS, "Lanes", LANES_EMPTY)
            self._retries = LiveTable(RETRY_COLUMNS, "Retries", RETRIES_EMPTY)
            for table in (self._lanes, self._retries):
                table.classes("card table-card")
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
        figures = await self._facade.queues()
        briefs = sorted(self._facade.lanes(), key=lambda b: (WORST.index(b.state), -b.parked, -b.in_memory, b.lane))
        await self._look(briefs[:LANES])
        self._gauges.show("values", _gauges(figures, self._waiting[0] if self._waiting else None))
        rows = [_lane_row(brief, self._oldest.get(brief.lane)) for brief in briefs[:LANES]]
        self._lanes.show(rows, pager=_of(len(rows), len(briefs), "lanes, the worst first"))
        retries = _retries(self._waiting)
        self._retries.show(
            retries[:LANES], pager=_of(min(LANES, len(retries)), len(retries), "retried, the most first")
        )

    async def _look(self, briefs: list[Brief]) -> None:
        """Look into the queue, now and then only: for the oldest of each lane, and for what goes next."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(Unbrowsable):
            await self._look_into(self._facade.bulk, briefs)

    async def _look_into(self, bulk: Bulk, briefs: list[Brief]) -> None:
        self._oldest = {}
        for brief in briefs:
            if brief.parked:
                page, _ = await bulk.page(Selection(lane=brief.lane), (0, 0), 1)
                self._oldest.update((brief.lane, message.queued) for message in page)
        self._waiting, _ = await bulk.page(Selection(state="waiting"), (0, 0), SOONEST)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _selection(self) -> Selection:
        filters = self._filters
        domain = filters.get("domain", "").lower().rstrip(".")
        state: Any = filters.get("state", "")
        return Selection(
            queue=filters.get("queue", ""),
            state=state,
            lane=filters.get("lane", ""),
            domain=(domain,) if domain else (),
            containing=filters.get("containing", ""),
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
        self._filters = filters
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
        except (QueueUnavailable, Unbrowsable, Busy) as error:
            self._notes.say(str(error), level="bad")

    async def _change_ticked(self, action: Action) -> None:
        label, question, _ = ACTIONS[action]
        ids = self._messages.ticked
        title = f"{label} {_messages(len(ids))}?"
        if not await self._box.confirm(title, [f"Each of them {question}."], label, danger=action == "delete"):
            return
        changed = 0
        for id in ids:
            changed += await self._facade.change(action, id, self._who)
        self._notes.say(f"{_messages(changed)} of {len(ids):,} {_done(action, changed)}.")
        self._messages.again()

    async def _change_all(self, action: Action) -> None:
        label, question, _ = ACTIONS[action]
        selection = self._meant(action)
        self._messages.table.wait()
        count = await self._facade.bulk.count(selection)
        self._messages.table.show_again()
        if not count:
            self._notes.say(f"Nothing that passes these filters could be {_past(action)}.")
            return
        at_most = " at most, the rest takes another time" if count >= MOST else ""
        lines = [f"All that pass the filters{at_most}. Each of them {question}.", *_said(self._filters)]
        if await self._box.confirm(f"{label} {_messages(count)}?", lines, label, danger=action == "delete"):
            self._job = self._facade.begin(action, selection, self._who)

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
            done = f"{_messages(job.changed)} {_done(job.action, job.changed)}."
            self._notes.say(job.error or done, level="bad" if job.error else "good")
            self._progress.show("job", None)
            self._messages.again()


def _gauges(figures: QueueFigures, first: Listed | None) -> dict[str, Any]:
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
    if first is not None:
        values["next"] = {"at": first.due}
        values["next_under"] = (
            f"{shown(first.recipient, 80)}: {last_answer(first.last)['text'][:160]}" if first.last else ""
        )
    return values


def _lane_row(brief: Brief, oldest: float | None) -> dict[str, Any]:
    where = "looked up" if brief.ip == "?" else "paused" if brief.ip == "pause" else brief.ip
    return {
        "key": brief.lane,
        "lane": {
            "text": f"{where} → {shown(brief.group, 255)}",
            "under": shown(brief.waits_for, 200),
            "href": "/domains?" + urlencode({"lane": brief.lane}) if brief.ip != "pause" else "/paused",
        },
        "state": brief.state,
        "in_memory": brief.in_memory,
        "parked": brief.parked,
        "oldest": oldest,
    }


def _retries(waiting: Sequence[Listed]) -> list[dict[str, Any]]:
    """What waits, by where it was sent from and to; those with the most messages first."""
    groups: dict[tuple[str, str], list[Listed]] = {}
    for message in waiting:
        ip, domain = str((message.last or {}).get("from") or ""), message.recipient.rpartition("@")[2].lower()
        groups.setdefault((ip, domain), []).append(message)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [_retry(ip, domain, messages) for (ip, domain), messages in ordered]


def _retry(ip: str, domain: str, messages: Sequence[Listed]) -> dict[str, Any]:
    link = address("/queue", {"state": "waiting", "domain": domain})
    return {
        "key": f"{ip}/{domain}",
        "from": {"text": f"{shown(ip, 60)} → {shown(domain, 255)}" if ip else shown(domain, 255), "href": link},
        "count": len(messages),
        "due": messages[0].due,
        "last": last_answer(messages[0].last) if messages[0].last else None,
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


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


PAGE = ConsolePage(path="/queue", title="Queue", section="Monitor", icon=drawing.STACK, key="q", build=QueuePage)
