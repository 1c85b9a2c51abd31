"""Rotated log files: into Parquet, and away when there are too many.

Owns what lies beside a log under the names of `names`. Bound: `history` files of each log. `tidy` may be killed
anywhere and called again: a Parquet file gets its name only when it is whole and on disk, its JSON Lines file goes
only after that, and is not read any more from that moment. Where it fails the JSON Lines file stays, and is read.

The program runs it as a process (`converter`): DuckDB takes 100 MB and a processor for
seconds, and this one yields to everything else. What it says is a line each. A lock lets one work at a time in a
folder, also where one is left over from a program that was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import duckdb

from pipeline.log.names import JSON_LINES, PART, leftovers, parquet_name, rotated
from pipeline.log.reading.database import connect
from pipeline.log.schema import RECORDS, LogRecord, columns

ROW_GROUP = 8_192  # rows: what a reader skips or unpacks at a time. With 65,536 a rare text took twice as long to find
MEMORY = "200MB"
NICE = 10
LOCK = "archive.lock"  # in the folder; private, or whoever can read it could hold it


class Archive:
    """The rotated files of one log.

    Args:
        log: the active file.
        record: what its lines hold.
        history: the most rotated files that are kept; 0 is all.
    """

    def __init__(self, log: Path, record: type[LogRecord], history: int) -> None:
        self._log = log
        self._record = record
        self._history = history

    def tidy(self) -> list[str]:
        """Delete what is too old and convert what is rotated. Says what an operator should know, and raises nothing."""
        said = []
        try:
            self._sweep()
            self._prune()
        except OSError as error:
            said.append(f"{self._log.parent}: {error.strerror}")
        for path in rotated(self._log):
            if path.suffix == JSON_LINES:
                said += self._convert(path)
        return said

    def _sweep(self) -> None:
        for path in leftovers(self._log):
            path.unlink()

    def _prune(self) -> None:
        if self._history:
            for path in rotated(self._log)[: -self._history]:
                path.unlink()

    def _convert(self, path: Path) -> list[str]:
        target = parquet_name(path)
        part = target.with_name(target.name + PART)
        try:
            rows = to_parquet(path, part, self._record)
            part.replace(target)
            torn = _lines(path) - rows
            path.unlink()
        except (OSError, duckdb.Error) as error:
            part.unlink(missing_ok=True)
            return [f"{path} stays as it is, until the next rotation: {error}"]
        return [f"{path}: {torn} torn or foreign lines were left out of {target.name}"] if torn > 0 else []


def to_parquet(path: Path, target: Path, record: type[LogRecord]) -> int:
    """Write a JSON Lines file's records as Parquet, and see that they are on disk; returns how many.

    They stay in the order they were written in, which is that of time but for milliseconds, so row groups are
    narrow in time without a sort. Raises OSError and `duckdb.Error`.
    """
    with connect(1, MEMORY) as database:
        found = database.execute(
            _COPY, {"path": str(path), "columns": columns(record), "target": str(target)}
        ).fetchone()
    with target.open("rb") as written:
        os.fsync(written.fileno())
    return int(found[0]) if found else 0


_COPY = f"""
    COPY (
        FROM read_json($path, format = 'newline_delimited', columns = $columns, ignore_errors = true)
        WHERE v IS NOT NULL
    ) TO $target (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})
"""


def _lines(path: Path) -> int:
    with path.open("rb") as source:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: source.read(1 << 20), b""))


def main(plan: str) -> None:
    """Tidy up one log.

    Args:
        plan: JSON: `send-log` or `received-log`, its active file, the most rotated files that are kept.
    """
    name, log, history = json.loads(plan)
    os.nice(NICE)
    path = Path(log)
    fcntl.flock(os.open(path.with_name(LOCK), os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    for text in Archive(path, RECORDS[name], history).tidy():
        print(text.replace("\n", " "), flush=True)
