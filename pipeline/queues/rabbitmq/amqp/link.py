"""One connection to the broker and its channels: publishing with confirms, lending and settling, questions.

Owns the connection, what is published and not confirmed, and the delivery tags that are not settled. Bound: the
callers' (credit, intake sessions). When anything of it fails, all of it ends: every publication under way is answered,
`lost` is called once, and the owner of the link opens another one. Nothing here reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.channel import Channel
from aiormq.connection import Connection
from aiormq.exceptions import (
    AMQPError,
    ChannelClosed,
    ConnectionNotAllowed,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from pamqp import commands
from yarl import URL

from pipeline.process.supervisor import awaited
from pipeline.queues.contract import Confirmed, QueueFull, QueueUnavailable, TooLarge
from pipeline.queues.rabbitmq.amqp import methods as methods
from pipeline.queues.rabbitmq.amqp.frames import Frames, Lenient
from pipeline.queues.rabbitmq.amqp.outlet import PublishChannels
from settings.config.values import masked

HEARTBEAT = 10  # seconds; the broker lets go of what we hold after two of them without a sign of us
OPENING = 10.0  # seconds for a connection to be made
CLOSING = 3.0  # seconds for it to end properly
AWAY, SILENT = "cannot be reached", "no answer"
GONE = "the connection was lost"
LOST = (AMQPError, OSError, RuntimeError, EOFError, TimeoutError)  # what aiormq raises when a connection fails

Answer = TypeVar("Answer")

# What goes wrong on a connection is said by us, in one line, and not by the library with its traceback.
for name in ("aiormq", "aiormq.connection", "aiormq.channel"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


class Unreachable(QueueUnavailable):
    """There is no broker there, or it does not answer."""


class Unroutable(Exception):
    """The queue that was published to does not exist."""


class BrokerRejected(QueueFull):
    """The queue that was published to does not take a message now: it is full, or has no majority of its nodes."""


class Ledger:
    """The unsettled delivery tags of a channel. What is settled in order goes out as one acknowledgement."""

    def __init__(self, link: Link, channel: AbstractChannel) -> None:
        self.link, self.channel = link, channel
        self.held = False  # keep acknowledgements back for now
        self._open: dict[int, None] = {}  # unsettled, ascending
        self._done: set[int] = set()
        self._back: list[int] = []
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._open)

    def lent(self, tag: int) -> None:
        """A message came with this tag."""
        self._open[tag] = None

    def ack(self, tag: int) -> None:
        """It is done."""
        self._done.add(tag)
        self.flush()

    def back(self, tag: int) -> None:
        """Back into its queue, at its place."""
        self._open.pop(tag, None)
        self._back.append(tag)
        self.flush()

    def flush(self) -> None:
        """Tell the broker soon: what comes together goes together."""
        if not self._scheduled and not self.held and (self._done or self._back):
            self._scheduled = True
            self.link.run(self._tell())

    async def _tell(self) -> None:
        """One at a time: a "multiple" must not overtake a single one that it covers."""
        while not self.held and (self._done or self._back):
            await self._tell_once()
        self._scheduled = False

    async def _tell_once(self) -> None:
        done, self._done = self._done, set()
        back, self._back = self._back, []
        upto = count = 0
        for tag in itertools.takewhile(done.__contains__, self._open):
            upto, count = tag, count + 1
        for tag in done:
            self._open.pop(tag, None)
        if count > 1 and not back:  # "multiple" is everything before it, and must not take what is given back
            await self.channel.basic_ack(upto, multiple=True, wait=False)
            done = {tag for tag in done if tag > upto}
        for tag in sorted(done):
            await self.channel.basic_ack(tag, wait=False)
        for tag in back:
            await self.channel.basic_nack(tag, requeue=True, wait=False)


class Link:
    """A connection in use.

    Args:
        connection: connected.
        address: for people, without the password.
        lost: told once when it has ended, with why.
    """

    def __init__(self, connection: AbstractConnection, address: str, lost: Callable[[Link, str], None]) -> None:
        self.address = address
        self.ended = False
        self._connection, self._lost = connection, lost
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unconfirmed: dict[int, tuple[float, Confirmed]] = {}  # by number; the first one is the oldest
        self._promised: dict[int, Confirmed] = {}
        self._numbers = itertools.count()
        self.outlet: PublishChannels
        self._questions: AbstractChannel | None = None
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        self._frames: Frames
        self._unblocked: asyncio.Task[None] | None = None
        connection.closing.add_done_callback(lambda future: self._over(future, "the connection was closed"))

    @classmethod
    async def open(cls, address: str, verify: bool, name: str, lost: Callable[[Link, str], None]) -> Link:
        """Connect. Raises `QueueUnavailable` with one line that names the broker, and never the password."""
        shown = masked(address)
        try:
            url = URL(address).update_query(heartbeat=HEARTBEAT, name=name)
            url = url if verify else url.update_query(no_verify_ssl=1)
            transport = Lenient()
            connection = aiormq.Connection(url, transport_factory=transport)
            async with asyncio.timeout(OPENING):
                await connection.connect()
                link = cls(connection, shown, lost)
                link._frames = transport.frames
                link.outlet = PublishChannels(connection, cast(Channel, await link.channel(confirms=True)))
        except (*LOST, ValueError) as error:
            text = _explain(error, address)
            kind = Unreachable if text.startswith((AWAY, SILENT)) else QueueUnavailable
            raise kind(f"{shown}: {text}") from None
        return link

    # -- life

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; an error of the connection ends the link."""
        self._begin(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, (*LOST, asyncio.CancelledError)) and not _nameless(error):
                raise
            if not self.ended:
                self.end(say(error))

    def _begin(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """A task that ends soon after the link."""
        task = awaited(work, "broker")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def outlive(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Await what aiormq may never end, or end with a nameless `Exception`, once the connection is lost.

        Raises:
            ConnectionError: the link has ended.
        """
        if self.ended:
            work.close()
            raise ConnectionError(GONE)
        task = self._begin(work)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # also where nothing waits
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        if task.cancelled() or _nameless(task.exception()):
            raise ConnectionError(GONE)
        return task.result()

    def _over(self, future: asyncio.Future[Any], why: str) -> None:
        error = None if future.cancelled() else future.exception()
        self.end(say(error) if error is not None else why)

    def end(self, why: str) -> None:
        """Use it no more: answer what is under way, tell the owner, and close what is left."""
        if self.ended:
            return
        self.ended = True
        unanswered = [*self._promised.values(), *(confirmed for _, confirmed in self._unconfirmed.values())]
        self._promised, self._unconfirmed = {}, {}
        if self._unblocked is not None:
            self._unblocked.cancel()
        self._begin(self._close())
        self._lost(self, why)
        for confirmed in unanswered:
            confirmed(QueueUnavailable(f"{self.address}: {why}"))

    async def _close(self) -> None:
        with contextlib.suppress(*LOST, asyncio.CancelledError):
            await asyncio.wait_for(self._connection.close(), CLOSING)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()  # aiormq lets some wait for ever: they would keep their locks and their counts

    async def close(self) -> None:
        """End it properly; what is not settled is in its queue again."""
        if not self.ended:
            self.end("closed")
        for task in list(self._tasks):
            with contextlib.suppress(*LOST, asyncio.CancelledError):
                await task

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A channel whose end is the end of the link."""
        channel = await self._connection.channel(publisher_confirms=confirms)
        channel.closing.add_done_callback(lambda future: self._over(future, "the broker closed a channel"))
        return channel

    # -- publishing

    def promised(self, confirmed: Confirmed) -> Confirmed:
        """`confirmed`, to be called once: at the latest when this link ends.

        What waits for an answer of a broker that is gone may never go on: aiormq does not end all of its futures.
        """
        number = next(self._numbers)
        self._promised[number] = confirmed

        def answer(error: Exception | None) -> None:
            if (waiting := self._promised.pop(number, None)) is not None:
                waiting(error)

        return answer

    def publish(self, exchange: str, queue: str, body: bytes, properties: Any, confirmed: Confirmed) -> None:
        """Publish; `confirmed` with None when the broker has it safe, else with `Unroutable` or `QueueUnavailable`."""
        number = next(self._numbers)
        self._unconfirmed[number] = (time.monotonic(), confirmed)
        self._begin(self._publish(number, exchange, queue, body, properties))

    async def _publish(self, number: int, exchange: str, queue: str, body: bytes, properties: Any) -> None:
        error: Exception | None = None
        try:
            await self.outlet.publish(exchange, queue, body, properties)
        except TooLarge as failure:
            error = failure
        except PublishError:
            error = Unroutable(f"there is no queue {queue!r}")
        except DeliveryError:
            error = BrokerRejected(f"queue {queue!r} takes no message now: it is full, or does not work")
        except (*LOST, asyncio.CancelledError) as failure:
            self.end(say(failure))
            return
        except Exception as failure:  # a name or a header that AMQP cannot carry
            if _nameless(failure):
                self.end(GONE)
                return
            error = ValueError(f"cannot be published to {queue!r}: {failure}")
        if (waiting := self._unconfirmed.pop(number, None)) is not None:
            waiting[1](error)

    @property
    def silent(self) -> float:
        """Seconds without any word of the broker, be it a heartbeat."""
        return time.monotonic() - self._frames.heard

    @property
    def waits(self) -> float:
        """Seconds for which the oldest publication has been waiting for its confirmation."""
        oldest = next(iter(self._unconfirmed.values()), None)
        return time.monotonic() - oldest[0] if oldest is not None else 0.0

    @property
    def busy(self) -> bool:
        """Something is under way: publications, acknowledgements, questions."""
        return bool(self._tasks)

    @property
    def blocked(self) -> bool:
        """The broker is out of memory or disk, and has said that it takes nothing (connection.blocked)."""
        if self._unblocked is None or self._unblocked.done():
            self._unblocked = awaited(self._connection.ready(), "broker")
            return False
        return True

    @property
    def version(self) -> tuple[int, ...]:
        """RabbitMQ's; (0,) of a broker that is another one."""
        said = cast(Connection, self._connection).server_properties
        if said.get("product") != "RabbitMQ":
            return (0,)
        return tuple(int(part) for part in re.findall(r"\d+", str(said.get("version", 0)))[:2])

    # -- lending

    async def consume(
        self, ledger: Ledger, queue: str, most: int, take: Callable[[DeliveredMessage], Coroutine[Any, Any, None]]
    ) -> str:
        """Have at most `most` unsettled messages of a queue lent; returns the consumer's tag."""
        await ledger.channel.basic_qos(prefetch_count=most)
        answer = await ledger.channel.basic_consume(queue, take)
        assert answer.consumer_tag is not None
        return answer.consumer_tag

    async def lender(self, cancelled: Callable[[], None] | None = None) -> Ledger:
        """A channel to be lent messages on; `cancelled` is called when the broker ends a consumer by itself."""
        channel = await self.channel()
        if cancelled is not None:
            channel.on_consumer_cancel_callbacks.add(lambda _: cancelled())
        return Ledger(self, channel)

    # -- questions

    async def ask(
        self,
        question: Callable[[AbstractChannel], Awaitable[Answer]],
        tolerate: type[ChannelClosed] | None = None,
    ) -> Answer | None:
        """Ask the broker something; a "no" closes the channel asked on (AMQP 0-9-1), which costs nothing else.

        Raises:
            ChannelClosed: the answer is no, and not of the kind to `tolerate`.
            ConnectionError: the link has ended.
        """
        async with self._asking:
            self._asked_at = time.monotonic()
            try:
                return await self.outlive(self._put(question))
            except BaseException as error:
                self._questions = None
                if tolerate is not None and isinstance(error, tolerate):
                    return None
                raise
            finally:
                self._asked_at = None

    @property
    def unanswered(self) -> float:
        """Seconds for which the question that is asked now has no answer; 0 without one. Many may stand in line."""
        return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    async def _put(self, question: Callable[[AbstractChannel], Awaitable[Answer]]) -> Answer:
        if self._questions is None or self._questions.is_closed:
            self._questions = await self._connection.channel(publisher_confirms=False)
        return await question(self._questions)

    async def answers(self, queue: str, seconds: float) -> bool:
        """Whether a queue does within so many seconds. Raises `ChannelNotFoundEntity` where there is none.

        By a message got from it, which is in its place again when the channel is closed: a count comes also of a quorum
        queue without a leader. On a channel of its own, which such a one holds up.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.outlive(self._get(queue))
        except TimeoutError:
            return False
        return True

    async def _get(self, queue: str) -> None:
        channel = await self._connection.channel(publisher_confirms=False)
        await channel.basic_get(queue)
        await channel.close()

    async def count(self, queue: str) -> commands.Queue.DeclareOk:
        """(message_count, consumer_count) of a queue. Raises `ChannelNotFoundEntity` where there is none."""
        answer = await self.ask(lambda channel: methods.count(channel, queue))
        assert answer is not None
        return answer

    async def purge(self, queue: str) -> int:
        """Empty a queue; returns how many went. Raises `ChannelNotFoundEntity` where there is none."""
        return await self.ask(lambda channel: methods.purge(channel, queue)) or 0


def say(error: BaseException) -> str:
    """In one line."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, AMQPError) and error.args:
        text = str(error.args[-1])
    return " ".join(text.split())[:300]


def _explain(error: Exception, address: str) -> str:
    """What to do about a connection that could not be made."""
    url = URL(address)
    if isinstance(error, ProbableAuthenticationError):
        return f"the broker refuses the login of {url.user!r}"
    closed_at_open = "Connection.OpenOk" in str(error) and "Connection.Close" in str(error)  # all that aiormq says
    if isinstance(error, ConnectionNotAllowed) or closed_at_open:
        return f"the broker does not let {url.user!r} use this virtual host, or has none of this name"
    if isinstance(error, TimeoutError):
        return f"{SILENT} in {OPENING:g} seconds"
    return f"{AWAY}: {say(error)}"


def _nameless(error: BaseException | None) -> bool:
    """What aiormq raises in place of an answer where the connection is closed meanwhile: `Exception()`."""
    return type(error) is Exception and not error.args
