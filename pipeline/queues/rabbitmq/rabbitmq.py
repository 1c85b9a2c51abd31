"""The queue contract on RabbitMQ (AMQP 0-9-1), for one instance or many.

Owns the consumer's stream; its parts own the rest. A settlement first publishes what replaces the message, waits until
the broker has confirmed all of it, and then acknowledges; a publication is confirmed when all its messages are. Where
the connection is lost in between, what was not confirmed is published again: a copy may come twice, nothing is lost.

While the broker is away, publishing fails at once (intake answers 451), what is lent goes on, and its settlements wait
in memory, bounded by credit. Bodies in memory: those lent, and at most as many that the broker sent and credit that
parked messages took meanwhile keeps back.

A message's `expires` in its parked queue is a TTL of its own, which dead-letters into the outbox; RabbitMQ looks at the
head of the queue only, which is the oldest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import reactivex as rx
from aiormq.abc import DeliveredMessage
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from operators.deliveries.delivery import Lease
from pipeline.queues.contract import Body, Confirmed, QueueFigures, QueueUnavailable, Settlement
from pipeline.queues.listing import EVERYTHING, Action, Browsed, Filter, OpenedMessage, Place, Unbrowsable
from pipeline.queues.rabbitmq.amqp.broker import TICK, Broker, Report
from pipeline.queues.rabbitmq.amqp.link import BrokerRejected, Ledger, Link
from pipeline.queues.rabbitmq.amqp.mail import (
    DUE,
    LANE,
    SLACK,
    BrokerMessage,
    following,
    headers,
    is_own,
    number,
    plain,
    queued,
    waits,
)
from pipeline.queues.rabbitmq.aside import Aside
from pipeline.queues.rabbitmq.delays import BRIEF, ClockDoubt
from pipeline.queues.rabbitmq.held import HeldResults
from pipeline.queues.rabbitmq.lending import BrokerLending
from pipeline.queues.rabbitmq.loans import BrokerLoan, Loans
from pipeline.queues.rabbitmq.names import QueueNames, Topology
from pipeline.queues.rabbitmq.parked import LINGER, ParkedQueues
from pipeline.queues.rabbitmq.reading import Reader
from pipeline.queues.rabbitmq.sending import Publisher, Undeliverable
from pipeline.queues.rabbitmq.settled import Key, SettledNotes
from pipeline.queues.rabbitmq.settled import key as identity
from pipeline.queues.rabbitmq.settling import Settling, put_off
from pipeline.queues.rabbitmq.survey import BrokerSurveys
from pipeline.queues.rabbitmq.trouble import Trouble
from pipeline.queues.rabbitmq.views import Views
from pipeline.queues.survey import AskSurvey
from settings import Settings

FULL = "no mail is sent: as many results are held as may be"
STALL = 10.0  # seconds without a confirmation after which the broker is away
EARLY = 0.02  # seconds before its time that a message is lent
# Bytes of a packed body beyond which it is not unpacked on the event loop: of so many come 64 MB, in 0.1 s.
HEAVY = 65_536


def unreported(kind: str, text: str) -> None:
    """The default report: it does nothing."""


class RabbitQueue:
    """The queue contract on RabbitMQ.

    Args:
        settings: the keys `rabbitmq-*`.
        most: bytes of a body beyond which it is not unpacked.
        report: told (kind, text) when the broker goes away and comes back, and what it refuses.
        clock: epoch seconds.
        linger: seconds for which an empty parked queue is kept.
        stall: seconds without a confirmation after which the broker is away.
        folder: where to note what is settled; None: in memory.
    """

    def __init__(
        self,
        settings: Settings,
        most: int = 2**31,
        report: Report = unreported,
        clock: Callable[[], float] = time.time,
        linger: float = LINGER,
        stall: float = STALL,
        folder: Path | None = None,
    ) -> None:
        self._most, self._clock, self._stall = most, clock, stall
        self.names = QueueNames(settings)
        self.topology = Topology(self.names, report)
        self.settled = SettledNotes(folder / "settled" if folder is not None else None, report)
        self.loans = Loans(self.settled)
        self.lending = BrokerLending(self.loans, lambda: self.parked_queues.wanted)
        self.broker = Broker(settings, self._prepare, self._attach, self._lost, self._look, self._works, report, stall)
        self.parked_queues = ParkedQueues(
            self.topology,
            self._arrive,
            lambda: self._room,
            lambda lane: lane in self.loans.lanes,
            self.lending.emit,
            linger,
        )
        self.sender = Publisher(self.broker, settings, self.topology, self.parked_queues, clock)
        self.aside = Aside(settings, self.sender, report)
        self.trouble = Trouble(report)
        self.held = HeldResults(folder / "held" if folder is not None else None, self.sender.send, report)
        self.settling = Settling(
            self.names,
            self.broker,
            self.loans,
            self.sender,
            self.parked_queues,
            clock,
            self.held,
            self.trouble,
            self.lending.again,
            self._freed,
        )
        self.reader = Reader(self.names.outbox, self._arrive)
        self.views = Views(
            self.names, self.topology, self.broker, self.sender, self.parked_queues, self.lending, self.held, most
        )
        self._surveys = BrokerSurveys(
            settings, self.names, self.broker, self.parked_queues, self.lending, self.held, self.views.depths
        )
        self._ids = itertools.count(1)
        self._unpacking = asyncio.Semaphore()
        self._recalled_at = 0.0
        self._doubt = ClockDoubt()
        self._ledger: Ledger | None = None

    # -- life

    async def start(self) -> None:
        """Connect, and declare what is configured. Raises `QueueUnavailable` with one clear line where it cannot."""
        self._loop = asyncio.get_running_loop()
        await self.broker.start()

    async def _prepare(self, link: Link) -> None:
        self.topology.forget()
        await self.topology.prepare(link)
        await self.topology.learn_delays(link)
        self._ledger = await link.lender(lambda: link.end(f"queue {self.names.outbox!r} was deleted"))
        await self.parked_queues.prepare(link)
        await self.topology.may_publish(link)

    def _attach(self, link: Link) -> None:
        assert self._ledger is not None
        self.sender.attach(link)
        self.reader.attach(link, self._ledger)
        self.parked_queues.attach(link)
        self._steer()

    def _lost(self, link: Link, why: str) -> None:
        self.sender.learn(why)
        self._forget()
        self.reader.lost()
        self.parked_queues.lost(self.loans.lanes)
        self.loans.lost()

    async def _look(self, link: Link) -> None:
        self._doubt.look(self._clock(), time.monotonic())
        self._steer()
        self.settling.look()
        if missing := self.loans.missing():
            self.parked_queues.miss(missing)
        if self.parked_queues.queues and not self.broker.blocked:
            readers = (await link.count(self.names.outbox)).consumer_count or 0
            await self.parked_queues.look(alone=readers <= self.reader.consumers)

    def _works(self) -> bool:
        """Whether the broker lends, where that is wanted."""
        return self.reader.settled

    async def close(self) -> None:
        """Confirm what is under way, and close. What is still lent is lent again at the next start."""
        observer, self.lending.observer = self.lending.observer, None
        await self.broker.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet(), self._stall)
        await self.broker.close()
        self.settling.abandon()
        await self.held.close()
        self.settled.close()
        if observer is not None:
            observer.on_completed()

    async def _quiet(self) -> None:
        while (link := self.broker.link) is not None and link.busy:  # noqa: ASYNC110 - acknowledgements too
            await asyncio.sleep(0.005)

    # -- lending

    def consume(self, credit: int) -> Observable[Lease]:
        """The messages of the outbox, each lent until it is settled; at most `credit` at once. One subscriber."""

        def subscribe(
            observer: abc.ObserverBase[Lease], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            if self.lending.observer is not None:
                observer.on_error(QueueUnavailable(f"{self.names.outbox}: is consumed already"))
                return Disposable()
            self.settled.open()
            self.held.open()
            self.lending.observer, self.lending.credit = observer, credit
            self.reader.credit(credit)
            self._steer()
            return Disposable(self.cease)

        return rx.create(subscribe)

    def cease(self) -> None:
        """Lend no more. What is lent can still be settled; what is given back is in the queue again."""
        self.lending.observer = None
        for loan in self._forget():
            if loan.ledger is not None:
                loan.ledger.back(loan.tag)
        self._steer()

    def _forget(self) -> list[BrokerLoan]:
        """What came and was not given out is the broker's again."""
        loans = self.lending.forget()
        for loan in loans:
            if loan.lease.recalled is not None:
                self.parked_queues.change(loan.lease.recalled, 1)
        return loans

    def recall(self, lane: str, most: int) -> None:
        """Lend up to `most` messages of a lane's parked queue, oldest first, in the stream of `consume`, within credit.

        Calls add up. Where the lane has fewer, the rest lapses; and where the connection is lost.
        """
        if self.lending.observer is not None:
            self.parked_queues.recall(lane, most)
            self._steer()

    @property
    def free(self) -> int:
        """Credit that is not used now."""
        return self.lending.free

    @property
    def lent(self) -> int:
        """Messages that are lent."""
        return self.lending.lent

    @property
    def _room(self) -> int:
        return self.free - self.parked_queues.fetching if self._lends else 0

    @property
    def _lends(self) -> bool:
        return self.lending.observer is not None and not self.held.full

    @property
    def full(self) -> str | None:
        """Why no new message is taken now: the broker is out of memory or disk. None while it is not."""
        return self.broker.why if self.broker.blocked else None

    @property
    def fault(self) -> str | None:
        """What is wrong with it now: the broker is away, or the outbox or all takes nothing. None while mail is taken
        and sent.
        """
        away = self.broker.trouble or (self.broker.why if self.broker.link is None else None)
        return self.full or away or (FULL if self.held.full else None) or self.trouble.of(self.names.outbox)

    @property
    def troubles(self) -> list[str]:
        """What is wrong with queues that results and others go to, a line each; mail goes on all the same."""
        fault = self.fault
        noting = [self.settled.trouble] if self.settled.trouble else []
        return [*noting, *self.held.faults, *(text for text in self.trouble.faults if text != fault)]

    def notice(self, parked: Mapping[str, int]) -> None:
        """Another process has parked messages in these lanes, as far as it knows so many."""
        self.parked_queues.notice(parked)

    def parked(self) -> Mapping[str, int]:
        """Messages in the parked queues, by lane; those lent are not counted. A live view, not a copy."""
        return self.parked_queues.counts

    def _steer(self) -> None:
        """Fresh messages have all of the credit, or half of it while parked ones are called in."""
        now = time.monotonic()
        if self.parked_queues.wanted or self.loans.lanes:
            self._recalled_at = now
        if not self._lends:
            self.reader.want(0)
        else:
            self.reader.want(1 if now - self._recalled_at < 2 * TICK else 2)

    def _arrive(self, ledger: Ledger, message: DeliveredMessage, lane: str | None = None) -> None:
        """The broker has sent a message of the outbox, or of a lane's parked queue. Nothing is raised."""
        if ledger.link.ended:
            return  # read before the loss, and handled after it: the broker sends it again
        try:
            self._take(ledger, message, lane)
        except Exception as error:
            self.aside.take(ledger, message, error)

    def _take(self, ledger: Ledger, message: DeliveredMessage, lane: str | None) -> None:
        tag, properties = message.delivery_tag, message.header.properties
        assert tag is not None
        ledger.lent(tag)
        redelivered = bool(getattr(message.delivery, "redelivered", False))
        ours = waits(headers(message.header))
        # What replaces a message has an id that follows from that, whatever its body is.
        key = identity(properties.message_id, b"" if ours and is_own(properties.message_id) else message.body)
        if (orphan := self.loans.reclaim(key, ledger, tag)) is not None:
            if orphan.lane is not None:
                self.parked_queues.change(orphan.lane, -1)
            self.settling.carry_out(orphan)
            return
        again = self.settled.again(key, redelivered, ours) or (ours and self.loans.lends(key))
        if again or self.loans.known(properties.message_id, redelivered):
            ledger.ack(tag)
            if lane is not None:
                self.parked_queues.change(lane, -1)
                self.recall(lane, 1)  # another one in its place: the caller waits for as many as there are
            return
        if lane is None and properties.content_encoding is not None and len(message.body) > HEAVY:
            ledger.link.run(self._unpack(ledger, message, key))
            return
        self._come(ledger, message, lane, key, *plain(message.body, properties.content_encoding, self._most))

    async def _unpack(self, ledger: Ledger, message: DeliveredMessage, key: Key) -> None:
        """One at a time and beside the event loop, which many bombs would hold up until the broker seems away."""
        async with self._unpacking:
            if ledger.link.ended:
                return
            encoding = message.header.properties.content_encoding
            body, size = await asyncio.to_thread(plain, message.body, encoding, self._most)
        if ledger.link.ended:
            return
        try:
            self._come(ledger, message, None, key, body, size)
        except Exception as error:
            self.aside.take(ledger, message, error)

    def _come(
        self, ledger: Ledger, message: DeliveredMessage, lane: str | None, key: Key, body: bytes, size: int
    ) -> None:
        """It is unpacked, and can be lent."""
        tag, redelivered = message.delivery_tag, bool(getattr(message.delivery, "redelivered", False))
        assert tag is not None
        if lane is None and not size and self._goes_round(ledger, message, body, key):
            return
        if self.lending.observer is None:
            ledger.back(tag)
            return
        recalled = lane
        if lane is None and self.parked_queues.has(expired := headers(message.header).get(LANE)):
            recalled = expired
        if recalled is not None:
            self.parked_queues.change(recalled, -1)
        lease = Lease(next(self._ids), body, queued(message.header), recalled, redelivered, size)
        self.lending.lend(BrokerLoan(lease, key, ledger, tag, lane, message.header.properties.message_id))

    def _goes_round(self, ledger: Ledger, message: DeliveredMessage, body: bytes, key: Key) -> bool:
        """Whether the message's time has not come when its step is over: then it waits in the next one."""
        tag, own = message.delivery_tag, headers(message.header)
        now, due = self._clock(), number(own, DUE)
        if tag is None or due is None or due / 1000 - now <= EARLY:
            return False

        def confirmed(error: Exception | None) -> None:
            if error is None:
                self.settled.add(key)
                ledger.ack(tag)
            else:
                self._loop.call_later(1, ledger.back, tag)

        until = min(due / 1000, now + BRIEF) if self._doubt.look(now, time.monotonic()) else due / 1000
        mail = put_off(self.names, body, queued(message.header), until, now, number(own, SLACK) or 0)
        mail.due = due / 1000
        mail.id = following(message.header.properties.message_id)
        self.sender.send(mail, confirmed)
        return True

    def _freed(self) -> None:
        """A loan has ended."""
        self.lending.emit()
        if self.parked_queues.wanted:
            self.parked_queues.fill()

    # -- changing

    def settle(self, lease: Lease, settlement: Settlement, confirmed: Confirmed) -> None:
        """End a lease: durably, and after what replaces the message. `confirmed` is called exactly once.

        Where that fails, the message is still lent, and can be settled again. While the broker is away it waits.
        """
        self.settling.begin(lease, settlement, confirmed)

    @property
    def withdrawable(self) -> None:
        """A broker lends messages one after another."""
        return None

    @property
    def apart(self) -> None:
        """A broker takes each message whole."""

    def publish(self, messages: Sequence[tuple[str, Body]], confirmed: Confirmed, delay: float = 0.0) -> None:
        """Add (queue name, body) messages; `confirmed` when all are safe. `delay`: seconds, for those to the outbox.

        Where it fails after a part of them, that part may be there: AMQP has no way to take it back.
        """
        if not messages or self.broker.blocked:
            error = QueueUnavailable(self.broker.why) if messages else None
            self._loop.call_soon(confirmed, error)
            return
        answers = _Answers(len(messages), confirmed, self.trouble)
        now = self._clock()
        for name, body in messages:
            assert isinstance(body, bytes)  # see `apart`
            if delay > 0 and name == self.names.outbox:
                mail = put_off(self.names, body, now, now + delay, now)
            else:
                mail = BrokerMessage(queue=name, body=body, queued=now)
            self.sender.send(mail, partial(answers.take, name))

    # -- for people

    async def figures(self) -> QueueFigures:
        """What the queues hold now. Raises `QueueUnavailable`, also while the broker lets us connect and no more."""
        self._works_at_all()
        return await self.views.figures()

    async def answers(self) -> None:
        """Asks for the outbox only: all queues take a busy broker seconds, in which mail goes on."""
        self._works_at_all()
        await self.views.answers()

    def _works_at_all(self) -> None:
        if self.broker.failing:
            raise QueueUnavailable(self.broker.trouble)

    def surveys(self) -> AbstractAsyncContextManager[AskSurvey]:
        """While people look at the queues: asks what each holds."""
        return self._surveys.open()

    async def browse(self, filter: Filter = EVERYTHING, after: Place = (0, 0), limit: int = 50) -> Browsed:
        """Not of a broker: raises `Unbrowsable`."""
        raise Unbrowsable

    async def read(self, id: int) -> OpenedMessage | None:
        """Not of a broker: raises `Unbrowsable`."""
        raise Unbrowsable

    async def change(self, action: Action, ids: Sequence[int]) -> int:
        """Not of a broker: raises `Unbrowsable`."""
        raise Unbrowsable

    async def flush(self) -> int:
        """What waits for a time becomes ready now; returns how many. Raises `QueueUnavailable`."""
        return await self.views.flush()

    async def purge(self, queue: str | None = None, lane: str | None = None) -> int:
        """Remove the messages of a queue (the outbox with all that waits, unless named), or of one lane's parked queue.

        Returns how many. What is being sent at this moment is sent. Raises `QueueUnavailable`.
        """
        return await self.views.purge(queue, lane)


class _Answers:
    """Waits for all of several confirmations, and gives one."""

    def __init__(self, wanted: int, confirmed: Confirmed, trouble: Trouble) -> None:
        self._wanted, self._confirmed, self._trouble = wanted, confirmed, trouble
        self._error: Exception | None = None

    def take(self, queue: str, error: Exception | None) -> None:
        """One more. A queue that is full is a fault, also where the publisher tries again."""
        if error is None:
            self._trouble.over(queue)
        elif isinstance(error, BrokerRejected | Undeliverable):
            self._trouble.note(queue, f"messages for queue {queue!r} are not taken", str(error))
        self._wanted -= 1
        self._error = self._error or error
        if not self._wanted:
            self._confirmed(self._error)
