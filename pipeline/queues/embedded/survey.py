"""The figures of the embedded queue, for the console, the API and the commands."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from pipeline.queues.contract import QueueFigures
from pipeline.queues.survey import AskSurvey, QueueRow, Survey


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


@contextlib.asynccontextmanager
async def surveys(outbox: str, figures: Callable[[], Awaitable[QueueFigures]]) -> AsyncIterator[AskSurvey]:
    """Asks what each queue holds."""

    async def ask() -> Survey:
        return survey(outbox, await figures())

    yield ask


def _rows(outbox: str, figures: QueueFigures) -> Iterator[QueueRow]:
    yield QueueRow(name=outbox, ready=figures.ready, unacked=figures.unsettled, consumers=1)
    yield QueueRow(name=f"{outbox}, waiting for a time", ready=figures.waiting, unacked=0, consumers=0)
    for name, count in sorted(figures.other.items()):
        yield QueueRow(name=name, ready=count, unacked=0, consumers=0)
    for lane, count in sorted(figures.parked.items(), key=lambda pair: -pair[1]):
        yield QueueRow(name=f"{outbox}.parked.{lane}", ready=count)
