"""The place at the cluster's exchange, on a real broker: what goes wrong there is said, and heals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest

from pipeline.cluster import exchange as exchange_module
from pipeline.cluster.exchange import ClusterExchange
from pipeline.cluster.words import HELLO
from pipeline.queues.contract import QueueUnavailable
from settings import load
from tests.support.broker import MISSING, Broker, installed, limited, shared

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING)]


class Place:
    """A place at an exchange, and what it has heard."""

    def __init__(self, address: str) -> None:
        self.heard: list[bytes] = []
        self.joins = 0
        self.exchange = ClusterExchange(load([f"--cluster-address={address}"], None, None), "m", self._hear, self._join)

    def _hear(self, body: bytes) -> None:
        self.heard.append(body)
        self.exchange.came_back()

    def _join(self) -> None:
        self.joins += 1

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def place_at(address: str) -> AsyncIterator[Place]:
    """One that has joined."""
    place = Place(address)
    place.exchange.start()
    await place.until(lambda: place.joins == 1)
    yield place
    await place.exchange.close()


def vhost(address: str) -> str:
    """The name in an address."""
    return urlsplit(address).path[1:]


async def test_who_does_not_hear_its_own_word_joins_anew() -> None:
    """The exchange is gone, and with it the way to our queue, of which the broker tells nobody."""
    broker = shared()
    address = broker.fresh()
    async with place_at(address) as place:
        await asyncio.to_thread(broker.api, "DELETE", f"exchanges/{vhost(address)}/cluster")
        place.exchange.expect(0.0)
        await place.until(lambda: place.joins == 2)
        assert "does not come back" in (place.exchange.trouble or "")
        place.exchange.say(HELLO)
        await place.until(lambda: bool(place.heard))
        assert place.exchange.trouble is None


async def test_who_may_not_speak_says_so_and_asks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no news each time, and each try waits longer."""
    monkeypatch.setattr(exchange_module, "FIRST", 0.1)
    broker = shared()
    address = broker.fresh()
    mine = {"configure": ".*", "write": "amq.gen.*", "read": ".*"}
    async with place_at(address):  # makes the exchange
        await asyncio.to_thread(broker.api, "PUT", "users/mute", {"password": Broker.password, "tags": ""})
        await asyncio.to_thread(broker.api, "PUT", f"permissions/{vhost(address)}/mute", mine)
        async with place_at(broker.at(vhost(address), "mute")) as mute:
            mute.exchange.say(HELLO)
            await mute.until(lambda: mute.joins == 2)
            assert "ACCESS_REFUSED" in (mute.exchange.trouble or "")


async def test_a_broker_without_memory_is_said_and_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears and takes nothing of who has spoken; a message for another instance does not wait for it."""
    monkeypatch.setattr(exchange_module, "SILENT", 0.5)
    broker, errors = limited(), list[Exception | None]()
    async with place_at(broker.fresh()) as place:
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            place.exchange.say(HELLO)
            await place.until(lambda: place.exchange.trouble is not None)
            assert "memory" not in (place.exchange.trouble or "")
            place.exchange.look()
            await asyncio.sleep(0)
            place.exchange.look()
            assert "short of memory" in (place.exchange.trouble or "")
            place.exchange.hand_over("outbox", b"{}", errors.append)
            await place.until(lambda: bool(errors))
            assert isinstance(errors[0], QueueUnavailable)
        finally:
            await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "absolute", "2GB")
        await place.until(lambda: place.exchange.trouble is None and bool(place.heard))


async def test_of_several_addresses_the_next_one_is_tried() -> None:
    """Where one is dead; the command waits for all of them."""
    async with place_at(f"amqp://guest:x@127.0.0.1:1/,{shared().fresh()}") as place:
        assert place.exchange.is_joined
        assert place.exchange.addresses == 2
