"""Methods on queues of any name: pamqp allows fewer names than the broker does, which asks for UTF-8 only. No state."""

from __future__ import annotations

from typing import Any, cast

from aiormq.abc import AbstractChannel
from aiormq.channel import Channel
from pamqp import commands


class Declare(commands.Queue.Declare):
    """Queue.Declare."""

    def validate(self) -> None:
        """The broker does."""


class Bind(commands.Queue.Bind):
    """Queue.Bind."""

    def validate(self) -> None:
        """The broker does."""


class Purge(commands.Queue.Purge):
    """Queue.Purge."""

    def validate(self) -> None:
        """The broker does."""


async def count(channel: AbstractChannel, queue: str) -> commands.Queue.DeclareOk:
    """(message_count, consumer_count). Raises `ChannelClosed` where the broker says no, as the others do."""
    return await cast(Channel, channel).rpc(Declare(queue=queue, passive=True))


async def declare(channel: AbstractChannel, queue: str, durable: bool, arguments: dict[str, Any]) -> None:
    """Have a queue."""
    await cast(Channel, channel).rpc(Declare(queue=queue, durable=durable, arguments=arguments))


async def bind(channel: AbstractChannel, queue: str, exchange: str) -> None:
    """Have an exchange's messages of the queue's name in it."""
    await cast(Channel, channel).rpc(Bind(queue=queue, exchange=exchange, routing_key=queue))


async def purge(channel: AbstractChannel, queue: str) -> int:
    """Empty a queue; returns how many went."""
    return (await cast(Channel, channel).rpc(Purge(queue=queue))).message_count or 0
