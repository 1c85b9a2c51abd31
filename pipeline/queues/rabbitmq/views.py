"""What people see of the queues on RabbitMQ, and do to them as a whole.

No state. Questions go to the broker one after another, over AMQP only, so that they work with any account that may use
the queues; SHOWN other queues at most, so that names which single messages bring cost little.
"""

from __future__ import annotations

import contextlib
from functools import partial

from aiormq.exceptions import ChannelNotFoundEntity

from pipeline.queues.contract import QueueFigures, QueueUnavailable
from pipeline.queues.rabbitmq.amqp.broker import Broker
from pipeline.queues.rabbitmq.amqp.link import LOST, Ledger, Link, say
from pipeline.queues.rabbitmq.amqp.mail import BrokerMessage, at_once, plain, queued
from pipeline.queues.rabbitmq.held import HeldResults
from pipeline.queues.rabbitmq.lending import BrokerLending
from pipeline.queues.rabbitmq.names import SOMEBODYS, QueueNames, Topology
from pipeline.queues.rabbitmq.parked import ParkedQueues
from pipeline.queues.rabbitmq.sending import Publisher

SHOWN = 100  # queues that are neither the outbox nor temporary


class Views:
    """Figures, and actions on whole queues.

    Args:
        names, topology, broker, sender, parked, lending, held: the queue's parts.
        most: bytes of a body beyond which it is not unpacked.
    """

    def __init__(
        self,
        names: QueueNames,
        topology: Topology,
        broker: Broker,
        sender: Publisher,
        parked: ParkedQueues,
        lending: BrokerLending,
        held: HeldResults,
        most: int,
    ) -> None:
        self._names, self._topology, self._broker = names, topology, broker
        self._sender, self._parked, self._lending, self._most = sender, parked, lending, most
        self._held = held

    async def figures(self) -> QueueFigures:
        """What the queues hold now. Raises `QueueUnavailable`."""
        depths = {name: ready for name, (ready, _) in (await self.depths()).items()}
        held = {f"{name}, held here": n for name, n in (await self._held.counts()).items()}
        outbox, temporary = self._names.outbox, self._names.temporary
        return QueueFigures(
            ready=depths.get(outbox, 0) + self._lending.fresh,
            waiting=sum(n for name, n in depths.items() if self._names.delays(name)),
            unsettled=self._lending.lent,
            parked=dict(self._parked.counts),
            other={name: n for name, n in depths.items() if n and name != outbox and not temporary(name)} | held,
        )

    async def answers(self) -> None:
        """Raises `QueueUnavailable` where the broker says nothing of the outbox."""
        try:
            await self._connected().count(self._names.outbox)
        except (ChannelNotFoundEntity, *LOST) as error:
            raise QueueUnavailable(f"RabbitMQ is away: {say(error)}") from None

    async def depths(self) -> dict[str, tuple[int, int]]:
        """(messages that are ready, consumers) of the outbox, the delays and others. Raises `QueueUnavailable`."""
        link, names = self._connected(), self._names
        known = self._topology.known
        mine = [names.outbox, *(name for name in known if names.delays(name))]
        others = [name for name in known if name != names.outbox and not names.temporary(name)]
        found = {}
        for name in [*mine, *others[:SHOWN]]:
            try:
                count = await link.count(name)
            except ChannelNotFoundEntity:
                self._topology.forget(name)
            except SOMEBODYS:
                continue
            except LOST as error:
                raise QueueUnavailable(f"RabbitMQ is away: {say(error)}") from None
            else:
                found[name] = (count.message_count or 0, count.consumer_count or 0)
        return found

    async def flush(self) -> int:
        """What waits for a time becomes ready now; returns how many. Raises `QueueUnavailable`."""
        link = self._connected()
        return await link.outlive(self._flush(link))

    async def _flush(self, link: Link) -> int:
        ledger = await link.lender()
        delays = [name for name in self._topology.known if self._names.delays(name)]
        return sum([await self._hurry(link, ledger, name) for name in delays])

    async def _hurry(self, link: Link, ledger: Ledger, name: str) -> int:
        """Those that are in the queue of a step now; what comes there later comes out by itself."""
        moved = 0
        for _ in range((await link.count(name)).message_count or 0):
            message = await ledger.channel.basic_get(name)
            if (tag := message.delivery_tag) is None:
                break
            ledger.lent(tag)
            body, size = plain(message.body, message.header.properties.content_encoding, self._most)
            body = message.body if size else at_once(body)
            mail = BrokerMessage(queue=self._names.outbox, body=body, queued=queued(message.header))
            self._sender.send(mail, partial(_moved, ledger, tag))
            moved += 1
        return moved

    async def purge(self, queue: str | None, lane: str | None) -> int:
        """Remove the messages of a queue (the outbox and what waits, unless named), or of a lane's parked queue."""
        link, names, removed = self._connected(), self._names, 0
        everything = lane is None and queue in (None, names.outbox)
        if everything:
            delays = [name for name in self._topology.known if names.delays(name)]
            wanted = [names.outbox, *delays, *map(names.parked, self._parked.counts)]
        else:
            wanted = [names.parked(lane) if lane is not None else str(queue)]
        for name in wanted:
            with contextlib.suppress(ChannelNotFoundEntity):
                removed += await link.purge(name)
        self._parked.purged(lane, everything=everything)
        return removed

    def _connected(self) -> Link:
        if self._broker.link is None:
            raise QueueUnavailable(f"RabbitMQ is away: {self._broker.why}")
        return self._broker.link


def _moved(ledger: Ledger, tag: int, error: Exception | None) -> None:
    if error is None:
        ledger.ack(tag)
    else:
        ledger.back(tag)
