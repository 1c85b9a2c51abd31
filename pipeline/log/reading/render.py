"""Log records as text: a table for people, JSON Lines and CSV for programs.

What comes from outside is shown, never obeyed: on a terminal, control and direction characters are escaped, and in
CSV a text that a spreadsheet would take for a formula gets a quote.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.log.reading.query import Count
from pipeline.log.schema import Attempt, LogRecord, Reception
from pipeline.log.text import no_formula, visible

Printer = Callable[[Sequence[LogRecord]], None]

WIDE = 200  # columns of a table that goes into a file or a pipe


def printer(kind: str, live: bool = False) -> Printer:
    """What prints records on standard output as `table`, `json` or `csv`; `live`: time and again, so line by line."""
    if kind == "json":
        return _json
    if kind == "csv":
        return _Csv()
    return _lines if live else _table


def say_counts(counts: Sequence[Count], kind: str) -> None:
    """Print counts, a line each."""
    if kind == "json":
        for count in counts:
            _say(msgspec.json.encode(count).decode())
        return
    if kind == "csv":
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(Count.__struct_fields__)
        rows.writerows((count.time.isoformat(), _plain(count.value), count.count) for count in counts)
        return
    table = Table("time", "value", box=None)
    table.add_column("count", justify="right")
    for count in counts:
        table.add_row(_local(count), Text(visible(count.value or "-")), f"{count.count:,}")
    _console().print(table)


def _table(records: Sequence[LogRecord]) -> None:
    if not records:
        _console().print("no records")
        return
    table = Table(box=None, pad_edge=False)
    for title, whole in _COLUMNS:
        table.add_column(title, no_wrap=whole, overflow="fold")
    for record in records:
        table.add_row(*(Text(visible(cell)) for cell in _cells(record)))
    _console().print(table)


def _lines(records: Sequence[LogRecord]) -> None:
    for record in records:
        print("  ".join(visible(cell) or "-" for cell in _cells(record)), flush=True)


def _json(records: Sequence[LogRecord]) -> None:
    for record in records:
        _say(msgspec.json.encode(record).decode())


class _Csv:
    """Rows of all fields, after one line with their names."""

    def __init__(self) -> None:
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        self._begun = False

    def __call__(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            if not self._begun:
                self._rows.writerow(record.__struct_fields__)
                self._begun = True
            self._rows.writerow([_plain(value) for value in msgspec.structs.astuple(record)])
        sys.stdout.flush()


_COLUMNS = (("time", True), ("from", True), ("recipient", False), ("host", False), ("came to", True), ("answer", False))


def _cells(record: LogRecord) -> tuple[str, ...]:
    if isinstance(record, Attempt):
        answer = " ".join(str(part) for part in (record.code, record.status, record.description) if part is not None)
        came_to = f"{record.state}/{record.result} {record.next}"
        return _local(record), record.mta_ip or "", record.recipient or "", record.host or "", came_to, answer
    assert isinstance(record, Reception)
    came_by = f"received by {record.source}"
    size = f"{record.size or 0:,} bytes from {record.envelope or '<>'}"
    return _local(record), record.remote_ip or "", record.recipient or "", record.user or "", came_by, size


def _local(record: LogRecord | Count) -> str:
    return record.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | str):
        return visible(no_formula(value if isinstance(value, str) else " ".join(value)))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _say(text: str) -> None:
    print(_for_tty(text), flush=True)


def _for_tty(text: str) -> str:
    return visible(text) if sys.stdout.isatty() else text


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)
