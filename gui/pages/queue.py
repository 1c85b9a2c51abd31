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
from gui.components.message_drawer import MessageDrawer
from gui.components.notes import Notes
from gui.components.progress import Progress
from gui.view import Page, View
from pipeline.bulk import MOST, Bulk, Busy, Job, Selection, state_of
from pipeline.explain import Brief
from pipeline.facade import WORST, Unbrowsable
from pipeline.queues.browse import Listed, Place
from pipeline.queues.contract import Figures, QueueUnavailable
from pipeline.queues.edit import Action

SIZE = 50  # messages a page
STEP, STEPS = 500, 20  # messages looked at once, and how often, for a page of a filter that few pass
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
    Column("parked", "Parked", "number", "Messages of the lane outside memory.", width="66px"),
    Column("oldest", "Oldest", "time", "When the oldest parked message came into the queue.", width="82px"),
)
RETRY_COLUMNS = (
    Column(
        "from", "Retried", "link", "From the MTA IP of the last attempt to the destination.", width="40%", main=True
    ),
    Column("count", "Waiting", "number", f"Of the {SOONEST:,} messages that go soonest.", width="76px"),
    Column("due", "Next", "in", "When the first of them goes.", width="78px"),
    Column("last", "Why", "answer", "The last answer to the first of them."),
)
COLUMNS = (
    Column("recipient", "Recipient", "open", width="26%", main=True),
    Column("envelope", "Sender", "text", width="17%"),
    Column("state", "State", "state", width="96px"),
    Column("queued", "Queued", "time", "When it came into the queue.", width="96px"),
    Column("due", "Goes", "in", "When it is tried again.", width="84px"),
    Column("attempts", "Attempts", "number", "Attempts behind it.", width="84px"),
    Column("size", "Size", "size", "Of its JSON.", width="84px"),
    Column("last", "Last answer", "answer"),
)
EMPTY = Empty(
    "Nothing waits", "Messages stand here while they wait, are parked, or are retried. Send one with:", "mailrace send"
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


class Queue:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._client = ui.context.client
        self._facade, self._who = view.facade, view.who
        self._filters = kept(FIELDS, view.query)
        self._places: list[Place] = [(0, 0)]  # where each page that was shown begins
        self._after: Place | None = None
        self._ticked: list[str] = []
        self._looked, self._oldest, self._waiting = 0.0, dict[str, float](), list[Listed]()
        self._job: Job | None = None
        self._gauges = GaugeStrip(GAUGES)
        with ui.element("div").classes("halves"):
            self._lanes = LiveTable(LANE_COLUMNS, "Lanes", LANES_EMPTY)
            self._retries = LiveTable(RETRY_COLUMNS, "Retries", RETRIES_EMPTY)
            for table in (self._lanes, self._retries):
                table.classes("card table-card")
        self._build_messages()
        self._box, self._notes = DialogBox(), Notes()
        self._drawer = MessageDrawer(view, self._box, self._notes, self._opened)
        expected = (QueueUnavailable, Unbrowsable)
        self._refresh_figures = Latest(self._show_figures, expected)
        self._refresh = Latest(self._show, expected, self._failed)
        self._ticks = 0
        self._refresh_figures()
        self._refresh()
        view.live.each(self._refresh_figures.idly)
        view.live.each(self._tick)
        view.live.each(self._show_job)
        message = view.query.get("message", "")
        if message.isdecimal() and len(message) < 19:
            self._drawer.open(int(message))

    def _build_messages(self) -> None:
        with ui.element("div").classes("toolbar"):
            self._bar = FilterBar(FIELDS, self._filters, self._filtered, "Filter messages")
            with ui.element("div").classes("toolbar-keys"):
                for action, (label, _, _) in ACTIONS.items():
                    button = drawing.text("button", f"{label}…", "small" + (" danger" if action == "delete" else ""))
                    button.props(f"type=button data-bulk={action}").on("click", lambda _, a=action: self._bulk(a))
        self._progress = Progress()
        self._table = LiveTable(COLUMNS, "Messages", EMPTY, selectable=True, opens=True)
        self._table.classes("card table-card")
        self._table.on_page(self._paged)
        self._table.on_open(lambda key: self._drawer.open(int(key)))
        self._table.on_select(self._select)

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

    async def _show(self) -> None:
        page, self._after = await self._collect(self._selection(), self._places[-1])
        number = len(self._places)
        text = f"Page {number}: {len(page)} messages" if number > 1 or self._after else f"{len(page)} messages"
        note = "More may follow: a page looks at a part of the queue." if self._after and len(page) < SIZE else ""
        nothing = Empty("No message passes these filters", "Clear them to see all that waits.")
        self._table.show(
            [_row(message) for message in page],
            pager={"text": text, "note": note, "back": number > 1, "on": self._after is not None},
            empty=msgspec.to_builtins(nothing if self._filters else EMPTY),
        )

    async def _collect(self, selection: Selection, after: Place | None) -> tuple[list[Listed], Place | None]:
        """A page, whole where there are enough messages near enough, and where the next one begins."""
        found: list[Listed] = []
        for _ in range(STEPS if self._filters else 1):
            page, after = await self._facade.bulk.page(selection, after or (0, 0), STEP if self._filters else SIZE)
            found += page
            if len(found) > SIZE:
                last = found[SIZE - 1]
                return found[:SIZE], (last.due, last.id)
            if after is None:
                break
        return found, after

    def _tick(self) -> None:
        """What takes a search is looked for again now and then only."""
        self._ticks += 1
        if not self._filters or self._ticks % round(LOOK) == 0:
            self._refresh.idly()

    def _failed(self, why: str) -> None:
        self._table.show([], empty={"title": "Messages cannot be listed", "text": why}, pager={})

    def _filtered(self, filters: dict[str, str]) -> None:
        self._filters, self._places = filters, [(0, 0)]
        self._say()
        self._refresh()

    def _paged(self, step: int) -> None:
        if step > 0 and self._after is not None:
            self._places.append(self._after)
        elif step < 0 and len(self._places) > 1:
            self._places.pop()
        self._refresh()

    def _say(self, message: str = "") -> None:
        with self._client:
            ui.navigate.history.replace(address("/queue", {**self._filters, "message": message}))

    def _opened(self, id: int | None) -> None:
        self._say(str(id) if id is not None else "")
        self._refresh()

    def _select(self, keys: list[str]) -> None:
        self._ticked = keys

    # -- in bulk ----------------------------------------------------------------------------------------------------

    async def _bulk(self, action: Action) -> None:
        try:
            await (self._change_ticked(action) if self._ticked else self._change_all(action))
        except (QueueUnavailable, Unbrowsable, Busy) as error:
            self._notes.say(str(error), level="bad")

    async def _change_ticked(self, action: Action) -> None:
        label, question, done = ACTIONS[action]
        ids = [int(key) for key in self._ticked]
        title = f"{label} {_messages(len(ids))}?"
        if not await self._box.confirm(title, [f"Each of them {question}."], label, danger=action == "delete"):
            return
        changed = 0
        for id in ids:
            changed += await self._facade.change(action, id, self._who)
        self._notes.say(f"{_messages(changed)} of {len(ids):,} {done}.")
        self._refresh()

    async def _change_all(self, action: Action) -> None:
        label, question, _ = ACTIONS[action]
        selection = self._meant(action)
        self._table.wait()
        count = await self._facade.bulk.count(selection)
        self._table.show_again()
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
            done = f"{_messages(job.changed)} {ACTIONS[job.action][2]}."
            self._notes.say(job.error or done, level="bad" if job.error else "good")
            self._progress.show("job", None)
            self._refresh()


def _gauges(figures: Figures, first: Listed | None) -> dict[str, Any]:
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
            f"{shown(first.recipient, 80)}: {_answer(first.last)['text'][:160]}" if first.last else ""
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
        "last": _answer(messages[0].last) if messages[0].last else None,
    }


def _of(count: int, total: int, what: str) -> dict[str, Any]:
    return {"text": f"{count} of {total:,} {what}"} if total > count else {}


def _row(message: Listed) -> dict[str, Any]:
    return {
        "key": str(message.id),
        "recipient": shown(message.recipient, 320) or "(unreadable)",
        "envelope": shown(message.envelope, 320) or "<>",
        "state": state_of(message),
        "queued": message.queued,
        "due": message.due or None,
        "attempts": message.attempts,
        "size": message.size,
        "last": _answer(message.last) if message.last else None,
    }


def _answer(last: Mapping[str, Any]) -> dict[str, Any]:
    text = " ".join(str(last[name]) for name in ("status", "description") if last.get(name))
    return {"code": shown(last.get("code") or last.get("result") or "", 20), "text": shown(text)}


def _progress(job: Job) -> dict[str, Any]:
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


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


PAGE = Page(path="/queue", title="Queue", section="Monitor", icon=drawing.STACK, key="q", build=Queue)
