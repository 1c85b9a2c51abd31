"""Which queues there are on the broker, their names and arguments, and declaring them.

Owns the names that are known to exist on this connection; forgets them with it. Bound: KNOWN names, then it asks again.
Queues of ours - delays, parked, the index of the parked ones - are always declared; those of the configuration and of
single messages only with `rabbitmq-declare`. One that exists with other arguments is used as it is, and said once.

The delays are quorum queues, whatever the others are: a classic one moves what has expired without waiting until the
outbox has it safe, and when the broker was killed meanwhile, 2,500 to 3,400 of 10,000 messages were gone (3.10.8,
either version of classic queues); of quorum queues, none. It costs a fifth of the rate. Older brokers cannot.

A quorum queue is not safe at once: one that was declared up to 0.7 s before the broker was killed came back empty, with
100 of 100 confirmed messages gone (RabbitMQ 3.10.8 saves its list of them now and then). So what is confirmed of
a queue counts only when that was declared YOUNG seconds ago.

Of whatever type, the queue declared last before a kill may be gone with all that was confirmed of it: RabbitMQ's log
(mnesia's) says that a queue was made, and then, in what disk_log writes 2 s later or with the next entry, that it shall
be so. Without that a restart takes it back. So the queue declared last is safe with the next one, or after YOUNG too.

Or a quorum queue does not come back at all: the one declared last before the kill then waits for ever to be told to
elect a leader (3.10.8: each time, up to 0.7 s after; not after 1 s). It says that it is there and empty, and holds up
for 30 s each channel that publishes to it or gets from it; with all publications on one channel nothing was confirmed.
So each delay is asked before a link is used, and the steps of those that do not answer are left out. They are not
deleted: without a majority of its nodes a queue full of mail looks the same.

No queue has `x-expires`: RabbitMQ counts a queue that holds mail and has no reader as unused, and would drop it.

A classic queue is removed by one question, "delete it if it is empty and unused". For quorum queues RabbitMQ does not
have it (540 NOT_IMPLEMENTED, which ends the connection), so there we look first, and then delete. Between the two lies
one turn on one channel; nobody parks in it but an instance that has just stopped reading the outbox (`ParkedQueues`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from pipeline.queues.rabbitmq.amqp.link import Link, Unroutable, say
from pipeline.queues.rabbitmq.amqp.mail import Properties
from pipeline.queues.rabbitmq.amqp.methods import bind, declare
from pipeline.queues.rabbitmq.delays import STEPS
from settings import Settings

KNOWN = 50_000
UNLIMITED = 1_000_000_000
YOUNG = 2.5  # seconds
ANSWER = 3.0  # seconds for a queue to elect its leader after a restart of the broker, and to answer
CONFIRMS_EXPIRY = (3, 10)  # the RabbitMQ that has TTLs and at-least-once dead-lettering in quorum queues
SOMEBODYS = (ChannelAccessRefused, ChannelLockedResource)  # there is a queue, and only its owner may use it
LONGEST_NAME = 255  # bytes (AMQP 0-9-1, shortstr)
_ODD = re.compile(r"[^A-Za-z0-9_.:,/-]")

Report = Callable[[str, str], None]


def _hexadecimal(found: re.Match[str]) -> str:
    return "".join(f"#{byte:02x}" for byte in found[0].encode(errors="surrogatepass"))


def _arguments(quorum: bool, back: str | None) -> dict[str, Any]:
    """Those of a queue of ours, which dead-letters into `back`.

    RabbitMQ 4 drops what came back to a quorum queue 20 times, unless that is told otherwise.
    """
    arguments: dict[str, Any] = {}
    if back is not None:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": back}
        if quorum:
            arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return arguments | {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED} if quorum else arguments


class QueueNames:
    """Names and arguments of the queues, by the configuration."""

    def __init__(self, settings: Settings) -> None:
        self.outbox = settings.rabbitmq_outbox
        self.exchange = settings.rabbitmq_exchange or ""
        self.durable = settings.rabbitmq_durable or settings.rabbitmq_queue_type == "quorum"
        self.declare = settings.rabbitmq_declare
        self.quorum, self._most = settings.rabbitmq_queue_type == "quorum", settings.rabbitmq_maxpriority
        self.steps = STEPS  # of the delays, milliseconds: those whose queues can be used
        self.confirms_expiry = False  # whether the broker can move what has expired without losing it
        others = ("inbox", "local", "reports", "refused", "dsn", "results", "success", "failure", "retry")
        named = [getattr(settings, f"rabbitmq_{kind}") for kind in others]
        self.configured = list(dict.fromkeys([self.outbox, *filter(None, named)]))

    @property
    def index(self) -> str:
        """The queue that lists the parked queues: AMQP cannot, and they must be found after a restart."""
        return f"{self.outbox}.parked"

    def delay(self, step: int) -> str:
        """The queue of a delay step, in milliseconds."""
        return f"{self.outbox}.delay.{step}"

    def parked(self, lane: str) -> str:
        """The parked queue of a lane. What pamqp lets no queue's name contain is `#` and hexadecimal digits.

        Where the name would be too long, its end is a hash.
        """
        name = f"{self.outbox}.parked.{_ODD.sub(_hexadecimal, lane)}"
        if len(name.encode()) <= LONGEST_NAME:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        return name.encode()[: LONGEST_NAME - 33].decode(errors="ignore") + "@" + digest

    def arguments(self, name: str) -> dict[str, Any]:
        """The arguments of a queue. A classic one says nothing of its type, like those that applications declare."""
        if self.delays(name):
            return _arguments(self.confirms_expiry, back=self.outbox) | {"x-message-ttl": int(name.rpartition(".")[2])}
        if self.temporary(name):
            return _arguments(self.quorum, back=None if name == self.index else self.outbox)
        arguments: dict[str, Any] = {"x-queue-type": "quorum"} if self.quorum else {}
        return arguments | {"x-max-priority": self._most} if self._most and not self.quorum else arguments

    def delays(self, name: str) -> bool:
        """The queue of a delay step."""
        return name.startswith(f"{self.outbox}.delay.")

    def temporary(self, name: str) -> bool:
        """One of our own: a delay, a parked queue, or the index."""
        return name == self.index or name.startswith(f"{self.index}.") or self.delays(name)


class Topology:
    """The queues that are there."""

    def __init__(self, names: QueueNames, report: Report) -> None:
        self.names, self._report = names, report
        self.known: set[str] = set()
        self._odd: set[str] = set()
        self._silent: set[str] = set()  # delays that do not answer
        self._declared: dict[str, float] = {}  # quorum queues of the last YOUNG seconds; when, monotonic
        self._last = ("", -math.inf)  # the queue declared last, and when
        self._lock = asyncio.Lock()

    def forget(self, name: str | None = None) -> None:
        """It may be gone; without a name all of them."""
        if name is None:
            self.known.clear()
        else:
            self.known.discard(name)

    async def prepare(self, link: Link) -> None:
        """The exchange, the outbox and the configured queues. Raises where one cannot be had (`aiormq` errors)."""
        names = self.names
        names.confirms_expiry = link.version >= CONFIRMS_EXPIRY
        if names.declare and names.exchange:
            await link.ask(
                lambda channel: channel.exchange_declare(
                    names.exchange, exchange_type="direct", durable=self.names.durable
                ),
                tolerate=ChannelPreconditionFailed,
            )
        for name in names.configured:
            await self.ensure(link, name)
            if not names.declare:
                with contextlib.suppress(*SOMEBODYS):
                    await link.count(name)

    async def may_publish(self, link: Link) -> None:
        """Whether we may at all, before mail moves that could not be settled: a message for a queue that is not there.

        The last thing to ask: a broker that is out of memory or disk reads nothing more once somebody publishes, and
        gives no answer then, which is no refusal. Raises `QueueUnavailable`.
        """
        answer: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def answered(error: Exception | None) -> None:
            if not answer.done():
                answer.set_result(error)

        link.publish("", f"{self.names.outbox}.delay.none", b"", Properties(message_id="probe"), answered)
        with contextlib.suppress(TimeoutError):
            error = await asyncio.wait_for(answer, ANSWER)
            if error is not None and not isinstance(error, Unroutable):
                raise error

    async def learn_delays(self, link: Link) -> None:
        """Which delays there are, and which of them are not to be used over this link, since they do not answer."""
        # Not all at once: aiormq forgets to confirm the end of a channel where many fail together (7.2.4).
        names = [name for ttl in STEPS if await _exists(link, name := self.names.delay(ttl))]
        answers = await asyncio.gather(*(link.answers(name, ANSWER) for name in names))
        silent = {name for name, answer in zip(names, answers, strict=True) if not answer}
        self.known |= {*names} - silent
        for name in silent - self._silent:
            text = f"queue {name!r} does not answer, and is not used: what is in it waits. Delete it if it stays so"
            self._report("queue-silent", text)
        self._silent = silent
        self.names.steps = tuple(ttl for ttl in STEPS if self.names.delay(ttl) not in silent) or STEPS

    async def ensure(self, link: Link, name: str, then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Declare a queue unless it is known; `then` is awaited when it has been. Raises `aiormq` errors."""
        async with self._lock:
            if name in self.known:
                return
            if self.names.declare or self.names.temporary(name):
                await self._declare(link, name)
            if then is not None:
                await then()
            if len(self.known) >= KNOWN:
                self.known.clear()
            self.known.add(name)

    def young(self, name: str) -> float:
        """Seconds until what is in the queue is safe there, at most: another declaration may make it so earlier."""
        at = self._declared.get(name, self._last[1] if name == self._last[0] else -math.inf)
        left = at + YOUNG - time.monotonic()
        if left <= 0:
            self._declared.pop(name, None)
        return left

    async def _declare(self, link: Link, name: str) -> None:
        arguments = self.names.arguments(name)
        durable = self.names.durable or "x-queue-type" in arguments
        try:
            await link.ask(lambda channel: declare(channel, name, durable, arguments))
            if durable:
                self._last = (name, time.monotonic())
            if "x-queue-type" in arguments:
                self._declared[name] = time.monotonic()
        except ChannelPreconditionFailed as error:
            self._differs(name, f"exists with other arguments, and is used as it is: {say(error)}")
        except (ChannelAccessRefused, ChannelLockedResource) as error:
            if self.names.temporary(name) or not await _exists(link, name):
                raise
            self._differs(name, f"may not be declared, and is used as it is: {say(error)}")
        if self.names.exchange and not self.names.temporary(name):
            try:
                await link.ask(lambda channel: bind(channel, name, self.names.exchange))
            except ChannelAccessRefused as error:
                self._differs(name, f"may not be bound, and is published to without an exchange: {say(error)}")

    def _differs(self, name: str, how: str) -> None:
        if name not in self._odd:
            self._odd.add(name)
            self._report("queue-differs", f"queue {name!r} {how}")

    async def remove(self, link: Link, name: str) -> bool:
        """Delete a queue of ours unless it has a consumer or a message; whether it is gone."""
        async with self._lock:
            self.forget(name)
            await self._declare(link, name)  # it may be of the other type, from another configuration
            if self.names.quorum or name in self._odd:
                gone = await link.ask(lambda channel: _look_and_delete(channel, name), tolerate=ChannelNotFoundEntity)
                return gone is not False
            try:
                await link.ask(lambda channel: channel.queue_delete(name, if_unused=True, if_empty=True))
            except ChannelPreconditionFailed:
                return False
            return True


async def _exists(link: Link, name: str) -> bool:
    try:
        await link.count(name)
    except ChannelNotFoundEntity:
        return False
    except SOMEBODYS:
        pass
    return True


async def _look_and_delete(channel: AbstractChannel, name: str) -> bool:
    """By a message got from it: the count is 0 also while a quorum queue's leader does not answer (250 ms)."""
    readers = (await channel.queue_declare(name, passive=True)).consumer_count
    found = await channel.basic_get(name)
    if found.delivery_tag is not None:
        await channel.basic_nack(found.delivery_tag, requeue=True)
        return False
    if readers:
        return False
    await channel.queue_delete(name)
    return True
