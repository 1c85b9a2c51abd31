"""Publishes numbered queue messages, survives the loss of its broker, and remembers what is confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

import aiormq
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity
from pamqp import commands

BATCH = 100
FAILURES = (AMQPError, OSError, RuntimeError, TimeoutError)


def queue_message(number: int, domain: str = "a.example", size: int = 2000) -> bytes:
    """One message to one recipient, with its number in the MIME."""
    mime = f"Subject: {number}\r\nX-Number: {number}\r\n\r\n{'x' * size}\r\n"
    body = {"recipient": f"user{number}@{domain}", "envelope": "from@sender.example", "mime": mime, "number": number}
    return json.dumps(body).encode()


class Publisher:
    """Publishes `total` persistent messages to the outbox, a batch at once. `body`: makes one of its number.

    Attributes:
        confirmed: the numbers that the broker has confirmed.
        offered: numbers used; one whose fate is unknown is not used again.
    """

    def __init__(
        self, address: str, total: int, queue: str = "outbox", body: Callable[[int], bytes] = queue_message
    ) -> None:
        self.address, self.total, self.queue, self.body = address, total, queue, body
        self.confirmed: set[int] = set()
        self.offered = 0
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)

    async def run(self) -> None:
        """Until so many are confirmed."""
        while len(self.confirmed) < self.total:
            try:
                async with asyncio.timeout(5):
                    connection = await aiormq.connect(f"{self.address}?heartbeat=5")
                    channel = await connection.channel()
                await self._publish(channel)
                await connection.close()
            except FAILURES:
                await asyncio.sleep(0.2)

    async def _publish(self, channel: aiormq.abc.AbstractChannel) -> None:
        while len(self.confirmed) < self.total:
            batch = range(self.offered, self.offered + min(BATCH, self.total - len(self.confirmed)))
            self.offered += len(batch)
            async with asyncio.timeout(5):
                answers = await asyncio.gather(
                    *(self._one(channel, number) for number in batch), return_exceptions=True
                )
            if any(isinstance(answer, BaseException) for answer in answers):
                raise OSError("the broker is away")

    async def _one(self, channel: aiormq.abc.AbstractChannel, number: int) -> None:
        properties = commands.Basic.Properties(delivery_mode=2)
        await channel.basic_publish(self.body(number), routing_key=self.queue, properties=properties, mandatory=True)
        self.confirmed.add(number)


async def drain(address: str, queue: str) -> list[bytes]:
    """Take everything that is in a queue."""
    connection = await aiormq.connect(address)
    channel = await connection.channel()
    bodies = []
    while (message := await channel.basic_get(queue, no_ack=True)).delivery_tag is not None:
        bodies.append(message.body)
    await connection.close()
    return bodies


async def depth(address: str, *queues: str) -> dict[str, int]:
    """How many messages are ready in each of these queues; 0 where there is no such queue."""
    connection = await aiormq.connect(address)
    found = dict.fromkeys(queues, 0)
    for queue in queues:
        channel = await connection.channel()
        with contextlib.suppress(ChannelNotFoundEntity):
            found[queue] = (await channel.queue_declare(queue, passive=True)).message_count or 0
            await channel.close()
    await connection.close()
    return found
