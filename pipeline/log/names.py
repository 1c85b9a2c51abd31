"""The names of log files: `<log>` is written, `<log>.<UTC time>.<counter>.jsonl` is rotated, `.parquet` converted.

Names sort by age. Whoever lists them gets each line once, whatever moment of a rotation it is.
"""

from __future__ import annotations

import datetime
from pathlib import Path

JSON_LINES, PARQUET, PART = ".jsonl", ".parquet", ".part"


def free_name(log: Path, now: float) -> Path:
    """Where to rotate the log to at `now`, epoch seconds."""
    stamp = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    counter = 0
    while True:
        candidate = log.with_name(f"{log.name}.{stamp}.{counter:03d}{JSON_LINES}")
        if not candidate.exists() and not parquet_name(candidate).exists():
            return candidate
        counter += 1


def parquet_name(rotated: Path) -> Path:
    """The Parquet file of a rotated JSON Lines file."""
    return rotated.with_suffix(PARQUET)


def rotated(log: Path) -> list[Path]:
    """The rotated files that count, oldest first. A JSON Lines file that has its Parquet file does not."""
    found = {path.name: path for path in log.parent.glob(f"{_escape(log.name)}.*.[0-9][0-9][0-9]*.*")}
    kept = [
        path
        for path in found.values()
        if path.suffix == PARQUET or (path.suffix == JSON_LINES and parquet_name(path).name not in found)
    ]
    return sorted(kept)


def _escape(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
