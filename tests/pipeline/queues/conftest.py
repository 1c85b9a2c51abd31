"""Queues to test.

The contract's tests take `desk`, which is parametrized by implementation: whoever adds one adds it to `QUEUES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.queues.contract import Queue
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue
from tests.pipeline.queues.desk import Clock, Desk
from tests.support import broker
from tests.support.broker import MISSING, Broker, installed, settings_for, shared


def embedded(folder: Path, clock: Clock, _: pytest.FixtureRequest) -> EmbeddedQueue:
    return EmbeddedQueue(folder / "queue.db", clock=clock, poll=0.01)


def rabbitmq(_: Path, __: Clock, request: pytest.FixtureRequest) -> RabbitQueue:
    return RabbitQueue(settings_for(request.getfixturevalue("address")), linger=0.1)


QUEUES = {"embedded": embedded, "rabbitmq": rabbitmq}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def node() -> Broker:
    """One RabbitMQ node for all tests of a process."""
    if not installed():
        pytest.skip(MISSING)
    return shared()


@pytest.fixture
def address(node: Broker) -> str:
    """The address of an empty virtual host on a running node."""
    return node.fresh()


@pytest.fixture(params=sorted(QUEUES))
async def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Desk]:
    """A started queue of each kind."""
    queue: Queue = QUEUES[request.param](tmp_path, clock, request)
    await queue.start()
    yield Desk(queue, clock if request.param == "embedded" else None)
    await queue.close()


@pytest.fixture
async def embedded_desk(tmp_path: Path, clock: Clock) -> AsyncIterator[Desk]:
    """A started embedded queue."""
    queue = EmbeddedQueue(tmp_path / "queue.db", clock=clock, poll=0.01)
    await queue.start()
    yield Desk(queue, clock)
    await queue.close()


@pytest.fixture(scope="session")
def limited() -> Broker:
    """Another node, whose limits a test sets."""
    if not installed():
        pytest.skip(MISSING)
    return broker.limited()
