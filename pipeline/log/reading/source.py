"""The log's files as one table: Parquet and JSON Lines together, whatever the writer does meanwhile.

Owns nothing: each query lists the files anew. A file that is converted or rotated between the listing and the
reading makes the query start over; a file that cannot be read at all is left out, with a warning.
"""

# ruff: noqa: S608 - SQL is put together from the schema's names and fixed clauses; every value is a parameter.
from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import duckdb
import msgspec

from pipeline.log.names import PARQUET, of_workers, rotated
from pipeline.log.schema import LogRecord, columns

Result = TypeVar("Result")

TRIES = 20


class Files(msgspec.Struct, frozen=True):
    """The files of one log at one moment; those of Parquet newest first. `active`: the inodes of those in use."""

    parquet: tuple[str, ...]
    json: tuple[str, ...]
    active: tuple[int, ...] = ()

    @property
    def content(self) -> tuple[tuple[int, ...], set[str]]:
        """What does not change when a file is converted, but when one is rotated."""
        return self.active, {Path(path).stem for path in (*self.parquet, *self.json)}


class LogTable:
    """One log, as something to select from.

    Args:
        log: the active file; None where there is no such log.
        record: what its lines hold.
    """

    def __init__(self, log: Path | None, record: type[LogRecord]) -> None:
        self.log = log
        self.record = record
        self._columns = columns(record)
        self._shape = msgspec.json.encode(self._columns).decode()

    def files(self) -> Files:
        """What is there now. Raises OSError where it may not be looked at."""
        if self.log is None or not self.log.parent.is_dir():
            return Files((), ())
        found: list[Path] = []
        active: list[tuple[Path, int]] = []
        for log in (self.log, *of_workers(self.log)):
            found += rotated(log)
            with contextlib.suppress(FileNotFoundError):
                active.append((log, log.stat().st_ino))
        json = [str(path) for path in (*found, *(log for log, _ in active)) if path.suffix != PARQUET]
        return Files(
            tuple(str(path) for path in reversed(found) if path.suffix == PARQUET),
            tuple(json),
            tuple(inode for _, inode in active),
        )

    def table(self, files: Files) -> tuple[str, dict[str, Any]]:
        """SQL of a sub-query that gives every readable record, and its parameters."""
        parameters: dict[str, Any] = {}
        typed = ", ".join(f"NULL::{kind} AS {name}" for name, kind in self._columns.items())
        parts = [f"SELECT {typed} WHERE false"]
        if files.parquet:
            parts.append("SELECT * FROM read_parquet($parquet, union_by_name = true)")
            parameters["parquet"] = list(files.parquet)
        if files.json:
            parts.append(f"SELECT * FROM ({_PARSED.format(lines=_LINES)}) WHERE v IS NOT NULL")
            parameters |= {"json": list(files.json), "shape": self._shape}
        return f"(SELECT {', '.join(self._columns)} FROM ({' UNION ALL BY NAME '.join(parts)}))", parameters

    def lines(self, lines: list[str]) -> tuple[str, dict[str, Any]]:
        """The same for lines that are at hand."""
        parsed = _PARSED.format(lines="SELECT unnest($lines::VARCHAR[]) AS line")
        return f"(SELECT * FROM ({parsed}) WHERE v IS NOT NULL)", {"lines": lines, "shape": self._shape}

    def steady(self, cursor: duckdb.DuckDBPyConnection, run: Callable[[Files], Result]) -> tuple[Result, list[str]]:
        """Run a query over the files, again where they have changed meanwhile; its result, and warnings.

        Raises `duckdb.Error` where the query itself is wrong.
        """
        warnings: list[str] = []
        spoilt: set[str] = set()
        for last in range(TRIES, 0, -1):
            found = self.files()
            files = msgspec.structs.replace(found, parquet=tuple(path for path in found.parquet if path not in spoilt))
            try:
                result = run(files)
            except duckdb.Error:
                broken = {path: why for path in files.parquet if (why := _broken(cursor, path))}
                spoilt |= broken.keys()
                warnings += [f"{path} cannot be read, and is left out: {why}" for path, why in broken.items()]
                if last == 1 or (not broken and self.files() == found):
                    raise
            else:
                if last == 1 or self.files().content == found.content:
                    return result, warnings + _torn(files)
        raise AssertionError("unreachable")


# DuckDB's own JSON reader wants 32 MB for each file and thread, and fails under MEMORY with a dozen files: so lines
# are read as CSV of one column, by buffers of 4 MB, and parsed then. That takes half as long again.
_LINES = (
    "SELECT * FROM read_csv($json, columns = {'line': 'VARCHAR'}, auto_detect = false, header = false, delim = '',"
    " quote = '', escape = '', comment = '', new_line = '\\n', strict_mode = false, ignore_errors = true,"
    " max_line_size = 1000000, buffer_size = 4000000, filename = true)"
)
_PARSED = "SELECT unnest(CASE WHEN json_valid(line) THEN json_transform(line, $shape) END) FROM ({lines})"


def _torn(files: Files) -> list[str]:
    """Lines that do not end as a record does. Looked for in the bytes: DuckDB leaves half a letter out unsaid."""
    warnings = []
    for path in files.json:
        with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as source:
            if count := _torn_lines(source):
                warnings.append(f"{path}: {count} torn or foreign lines are left out")
    return warnings


def _torn_lines(source: BinaryIO) -> int:
    lines, whole, last = 0, 0, b"\n"
    while chunk := source.read(1 << 20):
        lines += chunk.count(b"\n")
        whole += (last + chunk).count(b"}\n")
        last = chunk[-1:]
    return lines - whole + (last != b"\n")


def _broken(cursor: duckdb.DuckDBPyConnection, path: str) -> str | None:
    """Why this Parquet file cannot be read, or None; one that is gone is not broken."""
    try:
        cursor.execute("SELECT count(*) FROM parquet_file_metadata($path)", {"path": path}).fetchall()
    except duckdb.Error as error:
        return str(error).splitlines()[0] if Path(path).exists() else None
    return None
