"""The live table: rows that the server sorts, filters and pages, of which only changed cells are sent.

Owner of: what the browser has of one table, so that a change costs its own bytes. Bound: one page of rows. What
comes from outside must be made `shown` before it becomes a cell: cut to LONGEST, control characters visible.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from gui.components.parts import SCRIPTS
from pipeline.views.text import no_formula, visible

LONGEST = 500  # characters of a cell
Kind = Literal[
    "text", "code", "number", "size", "share", "time", "clock", "in", "state", "answer", "link", "open", "spark",
    "actions", "amount", "mark",
]  # fmt: skip


class Column(msgspec.Struct, frozen=True):
    """A column: the key of its cells, its heading, how they are drawn, and what the heading's tooltip says."""

    name: str
    label: str
    kind: Kind = "text"
    tip: str = ""
    sortable: bool = False
    width: str = ""
    main: bool = False  # what the row is about: on a narrow screen it has a line of its own


class Empty(msgspec.Struct, frozen=True):
    """What stands where there is no row: what would appear, and how to make it appear."""

    title: str
    text: str = ""
    code: str = ""


class LiveTable(Element, component=f"{SCRIPTS}/live_table.js"):
    """A table of rows; each row is a mapping of cells, with its identity under `key`.

    Args:
        columns: left to right.
        label: what the rows are, for those who hear the page.
        empty: shown where there is no row.
        selectable: rows have a box to tick.
        opens: a click anywhere in a row opens it; cells of the kind `state` are the buttons for it.
    """

    def __init__(
        self, columns: Sequence[Column], label: str, empty: Empty, selectable: bool = False, opens: bool = False
    ) -> None:
        super().__init__()
        self._cells: dict[str, dict[str, Any]] = {}
        self._order: list[str] = []
        self._state: dict[str, Any] = {}
        self._props["columns"] = [msgspec.to_builtins(column) for column in columns]
        self._props["label"] = label
        self._props["selectable"] = selectable
        self._props["opens"] = opens
        self._props["initial"] = {"empty": msgspec.to_builtins(empty)}

    def show(self, rows: Sequence[Mapping[str, Any]], **state: Any) -> None:
        """Send what differs from the last time: cells, order, and state (sort, descending, pager, chosen, empty)."""
        cells = {str(row["key"]): {name: cell for name, cell in row.items() if name != "key"} for row in rows}
        order = list(cells)
        patch: dict[str, Any] = {name: value for name, value in state.items() if self._state.get(name, self) != value}
        if changed := {key: news for key, row in cells.items() if (news := self._news(key, row))}:
            patch["cells"] = changed
        if order != self._order or not self._state:
            patch["order"] = order
        self._cells, self._order = cells, order
        self._state = {**self._state, **state, "shown": True}
        if patch:
            self.run_method("patch", patch)

    def _news(self, key: str, row: Mapping[str, Any]) -> dict[str, Any]:
        had = self._cells.get(key, {})
        return {name: cell for name, cell in row.items() if name not in had or had[name] != cell}

    def wait(self) -> None:
        """Say that the rows shown are about to be replaced."""
        self.run_method("wait")

    def show_again(self) -> None:
        """The rows shown are not replaced after all."""
        self.run_method("patch", {})

    def on_hold(self, act: Callable[[bool], object]) -> None:
        """Told when a mouse comes to the rows, and leaves them."""
        self._props["holds"] = True
        self.on("hold", lambda event: act(event.args is True))

    def on_sort(self, act: Callable[[str], object]) -> None:
        """Told the column whose heading was clicked."""
        self.on("sort", lambda event: act(str(event.args)))

    def on_page(self, act: Callable[[int], object]) -> None:
        """Told 1 for the next page, -1 for the one before."""
        self.on("page", lambda event: act(1 if event.args == 1 else -1))

    def on_open(self, act: Callable[[str], object]) -> None:
        """Told the key of the row that was opened."""
        self.on("open", lambda event: act(str(event.args)))

    def on_act(self, act: Callable[[str, str], object]) -> None:
        """Told (key, action) of a row's button; only keys of rows that are shown."""

        def acted(event: GenericEventArguments) -> object:
            key, action = str(event.args.get("key")), str(event.args.get("action"))
            return act(key, action) if key in self._cells else None

        self.on("act", acted)

    def on_select(self, act: Callable[[list[str]], object]) -> None:
        """Told the keys of the rows that are ticked."""
        self.on("select", lambda event: act([key for key in map(str, event.args) if key in self._cells]))


def shown(text: object, longest: int = LONGEST) -> str:
    """Text from outside, as a cell or a line: cut, with control and direction characters made visible."""
    whole = str(text)
    cut = whole[:longest]
    return visible(cut) + ("…" if len(whole) > longest else "")


def csv_of(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, without formulas from outside."""
    written = io.StringIO()
    lines = csv.writer(written)
    lines.writerow(column.label for column in columns)
    for row in rows:
        cells = (_plain(row.get(column.name), column.kind) for column in columns)
        lines.writerow(map(no_formula, cells))
    return written.getvalue()


def _plain(cell: Any, kind: str = "text") -> str:
    if kind in ("time", "clock", "in") and isinstance(cell, int | float):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(cell))
    if isinstance(cell, dict):
        return " ".join(str(cell[name]) for name in ("code", "text") if cell.get(name))
    return "" if cell is None else str(cell)


def pager(offset: int, shown_rows: int, total: int) -> dict[str, Any]:
    """Where a page of numbered rows lies."""
    text = f"{offset + 1:,}–{offset + shown_rows:,} of {total:,}" if shown_rows else f"0 of {total:,}"
    return {"text": text, "back": offset > 0, "on": offset + shown_rows < total}
