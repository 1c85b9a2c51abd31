"""Log files: delivery attempts and received mail, newest first, with what they came to over time."""

from __future__ import annotations

import asyncio
import collections
import datetime
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from nicegui import background_tasks, ui

from gui.components import drawing
from gui.components.detail_drawer import DetailDrawer, steps
from gui.components.filter_bar import Field, FilterBar, address, kept, mistakes, say_mistakes
from gui.components.latest import Latest
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.mail.log_records import MEANING, all_of, aware, duration, now, points, row, step
from gui.components.notes import Notes
from gui.components.parts import Chart
from gui.components.view import ConsolePage, View
from pipeline.views.bulk import state_of
from pipeline.views.events import RESULTS, STATES
from pipeline.views.logs import Filters, Follower, LogQueryFailed, LogRecord, Position, UnknownFilter
from pipeline.views.logs import LogPage as Records
from pipeline.views.queues import Listed, QueueUnavailable
from settings.rules.decisions import CLASSES
from settings.store import NotAllowed

SIZE = 100  # records a page
SLOTS = 60  # of the chart
COUNT = 10  # ticks between counts, while following
MOST_HELD = 1000  # records that wait while somebody looks at a row; the oldest of more are found on the next page
KEPT = 600.0  # seconds that an export is there to be fetched
RANGES = {"15m": 900, "1h": 3600, "24h": 86_400, "7d": 604_800}
PATIENCE = 3.0  # seconds that a story waits for what the queue has of it
KINDS = ("csv", "json", "parquet")
FAILURES = (LogQueryFailed, UnknownFilter, msgspec.ValidationError, OSError)
FIELDS = (
    Field("containing", "Recipient or sender", "search", "Part of an address, or message-id"),
    Field("log", "Log", "choice", options=(("", "Attempts"), ("received", "Received mail"))),
    Field(
        "range",
        "Time",
        "choice",
        options=(
            ("15m", "Last 15 min"),
            ("", "Last hour"),
            ("24h", "Last 24 h"),
            ("7d", "Last 7 days"),
            ("all", "All"),
        ),
    ),
    Field("result", "Result", "choice", options=(("", "Any"), *((name, name) for name in RESULTS))),
    Field("domain", "Domain"),
    Field("ip", "MTA IP"),
    Field("code", "Code", placeholder="550"),
    Field("text", "Answer has"),
    Field("state", "State", "choice", options=(("", "Any"), *((name, name) for name in STATES)), rare=True),
    Field("bounce_class", "Class", "choice", options=(("", "Any"), *((name, name) for name in CLASSES)), rare=True),
    Field("rule", "Rule", placeholder="errors/3", rare=True),
    Field("recipient", "Recipient", placeholder="Whole address", rare=True),
    Field("envelope", "Sender", placeholder="Whole address", rare=True),
    Field("tag", "Tag", rare=True),
    Field("message_id", "Message-id", rare=True),
    Field("since", "From", "time", rare=True),
    Field("until", "To", "time", rare=True),
)
OWN = ("log", "range")  # of the view, not of the query
COLUMNS: dict[str, tuple[Column, ...]] = {
    "": (
        Column("time", "Time", "clock", width="92px"),
        Column("recipient", "Recipient", "open", "Open it for the message's whole story.", width="25%", main=True),
        Column("ip", "From", "text", "MTA IP", width="10%"),
        Column("result", "Result", "state", "What it came to, and how far it got.", width="106px"),
        Column("state", "State", "text", width="9%"),
        Column("attempt", "Attempt", "number", "The number of this attempt, from 1.", width="80px"),
        Column("wire", "Wire", "amount", "Seconds on the wire.", width="72px"),
        Column("answer", "Answer", "answer"),
    ),
    "received": (
        Column("time", "Time", "clock", width="92px"),
        Column("recipient", "Recipient", "open", "Open it for the message's whole story.", width="28%", main=True),
        Column("envelope", "Sender", "text", width="24%"),
        Column("source", "Came by", "text", width="11%"),
        Column("remote_ip", "Client", "text", width="13%"),
        Column("user", "User", "text"),
        Column("size", "Size", "size", width="90px"),
    ),
}
EMPTY = Empty(
    "Nothing in this time", "Attempts stand here as they end. Look further back, or send a message:", "mailrace send"
)


class Logs:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._client = ui.context.client
        self._facade, self._view = view.facade, view
        self._values = kept(FIELDS, view.query)
        say_mistakes(mistakes(FIELDS, view.query))
        self._ids = itertools.count()
        self._rows: collections.deque[dict[str, Any]] = collections.deque(maxlen=SIZE)
        self._records: dict[str, LogRecord] = {}
        self._places: list[Position | None] = [None]
        self._after: Position | None = None
        self._follower: Follower | None = None
        self._ticks = 0
        self._pointed = self._open = self._paused = False  # rows must not move under a pointer, nor while one is read
        self._held: list[LogRecord] = []  # what has come meanwhile
        self._build()
        self._notes = Notes()
        self._told: Listed | None = None  # the queued message of the story that is shown
        self._drawer = DetailDrawer(self._shut, lambda action: background_tasks.create(self._act(action)))
        self._refresh = Latest(self._show, FAILURES, self._failed)
        self._count = Latest(self._show_counts, FAILURES, lambda why: None)
        self._poll = Latest(self._follow, FAILURES, self._failed)
        self._start()
        view.live.each(self._tick)
        if story := self._values.get("message_id"):
            background_tasks.create(self._tell(story))

    def _build(self) -> None:
        self._bar = FilterBar(FIELDS, self._values, self._filtered, "Filter the log")
        with ui.element("section").classes("card log-chart"):
            with ui.element("div").classes("card-head"):
                drawing.text("h2", "Attempts by result")
                self._unit = ui.label("").classes("of")
                with ui.element("div").classes("toolbar-keys"):
                    self._live = drawing.text("button", "Follow", "small").props(
                        "type=button data-follow aria-pressed=true"
                    )
                    self._live.on("click", self._toggle)
                    for kind in KINDS:
                        button = drawing.text(
                            "button", f"↓ {kind.upper() if kind != 'parquet' else 'Parquet'}", "small"
                        )
                        button.props(f'type=button data-export={kind} aria-label="Export as {kind}"')
                        button.on("click", lambda _, k=kind: self._export(k))
            self._chart = Chart()
            self._chart._props["legend"] = True
            self._chart._props["lines"] = [{"name": name, "label": label} for name, label in MEANING.items()]
            self._chart._props["initial"] = {"first": 0, "step": 60, "values": {}}
        self._card = ui.element("div")
        self._following = "until" not in self._values
        self._table = self._new_table()

    def _new_table(self) -> LiveTable:
        self._card.clear()
        with self._card:
            table = LiveTable(COLUMNS[self._values.get("log", "")], "Log records", EMPTY, opens=True)
        table.classes("card table-card")
        table.on_page(self._paged)
        table.on_open(self._opened)
        table.on_hold(self._hold)
        return table

    # -- what is asked ------------------------------------------------------------------------------------------------

    def _received(self) -> bool:
        return self._values.get("log") == "received"

    def _filters(self) -> Filters:
        """Of the address. Raises `msgspec.ValidationError`."""
        said: dict[str, Any] = {name: value for name, value in self._values.items() if name not in OWN}
        found = msgspec.convert(said, Filters, strict=False)
        times = {name: aware(getattr(found, name)) for name in ("since", "until")}
        span = RANGES.get(self._values.get("range", "1h"))
        if times["since"] is None and span and "message_id" not in said:
            times["since"] = now() - datetime.timedelta(seconds=span)
        return msgspec.structs.replace(found, **times)

    def _say(self) -> None:
        with self._client:
            ui.navigate.history.replace(address("/logs", self._values))

    def _filtered(self, values: dict[str, str]) -> None:
        other = values.get("log") != self._values.get("log")
        self._values, self._places = values, [None]
        if other:
            self._table = self._new_table()
        self._following = "until" not in values
        self._say()
        self._start()

    def _start(self) -> None:
        self._stop_following()
        self._live.props(f"aria-pressed={'true' if self._following else 'false'}")
        self._refresh()
        self._count()

    def _stop_following(self) -> None:
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def _toggle(self) -> None:
        self._following = not self._following
        self._places = [None]
        self._start()

    def _paged(self, step: int) -> None:
        if step > 0 and self._after is not None:
            self._places.append(self._after)
        elif step < 0 and len(self._places) > 1:
            self._places.pop()
        self._following = self._following and len(self._places) == 1
        self._start()

    # -- what is shown ------------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        logs, filters, after = self._facade.logs, self._filters(), self._places[-1]
        follower = logs.follow(filters, self._received()) if self._following and after is None else None
        ask = logs.received if self._received() else logs.attempts
        try:
            page: Records = await asyncio.to_thread(ask, filters, SIZE, after)
        except BaseException:
            if follower is not None:
                follower.close()
            raise
        self._stop_following()
        self._follower, self._after = follower, page.after
        self._rows.clear()
        self._records.clear()
        self._held.clear()
        for record in reversed(page.records):
            self._put(record)
        self._draw(page.warnings)

    def _put(self, record: LogRecord) -> None:
        key = str(next(self._ids))
        if len(self._rows) == SIZE:
            self._records.pop(self._rows[-1]["key"], None)
        self._records[key] = record
        self._rows.appendleft(row(key, record))

    def _draw(self, warnings: Sequence[str] = ()) -> None:
        number = len(self._places)
        text = f"Page {number}" if number > 1 or self._after else f"{len(self._rows):,} records"
        pager = {"text": text, "back": number > 1, "on": self._after is not None}
        pager["note"] = "; ".join(shown(line, 200) for line in warnings) or (
            "newest first, live" * (number == 1 and self._following)
        )
        self._table.show(list(self._rows), pager=pager, empty=msgspec.to_builtins(EMPTY), hint="")

    def _failed(self, why: str) -> None:
        self._table.show([], empty={"title": "This cannot be answered", "text": shown(why)}, pager={})

    def _tick(self) -> None:
        if self._follower is None:
            return
        self._poll.idly()
        self._ticks += 1
        if self._ticks % COUNT == 0:
            self._count.idly()

    async def _follow(self) -> None:
        follower = self._follower
        if follower is None:
            return
        new = await asyncio.to_thread(follower.poll)
        if follower is not self._follower:
            return
        self._held = [*self._held, *new][-MOST_HELD:]
        if self._pointed or self._open:
            self._paused = True
            self._table.show(list(self._rows), hint=f"Paused while you look: {_new(len(self._held))}")
        elif self._held or self._paused:
            self._let_go()

    def _let_go(self) -> None:
        held, self._held, self._paused = self._held, [], False
        for record in held[-SIZE:]:
            self._put(record)
        self._draw()

    def _hold(self, on: bool) -> None:
        self._pointed = on
        self._poll.idly()

    def _shut(self) -> None:
        """The drawer was closed."""
        self._open = False
        self._say()
        self._poll.idly()

    async def _show_counts(self) -> None:
        filters = self._filters()
        every = self._step(filters)
        counts = await asyncio.to_thread(self._facade.logs.counts, filters, every)
        self._unit.set_text(f"in each {duration(every)}")
        self._chart.run_method("load", points(counts, every, filters))

    def _step(self, filters: Filters) -> int:
        """Seconds a slot of the chart."""
        if filters.since is None:
            return 3600
        span = ((filters.until or now()) - filters.since).total_seconds()
        return max(1, round(span / SLOTS))

    # -- one message -------------------------------------------------------------------------------------

    def _opened(self, key: str) -> None:
        record = self._records.get(key)
        if record is None:
            return
        if record.message_id:
            background_tasks.create(self._tell(record.message_id))
        else:
            self._open = True
            self._drawer.show(record.recipient or "", [all_of(record)])

    async def _tell(self, message_id: str) -> None:
        try:
            story = await asyncio.to_thread(self._facade.logs.story, message_id)
        except FAILURES as error:
            self._notes.say(shown(error), level="bad")
            return
        if not story.records:
            self._notes.say("The log knows nothing of this message any more.", level="bad")
            return
        self._open, last = True, story.records[-1]
        sections = [steps("Its story, oldest first", [step(record) for record in story.records]), all_of(last)]
        self._told = await self._queued(message_id, last.recipient or "")
        actions, links = _ways(self._told)
        under = f"{message_id} · from {last.envelope or '<>'}"
        self._drawer.show(last.recipient or "", sections, under=under, actions=actions, links=links)

    async def _queued(self, message_id: str, recipient: str) -> Listed | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._facade.trace.queued(message_id, recipient)
        except (QueueUnavailable, TimeoutError):
            return None

    async def _act(self, action: str) -> None:
        """What the story of a message that is still queued offers."""
        told, view = self._told, self._view
        if told is None or action not in ("retry", "release"):
            return
        try:
            done = await self._facade.queue.change("retry" if action == "retry" else "release", told.id, view.who)
        except (QueueUnavailable, NotAllowed) as error:
            self._notes.say(shown(error), level="bad")
            return
        self._notes.say("It goes now." if done else "It has moved on meanwhile.", level="good" if done else "bad")

    # -- export --------------------------------------------------------------------------------------------

    async def _export(self, kind: Literal["csv", "json", "parquet"]) -> None:
        name = f"{'received' if self._received() else 'attempts'}.{'jsonl' if kind == 'json' else kind}"
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="mailrace-export-"))
        asyncio.get_running_loop().call_later(KEPT, shutil.rmtree, folder, True)
        self._notes.say("The export is being written…")
        try:
            await asyncio.to_thread(self._facade.logs.export, folder / name, kind, self._filters(), self._received())
        except FAILURES as error:
            self._notes.say(shown(error), level="bad")
            return
        with self._client:
            ui.download.file(folder / name, name)


def _ways(queued: Listed | None) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Buttons and links for a message that is still in a queue."""
    if queued is None:
        return [], []
    actions = {"waiting": [("retry", "Retry now")], "parked": [("release", "Release")]}.get(state_of(queued), [])
    where = "In the queue" if state_of(queued) != "ready" or queued.attempts == 0 else f"In {shown(queued.queue, 60)}"
    return actions, [(address("/queue", {"queue": queued.queue, "message": str(queued.id)}), where)]


def _new(count: int) -> str:
    return f"{MOST_HELD:,} and more new" if count >= MOST_HELD else f"{count:,} new"


PAGE = ConsolePage(
    path="/logs",
    title="Log files",
    section="Monitor",
    icon=drawing.LINES,
    key="l",
    build=Logs,
    purpose="Every delivery attempt and every message that came in, newest first; the whole story of each message.",
)
