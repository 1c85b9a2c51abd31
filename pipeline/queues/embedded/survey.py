"""The figures of the embedded queue, for the console, the API and the commands."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.queues.contract import QueueFigures
from pipeline.queues.survey import QueueRow, Survey


def survey(outbox: str, figures: QueueFigures) -> Survey:
    """One look, from the figures. Each message is put in and taken out by this instance, so no rate is said here."""
    return Survey(
        where="the embedded queue",
        source="embedded",
        waiting=figures.waiting,
        rows=tuple(_rows(outbox, figures)),
        temporary=len(figures.parked),
        outbox=figures.ready,
    )


def _rows(outbox: str, figures: QueueFigures) -> Iterator[QueueRow]:
    yield QueueRow(name=outbox, ready=figures.ready, unacked=figures.unsettled, consumers=1)
    yield QueueRow(name=f"{outbox}, waiting for a time", ready=figures.waiting, unacked=0, consumers=0)
    for name, count in sorted(figures.other.items()):
        yield QueueRow(name=name, ready=count, unacked=0, consumers=0)
    for lane, count in sorted(figures.parked.items(), key=lambda pair: -pair[1]):
        yield QueueRow(name=f"{outbox}.parked.{lane}", ready=count)
