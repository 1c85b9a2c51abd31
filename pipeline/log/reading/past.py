"""The past: how attempts ended before this start, asked of the delivery log by a process of its own.

One question keeps DuckDB's 40 MB in the process that asks it, and a start asks before anybody needs the console. The
process takes them along when it ends. Bound: PATIENCE seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.log.reading.query import LogQuery, LogQueryFailed
from pipeline.process.children import ChildFailed, ChildKind, run

PAST = ChildKind("log-past", "pipeline.log.reading.past")
PATIENCE = 120.0

Ends = list[tuple[Any, ...]]
Span = tuple[float, int]  # since, in epoch seconds; seconds of a slot


def ends(log: Path, spans: Sequence[Span]) -> list[Ends]:
    """What `LogQuery.ends` says of each span. Waits for the process: call it in a thread. Raises `LogQueryFailed`."""
    try:
        found = run(PAST, msgspec.json.encode((str(log), spans)), PATIENCE)
    except (ChildFailed, TimeoutError) as error:
        raise LogQueryFailed(str(error) or f"it took more than {PATIENCE:.0f} s") from None
    return msgspec.json.decode(found, type=list[Ends])


def main() -> None:
    """The process: a question on standard input, its answer on standard output."""
    log, spans = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[str, list[Span]])
    query = LogQuery(Path(log))
    try:
        found = [query.ends(since, step) for since, step in spans]
    except LogQueryFailed as error:
        sys.exit(str(error))
    finally:
        query.close()
    sys.stdout.buffer.write(msgspec.json.encode(found))
