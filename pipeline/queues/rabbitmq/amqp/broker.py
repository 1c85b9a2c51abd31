"""Staying connected to the broker: at start, and again and again after a loss.

Owns the link in use. Without one, it tries all addresses in turn, with a pause that grows to LONGEST_PAUSE, or, where
a broker answers and says no, to REFUSED_PAUSE. A connection alone is no success: the pause begins anew when the link
has worked, that is when the broker lends from the outbox for a TICK, where that is wanted. Until then the last reason
stands. A link on which nothing is confirmed for `stall` seconds is given up, also when its TCP connection lives on; for
SLOW times as long where the broker shows by its heartbeats that it lives; and not at all where it has said that it
takes nothing now (connection.blocked: memory or disk alarm).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from aiormq.exceptions import ChannelNotFoundEntity

from pipeline.process.supervisor import awaited, supervisor
from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.rabbitmq.amqp.link import LOST, Link, Unreachable, say
from settings import Settings

TICK = 0.5  # seconds between looks at the link
FIRST_PAUSE, LONGEST_PAUSE, REFUSED_PAUSE = 0.2, 3.0, 30.0  # seconds between tries to connect
SAY_AGAIN = 60.0  # seconds
SLOW = 6  # times as long as one that is silent may a busy broker take
CHANCE = random.SystemRandom()

Report = Callable[[str, str], None]


class Broker:
    """The connection, made anew whenever it is lost.

    Args:
        settings: addresses, verification, the instance's name.
        prepare: declares and learns what there is over a new link, before it is used.
        attach: begins to use it.
        lost: told (link, why) when a link that was in use has ended.
        look: awaited every TICK while there is a link.
        works: whether the broker does all that is wanted of it over the link in use.
        report: told (kind, text) when the broker goes away and comes back.
        stall: seconds without a confirmation after which the broker is away.
    """

    def __init__(
        self,
        settings: Settings,
        prepare: Callable[[Link], Coroutine[Any, Any, None]],
        attach: Callable[[Link], None],
        lost: Callable[[Link, str], None],
        look: Callable[[Link], Coroutine[Any, Any, None]],
        works: Callable[[], bool],
        report: Report,
        stall: float,
    ) -> None:
        assert settings.rabbitmq_address is not None
        self._addresses = deque(settings.rabbitmq_address.get_secret_value().split(","))
        self._verify, self._instance = settings.rabbitmq_verify, settings.server_id
        self._prepare, self._attach, self._look_at, self._told = prepare, attach, look, lost
        self._works = works
        self._report, self._stall = report, stall
        self.link: Link | None = None
        self.why = "not connected yet"  # why there is no link
        self.blocked = False
        self.connected_at = 0.0  # monotonic seconds
        self.trouble: str | None = None  # why the last link ended, or none is made; until one has worked
        self._pause, self._most_pause = 0.0, LONGEST_PAUSE
        self._said, self._said_at = "", 0.0
        self._away = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def failing(self) -> bool:
        """It was tried more than once, and nothing has worked since."""
        return self.trouble is not None and self._pause > FIRST_PAUSE

    async def start(self) -> None:
        """Connect, and stay so. Raises `QueueUnavailable` with one line that names every address and what it said."""
        await self._connect()
        self._keeper = supervisor().keep(self._keep, "broker")

    async def stop(self) -> None:
        """Reconnect no more.

        Asked again until it is so: where the connection fails in the same moment, aiormq raises that failure in place
        of the cancellation, and what was cancelled goes on.
        """
        while self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=TICK)
            if self._keeper.done():
                self._keeper = None

    async def close(self) -> None:
        """End the connection properly."""
        if self.link is not None:
            await self.link.close()
        self.why = "the queue is not open"

    async def _connect(self) -> None:
        """To the first address that works; the one that worked last is the first one tried."""
        failures: list[QueueUnavailable] = []
        for _ in range(len(self._addresses)):
            try:
                await self._use(await Link.open(self._addresses[0], self._verify, self._instance, self._lost))
            except QueueUnavailable as error:
                failures.append(error)
                self._addresses.rotate(-1)
            else:
                return
        kind = Unreachable if all(isinstance(error, Unreachable) for error in failures) else QueueUnavailable
        raise kind("; ".join(map(str, failures)))

    async def _use(self, link: Link) -> None:
        try:
            await link.outlive(self._prepare(link))
        except ChannelNotFoundEntity as error:
            await link.close()
            raise QueueUnavailable(f"{link.address}: {say(error)}, and rabbitmq-declare is off") from None
        except (*LOST, QueueUnavailable, ValueError) as error:
            await link.close()
            raise QueueUnavailable(f"{link.address}: {say(error)}") from None
        if link.ended:
            raise QueueUnavailable(f"{link.address}: the connection was lost at once")
        self.link, self.blocked = link, False
        self.connected_at = time.monotonic()
        self._away.clear()
        self._attach(link)

    def _lost(self, link: Link, why: str) -> None:
        if self.link is not link:
            return
        self.link, self.why = None, why
        self._away.set()
        if self._keeper is not None:
            self._refused(f"{link.address}: {why}", "queue-lost")
        self._told(link, why)

    def _refused(self, why: str, kind: str = "queue-away") -> None:
        """It does not work: said when that begins, when the reason is another one, and once a minute."""
        self.trouble = why
        now = time.monotonic()
        if self._said != why or now - self._said_at >= SAY_AGAIN:
            self._said, self._said_at = why, now
            self._report(kind, why)

    def _has_worked(self) -> None:
        if self.trouble is not None:
            self.trouble, self._said = None, ""
            self._report("queue-back", f"{self._addresses[0].rpartition('@')[2]}: connected again")
        self._pause, self._most_pause = 0.0, LONGEST_PAUSE

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._away.wait(), TICK)
            if self.link is None:
                await self._reconnect()
            elif self._works() and time.monotonic() - self.connected_at >= TICK:
                self._has_worked()
            await self._look()

    async def _reconnect(self) -> None:
        """With a pause before each try but the first after a link that has worked."""
        while self.link is None:
            if self._pause:
                await asyncio.sleep(self._pause * (0.5 + CHANCE.random() / 2))
            self._pause = min(max(FIRST_PAUSE, 2 * self._pause), self._most_pause)
            try:
                await self._connect()
            except Unreachable as error:
                self.why = str(error)
                self._most_pause = LONGEST_PAUSE
                self._refused(self.why)
            except QueueUnavailable as error:
                self.why = str(error)
                self._most_pause = REFUSED_PAUSE
                self._refused(self.why)
            else:
                self._most_pause = REFUSED_PAUSE  # should it say no now

    async def _look(self) -> None:
        if (link := self.link) is None:
            return
        self._block(link.blocked)
        if self._stalls(link):
            return
        looking = awaited(link.outlive(self._look_at(link)), "broker look")
        looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            while not looking.done():  # a busy broker may take long for all of it
                await asyncio.wait({looking}, timeout=TICK)
                if self._stalls(link):
                    return
            looking.result()
        except (*LOST, QueueUnavailable) as error:
            if not self.blocked:
                link.end(say(error))
        finally:
            looking.cancel()

    def _stalls(self, link: Link) -> bool:
        """End a link whose broker has not answered for too long; one that is out of memory may take its time.

        One that is busy gets SLOW times as long, while it shows that it lives: to end the link would have it send all
        again, which makes it busier, and messages without an id come twice.
        """
        if self.blocked:
            return False
        patience = self._stall * (1 if link.silent > self._stall else SLOW)
        for seconds, what in ((link.waits, "confirmed"), (link.unanswered, "answered")):
            if seconds > patience:
                link.end(f"has {what} nothing for {patience:g} seconds")
                return True
        return False

    def _block(self, blocked: bool) -> None:
        if blocked and not self.blocked:
            self.why = "the broker is out of memory or disk, and takes nothing now"
            self._report("queue-blocked", self.why)
        elif self.blocked and not blocked:
            self._report("queue-back", "the broker takes messages again")
        self.blocked = blocked
