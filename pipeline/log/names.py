"""The names of log files: beside `send.jsonl`, which is written, lie `send.<UTC time>.<counter>.jsonl`, rotated, and
`send.<UTC time>.<counter>.parquet`, converted.

Names sort by age. A reader that lists them gets each line once, at any moment of a rotation.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path

JSON_LINES, PARQUET, PART, LOCK = ".jsonl", ".parquet", ".part", ".lock"


def free_name(log: Path, now: float) -> Path:
    """Where to rotate the log to at `now`, epoch seconds."""
    stamp = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    counter = 0
    while True:
        candidate = log.with_name(f"{_base(log)}.{stamp}.{counter:03d}{JSON_LINES}")
        if not candidate.exists() and not parquet_name(candidate).exists():
            return candidate
        counter += 1


def parquet_name(rotated: Path) -> Path:
    """The Parquet file of a rotated JSON Lines file."""
    return rotated.with_suffix(PARQUET)


def rotated(log: Path) -> list[Path]:
    """The rotated files that count, oldest first. A JSON Lines file that has its Parquet file does not."""
    names = _ours(log)
    kept = [name for name in names if name.endswith(PARQUET) or _json_alone(name, names)]
    return [log.with_name(name) for name in sorted(kept)]


def worker_log(log: Path, number: int) -> Path:
    """The log of one of several workers."""
    return log.with_name(f"{_base(log)}.worker-{number}{JSON_LINES}")


def of_workers(log: Path) -> list[Path]:
    """The logs of all workers that there were."""
    pattern = re.compile(re.escape(_base(log)) + r"(\.worker-\d+)\..*")
    found = {match[1] for path in log.parent.iterdir() if (match := pattern.fullmatch(path.name))}
    return [log.with_name(f"{_base(log)}{name}{JSON_LINES}") for name in sorted(found)]


def leftovers(log: Path) -> list[Path]:
    """What a crash has left: half a Parquet file, or a JSON Lines file that has its Parquet file."""
    names = _ours(log)
    return [log.with_name(name) for name in names if not name.endswith(PARQUET) and not _json_alone(name, names)]


def untidy(log: Path, history: int) -> bool:
    """Is there anything to convert or to delete? Raises OSError."""
    files = rotated(log)
    return bool(leftovers(log)) or any(path.suffix == JSON_LINES for path in files) or 0 < history < len(files)


def lock_name(log: Path) -> Path:
    """The file that says, by a lock on it, that somebody writes the log."""
    return log.with_name(log.name + LOCK)


def _ours(log: Path) -> set[str]:
    pattern = re.compile(re.escape(_base(log)) + r"\.\d{8}T\d{6}Z\.\d{3,}(\.jsonl|\.parquet|\.parquet\.part)")
    return {path.name for path in log.parent.iterdir() if pattern.fullmatch(path.name)}


def _json_alone(name: str, names: set[str]) -> bool:
    return name.endswith(JSON_LINES) and name.removesuffix(JSON_LINES) + PARQUET not in names


def _base(log: Path) -> str:
    return log.name.removesuffix(JSON_LINES)
