"""Publishing to RabbitMQ: from a message to what goes over the link, declaring its queue where it has to be.

Owns no messages: each is answered exactly once, by its `done`. Queues of ours are declared first, any other is
published to first: its owner may let us write to it, and do nothing else. Where it is missing it is
declared, and published to again, once. What can never be published - no such queue and none may be declared, a name
that AMQP cannot carry - fails with `Undeliverable`, what has more bytes than the broker takes with `TooLarge`, and
neither spoils anything else.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

from aiormq.exceptions import ChannelClosed

from pipeline.queues.contract import Confirmed, QueueUnavailable, TooLarge
from pipeline.queues.rabbitmq.amqp.broker import Broker
from pipeline.queues.rabbitmq.amqp.link import LOST, Link, Unroutable, say
from pipeline.queues.rabbitmq.amqp.mail import BrokerMessage, compressed
from pipeline.queues.rabbitmq.amqp.outlet import PROVEN, TOO_LARGE
from pipeline.queues.rabbitmq.names import Topology
from pipeline.queues.rabbitmq.parked import ParkedQueues
from settings import Settings

UNLIMITED = 2**62
LOOK = 0.1  # seconds between two looks whether a new queue is safe


class Undeliverable(QueueUnavailable):
    """This message cannot be published, now or later."""


class Publisher:
    """Publishes over whatever link there is.

    Args:
        broker: the connection.
        settings: persistence, encoding, priorities, the exchange.
        topology: the queues that are there.
        parked: the parked queues; told what is on its way there.
        clock: epoch seconds.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        topology: Topology,
        parked: ParkedQueues,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._topology, self._parked, self._clock = topology, parked, clock
        self._persistent, self._gzip = settings.rabbitmq_persistent, settings.rabbitmq_encoding == "gzip"
        self._most_priority = settings.rabbitmq_maxpriority if settings.rabbitmq_queue_type == "classic" else 0
        self._token, self._number = uuid.uuid4().hex, 0
        self._most_bytes, self._proven = UNLIMITED, PROVEN
        self.published = 0

    def learn(self, why: str) -> None:
        """A link ended; the broker may have said how large a message may be."""
        if (found := TOO_LARGE.search(why)) is not None:
            self._proven = min(PROVEN, int(found[1]))

    def attach(self, link: Link) -> None:
        """Use this link; the broker may take more than it did over the last one."""
        self._most_bytes, link.outlet.proven = UNLIMITED, self._proven

    def send(self, mail: BrokerMessage, done: Confirmed) -> None:
        """Publish; `done` with None when the broker has it safe, else with `QueueUnavailable`. Never called at once."""
        link = self._broker.link
        if link is None:
            asyncio.get_running_loop().call_soon(done, QueueUnavailable(f"RabbitMQ is away: {self._broker.why}"))
            return
        if mail.lane is not None:
            done = self._counted(mail.lane, done)
        if mail.queue in self._topology.known or not self._topology.names.temporary(mail.queue):
            self._put(link, mail, done, again=True)
        else:
            link.run(self._declare_and_put(link, mail, link.promised(done), again=True))

    def _counted(self, lane: str, done: Confirmed) -> Confirmed:
        """So that the lane's queue is not removed meanwhile."""
        self._parked.putting(lane, 1)

        def counted(error: Exception | None) -> None:
            self._parked.putting(lane, -1)
            done(error)

        return counted

    async def _declare_and_put(self, link: Link, mail: BrokerMessage, done: Confirmed, *, again: bool) -> None:
        try:
            if mail.lane is not None:
                await self._parked.ensure(link, mail.lane)
            else:
                await self._topology.ensure(link, mail.queue)
        except (ChannelClosed, ValueError, TypeError) as error:
            if self._exchange(mail):  # of the configuration; the default one reaches each queue by its name
                self._put(link, mail, done, again=False, exchange="")
            else:
                done(Undeliverable(f"queue {mail.queue!r} does not exist, and cannot be declared: {say(error)}"))
        except (*LOST, asyncio.CancelledError, QueueUnavailable, Unroutable) as error:
            done(QueueUnavailable(f"{link.address}: {say(error)}"))
            if not isinstance(error, QueueUnavailable | Unroutable):
                raise
        else:
            self._put(link, mail, done, again=again)

    def _exchange(self, mail: BrokerMessage) -> str:
        return "" if self._topology.names.temporary(mail.queue) else self._topology.names.exchange

    def _put(
        self, link: Link, mail: BrokerMessage, done: Confirmed, *, again: bool, exchange: str | None = None
    ) -> None:
        if not mail.id:
            self._number += 1
            mail.id = f"{self._token}-{'c' if mail.copy else ''}{self._number}"  # a copy may be sent anew by its reader
        body = compressed(mail.body) if self._gzip else mail.body
        if len(body) > self._most_bytes:
            error = TooLarge(len(body), self._most_bytes)
            asyncio.get_running_loop().call_soon(done, error)
            return
        encoding = "gzip" if self._gzip else None
        properties = mail.properties(self._clock(), self._persistent, encoding, self._most_priority)

        def confirmed(error: Exception | None) -> None:
            if error is None:
                self.published += 1
                if mail.lane is not None:
                    self._parked.change(mail.lane, 1)  # now: it may expire before it is safe
                if self._topology.young(mail.queue) > 0:
                    link.run(self._when_safe(mail.queue, link.promised(done)))
                else:
                    done(None)
            elif isinstance(error, Unroutable) and again and not link.ended:
                self._topology.forget(mail.queue)
                link.run(self._declare_and_put(link, mail, link.promised(done), again=False))
            elif isinstance(error, Unroutable) and exchange and not link.ended:
                self._put(link, mail, done, again=False, exchange="")
            elif isinstance(error, Unroutable | ValueError):
                done(Undeliverable(str(error)))
            else:
                if isinstance(error, TooLarge):
                    self._most_bytes = min(self._most_bytes, error.most)
                done(error)

        exchange = self._exchange(mail) if exchange is None else exchange
        link.publish(exchange, mail.queue, body, properties, confirmed)

    async def _when_safe(self, queue: str, done: Confirmed) -> None:
        """Confirmed by a queue that is not safe yet: it counts where the connection lives as long as that takes."""
        while (left := self._topology.young(queue)) > 0:  # noqa: ASYNC110 - of a second or two
            await asyncio.sleep(min(left, LOOK))
        done(None)
