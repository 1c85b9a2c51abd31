"""A day's delivery log of the demo, without waiting for a day: what the notebooks show, and tests ask questions of.

Owns nothing: it writes into the folder that it is given, in the delivery log's own form. No program runs that a disk
could hold up, so it writes the files itself.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from operators.deliveries.events import Received
from pipeline.demo.day import Day
from pipeline.log import schema
from pipeline.log.writing.conversion import Archive
from pipeline.log.writing.file import LogFile

MIDNIGHT = 1_794_873_600.0  # Tuesday, 17 November 2026, UTC
MAXSIZE = 8_000_000  # bytes: some of the day is Parquet already
BATCH = 500  # events between two writes


def write(
    folder: Path,
    messages: int = 45_000,
    seed: int = 1,
    midnight: float = MIDNIGHT,
    until: float = math.inf,
    names: tuple[str, str] = ("send.jsonl", "received.jsonl"),
    instance: str = "demo",
) -> Path:
    """Write a day's log into a folder, which takes a few seconds; returns the path of its send-log.

    The received-log lies beside it. The same arguments give the same records. Raises OSError.

    Args:
        folder: where to; made where it is not there.
        messages: about how many are sent in the day.
        seed: of everything that is left to chance.
        midnight: when the day begins, epoch seconds. until: the last moment that is told.
        names: of the two logs. instance: that its lines say.
    """
    day = Day(midnight, messages, seed)
    sent, received = (LogFile(folder / name, MAXSIZE, lambda: day.now) for name in names)
    events = itertools.takewhile(lambda _: day.now < until, day.events())
    while batch := list(itertools.islice(events, BATCH)):
        _append(sent, [schema.attempt(*event, instance) for event in batch if not isinstance(event, Received)])
        _append(received, [schema.reception(event, instance) for event in batch if isinstance(event, Received)])
    for log, record in ((sent, schema.Attempt), (received, schema.Reception)):
        log.close()
        said = Archive(log.path, record, history=0).tidy()
        assert not said, said
    return sent.path


def _append(log: LogFile, records: list[schema.Attempt] | list[schema.Reception]) -> None:
    log.append(b"".join(map(schema.line, records)))
    log.rotate()
