"""The messages of a queue: filtered, in any order, paged, ticked, exported.

Owner of: which page of which messages is shown. In the queue's own order (by time, or by age) a page costs its own
rows. Any other order takes a look at all that pass, at most SORTED of them, once in LOOK seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from nicegui import ui

from gui.components.latest import Latest
from gui.components.live_table import Column, Empty, LiveTable, csv_of, pager, shown
from gui.components.view import View
from pipeline.views.bulk import Selection, state_of
from pipeline.views.queues import Listed, Place, QueueUnavailable, Unbrowsable
from pipeline.views.state.standing import many

SIZE = 50  # messages a page
STEP, STEPS = 500, 20  # messages looked at once, and how often, for a page of a filter that few pass
SORTED = 10_000  # messages that are put in another order
EXPORTED = 100_000
LOOK = 5.0  # seconds between looks that take a search
COLUMNS = (
    Column("recipient", "Recipient", "open", sortable=True, width="25%", main=True),
    Column("envelope", "Sender", "text", sortable=True, width="17%"),
    Column("state", "State", "state", sortable=True, width="96px"),
    Column("queued", "Queued", "time", "When it came into the queue.", True, "84px"),
    Column("due", "Goes", "in", "When it is tried again.", True, "70px"),
    Column("attempts", "Attempts", "number", "Attempts behind it.", True, "88px"),
    Column("size", "Size", "size", "Of its JSON.", True, "70px"),
    Column("last", "Last answer", "answer"),
)
WORDS = {"waiting": "retrying"}  # a state of the queue, as every view says it
EMPTY = Empty(
    "Nothing waits", "Messages stand here while they wait, are parked, or are retried. Send one with:", "mailrace send"
)
NOTHING = Empty("No message passes these filters", "Clear them to see all that waits.")
FILE = (
    Column("id", "Id"), Column("recipient", "Recipient"), Column("envelope", "Sender"), Column("queue", "Queue"),
    Column("lane", "Lane"), Column("state", "State"), Column("queued", "Queued"), Column("due", "Goes"),
    Column("attempts", "Attempts"), Column("size", "Size"), Column("last", "Last answer"),
)  # fmt: skip


class MessageTable:
    """Lists messages.

    Args:
        selection: which, and whether that is fewer than all.
        opened: told the id of the row that was opened.
        said: told that the address has to say something else.
    """

    def __init__(
        self,
        view: View,
        selection: Callable[[], tuple[Selection, bool]],
        opened: Callable[[int], object],
        said: Callable[[], object],
    ) -> None:
        self._facade, self._selection, self._said = view.facade, selection, said
        self._client = ui.context.client
        self.sort, self.descending = _order(view.query.get("sort", ""))
        self.ticked: list[int] = []
        self._places: list[Place] = [(0, 0)]  # where each page that was shown begins
        self._after: Place | None = None
        self._page = 0  # of what is sorted
        self._ticks = 0
        self.table = LiveTable(COLUMNS, "Messages", EMPTY, selectable=True, opens=True)
        self.table.classes("card table-card")
        self.table.on_sort(self._sorted)
        self.table.on_page(self._paged)
        self.table.on_open(lambda key: opened(int(key)))
        self.table.on_select(self._select)
        self.again = Latest(self._show, (QueueUnavailable, Unbrowsable), self._failed)
        self.again()
        view.live.each(self._tick)

    def restart(self) -> None:
        """Other filters: begin with the first page."""
        self._places, self._page = [(0, 0)], 0
        self.again()

    @property
    def address(self) -> dict[str, str]:
        """What the address says of it."""
        return {"sort": ("-" if self.descending else "") + self.sort}

    async def export(self) -> None:
        """All messages that pass, in their order, as CSV. Raises `QueueUnavailable`, `Unbrowsable`."""
        selection, _ = self._selection()
        found, _ = await self._first(selection, EXPORTED)
        rows = [_line(message) for message in self._in_order(found)]
        with self._client:
            ui.download.content(csv_of(FILE, rows), "queue.csv", "text/csv")

    # -- which, and in which order ------------------------------------------------------------------------------------

    async def _show(self) -> None:
        selection, narrow = self._selection()
        empty = msgspec.to_builtins(NOTHING if narrow else EMPTY)
        rows, state = await (self._sorted_page(selection) if self.sort else self._next_page(selection, narrow))
        self.table.show(
            [_row(message) for message in rows], pager=state, empty=empty, sort=self.sort, descending=self.descending
        )

    async def _next_page(self, selection: Selection, narrow: bool) -> tuple[list[Listed], dict[str, Any]]:
        page, self._after = await self._collect(selection, narrow, self._places[-1])
        number = len(self._places)
        text = f"Page {number}: {many(len(page))}" if number > 1 or self._after else many(len(page))
        note = "More may follow: a page looks at a part of the queue." if self._after and len(page) < SIZE else ""
        return page, {"text": text, "note": note, "back": number > 1, "on": self._after is not None}

    async def _sorted_page(self, selection: Selection) -> tuple[list[Listed], dict[str, Any]]:
        found, more = await self._first(selection, SORTED)
        self._page = min(self._page, max(0, (len(found) - 1) // SIZE))
        page = self._in_order(found)[self._page * SIZE : (self._page + 1) * SIZE]
        note = f"of the first {SORTED:,} that pass: filter, to see others" if more else ""
        return page, {**pager(self._page * SIZE, len(page), len(found)), "note": note}

    def _in_order(self, messages: list[Listed]) -> list[Listed]:
        if not self.sort:
            return messages
        return sorted(messages, key=lambda message: _key(self.sort, message), reverse=self.descending)

    async def _first(self, selection: Selection, most: int) -> tuple[list[Listed], bool]:
        """The first `most` that pass, and whether there are more."""
        bulk, after, found = self._facade.bulk, (0.0, 0), list[Listed]()
        while len(found) <= most:
            page, then = await bulk.page(selection, after, STEP)
            found += page
            if then is None:
                break
            after = then
        return found[:most], len(found) > most

    async def _collect(
        self, selection: Selection, narrow: bool, after: Place | None
    ) -> tuple[list[Listed], Place | None]:
        """A page, whole where there are enough messages near enough, and where the next one begins."""
        bulk, found = self._facade.bulk, list[Listed]()
        for _ in range(STEPS if narrow else 1):
            page, after = await bulk.page(selection, after or (0, 0), STEP if narrow else SIZE)
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
        if not (self.sort or self._selection()[1]) or self._ticks % round(LOOK) == 0:
            self.again.idly()

    def _failed(self, why: str) -> None:
        self.table.show([], empty={"title": "Messages cannot be listed", "text": why}, pager={})

    # -- what somebody does -------------------------------------------------------------------------------------------

    def _sorted(self, name: str) -> None:
        """Up, down, and back to the queue's own order."""
        if name not in SORTS:
            return
        if self.sort != name:
            self.sort, self.descending = name, False
        elif not self.descending:
            self.descending = True
        else:
            self.sort, self.descending = "", False
        self._said()
        self.table.wait()
        self.restart()

    def _paged(self, step: int) -> None:
        if self.sort:
            self._page = max(0, self._page + step)
        elif step > 0 and self._after is not None:
            self._places.append(self._after)
        elif step < 0 and len(self._places) > 1:
            self._places.pop()
        self.again()

    def _select(self, keys: list[str]) -> None:
        self.ticked = [int(key) for key in keys]


SORTS = tuple(column.name for column in COLUMNS if column.sortable)


def _order(said: str) -> tuple[str, bool]:
    """The order that an address asks for."""
    name = said.removeprefix("-")
    return (name, said.startswith("-")) if name in SORTS else ("", False)


def _key(sort: str, message: Listed) -> tuple[Any, int]:
    """Equals stand in the order in which they came."""
    value = state_of(message) if sort == "state" else getattr(message, sort)
    return (value.lower() if isinstance(value, str) else value), message.id


def _row(message: Listed) -> dict[str, Any]:
    return {
        "key": str(message.id),
        "recipient": shown(message.recipient, 320) or "(unreadable)",
        "envelope": shown(message.envelope, 320) or "<>",
        "state": WORDS.get(state_of(message), state_of(message)),
        "queued": message.queued,
        "due": message.due or None,
        "attempts": message.attempts,
        "size": message.size,
        "last": last_answer(message.last) if message.last else None,
    }


def _line(message: Listed) -> dict[str, Any]:
    """A row of the file; times as UTC."""
    times = {"queued": _utc(message.queued), "due": _utc(message.due) if message.due else ""}
    more = {"id": message.id, "queue": message.queue, "lane": shown(message.lane)}
    return {**_row(message), **more, **times}


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def last_answer(last: Mapping[str, Any]) -> dict[str, Any]:
    """What was said the last time, as a cell."""
    text = " ".join(str(last[name]) for name in ("status", "description") if last.get(name))
    return {"code": shown(last.get("code") or last.get("result") or "", 20), "text": shown(text)}
