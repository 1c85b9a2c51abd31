"""The cluster's exchange: what is said there, read and published; connected again and again.

Owns the connection and a private queue on it. Bounds: the broker keeps at most WAITING messages and BYTES bytes for us,
the oldest go first; they are fetched, EACH at most, every LOOK seconds, so one that is too large never comes here.
Nothing waits for it: without a broker the instance goes on alone, and `trouble` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands

from pipeline.cluster.words import LARGEST, ClusterWord, encode
from pipeline.process.supervisor import supervisor
from pipeline.queues.contract import Confirmed, QueueUnavailable
from pipeline.queues.rabbitmq.amqp.link import LOST, Link, say
from settings import Settings

LOOK = 0.25  # seconds
EACH = 100  # messages
SILENT = 5.0  # seconds without an answer of the broker, after which we say that it is away
WAITING, BYTES = 1000, 2_000_000
FIRST, LAST = 0.5, 10.0  # seconds between two tries to connect
CHANCE = random.SystemRandom()


class ClusterExchange:
    """A place at the exchange.

    Args:
        settings: `cluster-address`, `cluster-exchange`.
        name: of the connection, for the broker's own console.
        heard: told each body; it must not raise.
        joined: told when the connection is there.

    """

    def __init__(
        self, settings: Settings, name: str, heard: Callable[[bytes], None], joined: Callable[[], None]
    ) -> None:
        assert settings.cluster_broker is not None
        self._ended: str | None = None  # why the last link has
        self._addresses = deque(settings.cluster_broker.get_secret_value().split(","))
        self._verify, self._name, self.exchange = settings.cluster_checks, name, settings.cluster_exchange or ""
        self._heard, self._joined = heard, joined
        self._link: Link | None = None
        self._why: str | None = None  # we have no link, or what is said over it does not come back
        self._answered = 0.0  # when the broker has answered last, monotonic seconds
        self._echo: float | None = None  # by when something that was said must have come back
        self._proven = False  # something has
        self._blocked = False  # the broker has said that it takes nothing
        self.tried = 0  # addresses in vain, since the last connection
        self._keeper: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        """Why we hear nobody, or nobody us; None while we do, or have not tried yet."""
        if self._why is not None or (link := self._link) is None:
            return self._why
        silent = time.monotonic() - self._answered
        if silent < SILENT:
            return None
        why = ", which is short of memory or disk, and takes nothing" if self._blocked else ""
        return f"{link.address}: no answer for {silent:.0f} s of the broker{why}"

    def look(self) -> None:
        """Once a second: learn whether the broker takes anything."""
        self._blocked = self._link is not None and self._link.blocked

    @property
    def addresses(self) -> int:
        """How many the broker has."""
        return len(self._addresses)

    def expect(self, seconds: float) -> None:
        """Something that was said must come back within so long, or we are not heard, and join anew."""
        if self._echo is None:
            self._echo = time.monotonic() + seconds

    def came_back(self) -> None:
        """It has."""
        self._echo, self._why, self._proven = None, None, True

    @property
    def is_joined(self) -> bool:
        """Whether we hear and are heard."""
        return self._link is not None

    def start(self) -> None:
        """Begin to connect."""
        self._keeper = supervisor().keep(self._keep, "cluster")

    async def close(self) -> None:
        """Leave."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=1.0)
        if (link := self._link) is not None:
            self._link = None
            with contextlib.suppress(*LOST, TimeoutError):
                await asyncio.wait_for(link.close(), 1.0)

    async def _keep(self) -> None:
        pause = FIRST
        while True:
            self._proven, link = False, None
            try:
                link = await self._connect()
                await link.outlive(self._attend(link))
            except QueueUnavailable as error:
                self._why, self.tried = say(error), self.tried + 1
            except LOST as error:
                self._why, self.tried = self._ended or say(error), self.tried + 1
            finally:
                self._link = self._echo = None
                if link is not None:
                    link.end("left")
            pause = FIRST if self._proven else pause
            await asyncio.sleep(pause * (0.5 + CHANCE.random() / 2))
            pause = min(2 * pause, LAST)

    async def _connect(self) -> Link:
        address, self._ended = self._addresses[0], None
        self._addresses.rotate(-1)  # the next one is tried next
        return await Link.open(address, self._verify, f"{self._name} cluster", self._lost)

    def _lost(self, link: Link, why: str) -> None:
        self._ended = f"{link.address}: {why}"
        if self._link is link:
            self._link, self._why = None, self._ended

    async def _attend(self, link: Link) -> None:
        await self._declare(link)
        channel = await link.channel()
        queue = await self._bind(channel)
        self._link, self._answered, self.tried = link, time.monotonic(), 0
        self._joined()
        while True:
            await self._fetch(channel, queue)
            if self._echo is not None and time.monotonic() > self._echo:
                self._ended = f"{link.address}: what is said on the exchange {self.exchange!r} does not come back"
                raise ConnectionError(self._ended)
            await asyncio.sleep(LOOK)

    async def _declare(self, link: Link) -> None:
        """Who may not declare it uses the one that is there."""
        found = await link.ask(
            lambda channel: channel.exchange_declare(self.exchange, passive=True), tolerate=ChannelNotFoundEntity
        )
        if found is None:
            await link.ask(
                lambda channel: channel.exchange_declare(self.exchange, exchange_type="fanout", durable=True)
            )

    async def _bind(self, channel: AbstractChannel) -> str:
        bounds: dict[str, Any] = {"x-max-length": WAITING, "x-max-length-bytes": BYTES}
        declared = await channel.queue_declare(exclusive=True, arguments=bounds)
        queue = str(declared.queue)
        await channel.queue_bind(queue, self.exchange)
        return queue

    async def _fetch(self, channel: AbstractChannel, queue: str) -> None:
        for _ in range(EACH):
            got = await channel.basic_get(queue, no_ack=True)
            self._answered = time.monotonic()
            if not isinstance(got.delivery, commands.Basic.GetOk):
                return
            self._heard(got.body)

    def say(self, word: ClusterWord, lost: Callable[[], None] = lambda: None) -> None:
        """Tell all; `lost` is called where the broker does not take it."""
        link, body = self._link, encode(word)
        if link is None or len(body) > LARGEST:
            lost()
            return
        link.publish(self.exchange, "", body, commands.Basic.Properties(), lambda error: lost() if error else None)

    async def said(self) -> None:
        """Wait until what was said is with the broker."""
        while (link := self._link) is not None and link.waits:  # noqa: ASYNC110 - of a broker that answers at once
            await asyncio.sleep(0.005)

    def hand_over(self, queue: str, body: bytes, confirmed: Confirmed) -> None:
        """Publish a message to another instance's outbox; `confirmed` as in `Link.publish`."""
        if self._link is None or self.trouble is not None:
            asyncio.get_running_loop().call_soon(confirmed, QueueUnavailable(self.trouble or "not connected yet"))
            return
        properties = commands.Basic.Properties(delivery_mode=2, content_type="application/json")
        self._link.publish("", queue, body, properties, confirmed)

    async def is_read(self, queue: str) -> bool:
        """Whether there is such a queue, and somebody reads it."""
        if (link := self._link) is None:
            return False
        try:
            return bool((await link.count(queue)).consumer_count)
        except (*LOST, QueueUnavailable):
            return False
