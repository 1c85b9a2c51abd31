"""A listing: a table with filters, sorted and paged on the server, whose state is the page's address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from nicegui import ui

from gui.components.drawing import text
from gui.components.filter_bar import Field, FilterBar, address, kept, mistakes, say_mistakes
from gui.components.latest import Latest
from gui.components.live_table import Column, Empty, LiveTable, csv_of, pager
from gui.components.view import View

SIZE = 50  # rows a page
ALL = 1_000_000


class Wanted(msgspec.Struct):
    """What the address asks for: which rows, in which order, from which on."""

    filters: dict[str, str]
    sort: str
    descending: bool
    page: int = 0
    limit: int = SIZE

    @property
    def offset(self) -> int:
        """The number of the first row."""
        return self.page * self.limit


class Rows(msgspec.Struct):
    """Some rows, each with its `key`, and how many there are in all."""

    rows: list[dict[str, Any]]
    total: int


class Listing:
    """Filters, a table, and the address that goes with them.

    Args:
        path: the view's address.
        fields: the filters.
        sort: the column that is sorted by at first, `-` before it: descending.
        fetch: the rows that are wanted.
        failures: exceptions of `fetch` that are said in place of the rows.
        opens: a click in a row opens it.
        more: names in the address that the view itself keeps.
    """

    def __init__(
        self,
        view: View,
        path: str,
        fields: Sequence[Field],
        columns: Sequence[Column],
        sort: str,
        empty: Empty,
        label: str,
        fetch: Callable[[Wanted], Awaitable[Rows]],
        failures: tuple[type[Exception], ...] = (),
        opens: bool = False,
        more: Collection[str] = (),
        window: str = "",
    ) -> None:
        self._client = ui.context.client
        self._path, self._fields, self._columns, self._first, self._empty = path, fields, columns, sort, empty
        self._fetch = fetch
        self.more: dict[str, str] = {}  # of the address, that the view itself keeps
        self.wanted = self._read(view.query)
        say_mistakes(mistakes(fields, view.query, more))
        with ui.element("div").classes("toolbar"):
            self.bar = FilterBar(fields, view.query, self._filtered, label=f"Filter {label}")
            with ui.element("div").classes("toolbar-keys"):
                if window:
                    text("span", window, "of")
                button = text("button", "↓ CSV", "small").props(
                    'type=button data-export=csv aria-label="Export as CSV"'
                )
                button.on("click", self._export)
        self.table = LiveTable(columns, label, empty, opens=opens)
        self.table.classes("card table-card")
        self.table.on_sort(self._sorted)
        self.table.on_page(self._paged)
        self._refresh = Latest(self._show, failures, self._failed)
        self._refresh()
        view.live.each(self._refresh.idly)

    def _read(self, query: Mapping[str, str]) -> Wanted:
        said = query.get("sort", self._first)
        name = said.removeprefix("-")
        if not any(column.name == name and column.sortable for column in self._columns):
            said, name = self._first, self._first.removeprefix("-")
        page = query.get("page", "")
        number = int(page) - 1 if page.isdecimal() and len(page) < 7 else 0
        return Wanted(kept(self._fields, query), name, said.startswith("-"), max(0, number))

    def again(self) -> None:
        """Fetch the rows now."""
        self._refresh()

    def say(self) -> None:
        """Put what is wanted into the address."""
        wanted = self.wanted
        sort = ("-" if wanted.descending else "") + wanted.sort
        said = {**wanted.filters, "sort": "" if sort == self._first else sort}
        said["page"] = str(wanted.page + 1) if wanted.page else ""
        with self._client:
            ui.navigate.history.replace(address(self._path, {**said, **self.more}))

    def _changed(self) -> None:
        self.say()
        self._refresh()

    def _filtered(self, filters: dict[str, str]) -> None:
        if filters != self.wanted.filters:
            self.wanted.filters, self.wanted.page = filters, 0
            self._changed()

    def _sorted(self, name: str) -> None:
        wanted = self.wanted
        column = next((column for column in self._columns if column.name == name and column.sortable), None)
        if column is None:
            return
        text = column.kind in ("text", "open", "link", "code")
        wanted.descending = not wanted.descending if name == wanted.sort else not text
        wanted.sort, wanted.page = name, 0
        self._changed()

    def _paged(self, step: int) -> None:
        self.wanted.page = max(0, self.wanted.page + step)
        self._changed()

    async def _show(self) -> None:
        wanted = self.wanted
        found = await self._fetch(wanted)
        if not found.rows and wanted.page:  # the last page has gone
            wanted.page = max(0, (found.total - 1) // SIZE)
            found = await self._fetch(wanted)
        nothing = Empty("Nothing passes these filters", "Clear them to see everything.")
        empty = nothing if wanted.filters else self._empty
        self.table.show(
            found.rows,
            sort=wanted.sort,
            descending=wanted.descending,
            pager=pager(wanted.offset, len(found.rows), found.total),
            empty=msgspec.to_builtins(empty),
        )

    async def _export(self) -> None:
        """All rows that pass, as CSV."""
        found = await self._fetch(msgspec.structs.replace(self.wanted, page=0, limit=ALL))
        columns = [column for column in self._columns if column.kind not in ("actions", "spark")]
        with self._client:
            ui.download.content(csv_of(columns, found.rows), f"{self._path.strip('/')}.csv", "text/csv")

    def _failed(self, why: str) -> None:
        self.table.show([], empty={"title": "This cannot be shown now", "text": why}, pager={})
