"""A broker that lets us connect and then says no: tried again, less and less often, and the reason stands."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.rabbitmq.amqp.broker import FIRST_PAUSE
from pipeline.queues.rabbitmq.amqp.link import Link
from tests.pipeline.queues.desk import until
from tests.pipeline.queues.rabbit import channel, opened, rabbit
from tests.support.broker import Broker


def permit(node: Broker, address: str, read: str, configure: str = ".*", write: str = ".*") -> str:
    """The address of a user who may read only so much in this virtual host."""
    vhost = address.rpartition("/")[2]
    name = f"narrow-{vhost}"
    node.api("PUT", f"users/{name}", {"password": Broker.password, "tags": ""})
    node.api("PUT", f"permissions/{vhost}/{name}", {"configure": configure, "write": write, "read": read})
    return address.replace("guest:", f"{name}:")


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a connection was made, monotonic seconds."""
    made: list[float] = []
    open_link = Link.open

    async def noted(*arguments: Any) -> Link:
        made.append(time.monotonic())
        return await open_link(*arguments)

    monkeypatch.setattr(Link, "open", noted)
    return made


@contextlib.asynccontextmanager
async def hindered(kind: str, node: Broker, address: str) -> AsyncIterator[tuple[str, Callable[[], Awaitable[object]]]]:
    """An address over which the outbox cannot be read, and what lets it be read."""
    async with channel(address) as other:
        await other.queue_declare("outbox", durable=True)
        if kind == "no right":

            async def allow() -> None:
                permit(node, address, ".*")

            yield permit(node, address, "(outbox.parked|results)"), allow
        else:
            await other.basic_consume("outbox", lambda _: None, exclusive=True, consumer_tag="alone")
            yield address, lambda: other.basic_cancel("alone")


async def test_a_broker_without_memory_is_started_with_and_waited_for(limited: Broker) -> None:
    """K9: it lets us connect, and reads nothing once we publish: said as what it is, and over by itself."""
    address = limited.fresh()
    limited.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        async with opened(address) as desk:
            desk.consume()
            await until(lambda: "out of memory" in (desk.queue.full or ""))
            with pytest.raises(QueueUnavailable, match="out of memory"):
                await desk.publish(b"refused")
            limited.control("set_vm_memory_high_watermark", "absolute", "2GB")
            await until(lambda: desk.queue.fault is None)
            await desk.publish(b"m")
            assert [lease.body for lease in await desk.next()] == [b"m"]
    finally:
        limited.control("set_vm_memory_high_watermark", "absolute", "2GB")


@pytest.mark.parametrize(("kind", "said"), [("no right", "outbox"), ("another reads alone", "exclusive")])
async def test_a_connection_alone_does_not_begin_the_pause_anew(
    node: Broker, address: str, connects: list[float], kind: str, said: str
) -> None:
    """K9: the pause grows until the link has worked; the reason stands all the time, in one line, and ends with it."""
    async with hindered(kind, node, address) as (narrow, allow), opened(narrow) as desk:
        queue = rabbit(desk)
        desk.consume()
        await until(lambda: len(connects) >= 3)
        faults: set[str | None] = set()

        def noted() -> bool:
            faults.add(queue.fault)
            return len(connects) >= 6

        await until(noted)
        assert all(fault is not None and said in fault and "\n" not in fault for fault in faults)
        pauses = [later - earlier for earlier, later in itertools.pairwise(connects[1:])]
        assert all(pause >= FIRST_PAUSE * 2**number / 2 for number, pause in enumerate(pauses))
        with pytest.raises(QueueUnavailable, match=said):
            await queue.figures()
        await allow()
        await until(lambda: queue.fault is None)
        await desk.publish(b"m")
        assert [lease.body for lease in await desk.next()] == [b"m"]
