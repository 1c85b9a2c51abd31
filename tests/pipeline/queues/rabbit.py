"""A queue on RabbitMQ to test, and another client beside it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiormq

from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue
from tests.pipeline.queues.desk import Desk
from tests.support.broker import Broker, settings_for

LANE = "127.0.0.1/example.com"


@contextlib.asynccontextmanager
async def opened(address: str, most: int = 2**31, folder: Path | None = None, **options: Any) -> AsyncIterator[Desk]:
    """A started queue."""
    queue = RabbitQueue(settings_for(address, **options), most, linger=0.1, folder=folder)
    await queue.start()
    try:
        yield Desk(queue, None)
    finally:
        await queue.close()


@contextlib.asynccontextmanager
async def channel(address: str) -> AsyncIterator[Any]:
    """Another client's channel."""
    connection = await aiormq.connect(address)
    yield await connection.channel()
    await connection.close()


def rabbit(desk: Desk) -> RabbitQueue:
    assert isinstance(desk.queue, RabbitQueue)
    return desk.queue


def post(node: Broker, address: str, body: str, **properties: object) -> None:
    """Publish as a client does that sets nothing by itself: aiormq gives each message an id."""
    asked = {"properties": properties, "routing_key": "outbox", "payload": body, "payload_encoding": "string"}
    node.api("POST", f"exchanges/{address.rpartition('/')[2]}/amq.default/publish", asked)


async def mark(address: str, number: int, queue: str = "outbox") -> None:
    """Have so many messages of a queue flagged as redelivered, as all are after a crash of the broker."""
    async with channel(address) as other:
        tags = [(await other.basic_get(queue)).delivery_tag for _ in range(number)]
        await other.basic_nack(tags[-1], multiple=True, requeue=True)
