"""Queues to test.

The contract's tests take `desk`, which is parametrized by implementation: whoever adds one adds it to `QUEUES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.queues.embedded import EmbeddedQueue
from tests.pipeline.queues.desk import Clock, Desk


def embedded(folder: Path, clock: Clock) -> EmbeddedQueue:
    return EmbeddedQueue(folder / "queue.db", clock=clock, poll=0.01)


QUEUES = {"embedded": embedded}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(QUEUES))
async def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Desk]:
    """A started queue of each kind."""
    queue = QUEUES[request.param](tmp_path, clock)
    await queue.start()
    yield Desk(queue, clock)
    await queue.close()


@pytest.fixture
async def embedded_desk(tmp_path: Path, clock: Clock) -> AsyncIterator[Desk]:
    """A started embedded queue."""
    queue = embedded(tmp_path, clock)
    await queue.start()
    yield Desk(queue, clock)
    await queue.close()
