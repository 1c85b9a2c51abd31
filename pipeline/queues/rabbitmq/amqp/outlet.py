"""Where a link publishes: a channel with confirms, and one for sizes that the broker has never taken yet.

AMQP does not tell the largest size of a message, and what is larger ends its channel, with all that is under way
there. So a size that was never taken yet goes over a channel of its own, whose end costs nothing else, one message at a
time: what would be written behind the answer to that end would end the connection (504, channel error).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

from aiormq.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import ChannelInvalidStateError, ChannelPreconditionFailed

from pipeline.queues.contract import TooLarge

PROVEN = 65_536  # bytes that a broker is believed to take
TRIES = 5  # of a publication whose channel ended for another reason
TOO_LARGE = re.compile(r"larger than (?:configured )?max size (\d+)")


class PublishChannels:
    """The channels of one connection.

    Args:
        connection: connected.
        channel: with confirms.

    Attributes:
        proven: bytes of the largest body that the broker takes for all we know.
    """

    def __init__(self, connection: AbstractConnection, channel: Channel) -> None:
        self.proven = PROVEN
        self._connection, self._channel = connection, channel
        self._trying: Channel | None = None
        self._turn = asyncio.Lock()

    async def publish(self, exchange: str, queue: str, body: bytes, properties: Any) -> None:
        """Publish, and wait for the confirmation. Raises `TooLarge`, and what aiormq raises."""
        if len(body) > self.proven:
            async with self._turn:
                if len(body) > self.proven:
                    await self._prove(exchange, queue, body, properties)
                    return
        await _publish(self._channel, exchange, queue, body, properties)

    async def _prove(self, exchange: str, queue: str, body: bytes, properties: Any) -> None:
        for _ in range(TRIES):
            if await self._try(exchange, queue, body, properties):
                self.proven = max(self.proven, len(body))
                return
        raise ConnectionError("the broker ends channels again and again")

    async def _try(self, exchange: str, queue: str, body: bytes, properties: Any) -> bool:
        """Whether it was taken; False where the channel has ended for another reason."""
        channel = await self._trial()
        try:
            await _publish(channel, exchange, queue, body, properties)
        except (ChannelPreconditionFailed, ChannelInvalidStateError) as error:
            self._trying = None
            if (found := TOO_LARGE.search(str(error))) is not None and len(body) > int(found[1]):
                raise TooLarge(len(body), int(found[1])) from None
            return False
        return True

    async def _trial(self) -> Channel:
        if self._trying is None or self._trying.is_closed:
            self._trying = cast(Channel, await self._connection.channel(publisher_confirms=True))
        return self._trying


async def _publish(channel: Channel, exchange: str, queue: str, body: bytes, properties: Any) -> None:
    await channel.basic_publish(
        body, exchange=exchange, routing_key=queue, properties=properties, mandatory=True, wait=False
    )
