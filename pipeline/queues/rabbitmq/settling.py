"""Settling on RabbitMQ: publish what replaces a message, and acknowledge it when the broker has confirmed all of that.

A copy for a queue that does not take it is held on the disk (`rabbitmq_held`), and holds nothing up. What can never be
published - no such queue, and none may be declared - is dropped, counted and said.

Owns nothing: a settlement under way stands in its loan. While the broker is away it waits there, and so it does while
its loan is an orphan (`rabbitmq_loans`). An orphan that has not come again GRACE seconds after the connection did is
with somebody else: then only its copies are published. Bound: credit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from operators.deliveries.delivery import Lease
from operators.deliveries.results import smaller
from pipeline.queues.contract import Confirmed, Park, QueueUnavailable, Retry, Settlement, TooLarge
from pipeline.queues.rabbitmq.amqp.broker import Broker
from pipeline.queues.rabbitmq.amqp.link import BrokerRejected
from pipeline.queues.rabbitmq.amqp.mail import BrokerMessage, following, is_own
from pipeline.queues.rabbitmq.delays import slack, step
from pipeline.queues.rabbitmq.held import HeldResults
from pipeline.queues.rabbitmq.loans import BrokerLoan, Loans
from pipeline.queues.rabbitmq.names import QueueNames
from pipeline.queues.rabbitmq.parked import ParkedQueues
from pipeline.queues.rabbitmq.sending import Publisher, Undeliverable
from pipeline.queues.rabbitmq.trouble import Trouble

GRACE = 45.0  # seconds; a broker that saw nothing of our loss gives back what we held after two heartbeats


def put_off(
    names: QueueNames, body: bytes, queued: float, at: float, now: float, may: int | None = None
) -> BrokerMessage:
    """The message as it waits until `at`, epoch seconds: in the outbox, or in the queue of a step on the way there."""
    left = int((at - now) * 1000)
    if left <= 0:
        return BrokerMessage(queue=names.outbox, body=body, queued=queued)
    may = slack(left) if may is None else may
    return BrokerMessage(queue=names.delay(step(left, may, names.steps)), body=body, queued=queued, due=at, slack=may)


class Settling:
    """Carries settlements out.

    Args:
        names, broker, loans, sender, parked: the queue's parts.
        clock: epoch seconds.
        held: takes the copies that their queue does not.
        trouble: told of copies that are dropped.
        again: lends a message that is given back again, where there is a consumer; whether it did.
        freed: called when a loan has ended.
    """

    def __init__(
        self,
        names: QueueNames,
        broker: Broker,
        loans: Loans,
        sender: Publisher,
        parked: ParkedQueues,
        clock: Callable[[], float],
        held: HeldResults,
        trouble: Trouble,
        again: Callable[[BrokerLoan], bool],
        freed: Callable[[], None],
    ) -> None:
        self._names, self._broker, self._loans, self._sender, self._parked = names, broker, loans, sender, parked
        self._clock, self._again, self._freed = clock, again, freed
        self._held, self._trouble = held, trouble
        self.acknowledged = self.rescheduled = 0

    def begin(self, lease: Lease, settlement: Settlement, confirmed: Confirmed) -> None:
        """Settle a lease; `confirmed` is called exactly once, and not at once."""
        loan = self._loans.get(lease.id)
        if loan is None or loan.confirmed is not None:
            error = ValueError(f"message {lease.id} is not lent, or is being settled already")
            asyncio.get_running_loop().call_soon(confirmed, error)
            return
        if loan.settlement is not settlement:  # the same one again goes on where it failed
            loan.settlement, loan.left = settlement, None
        loan.confirmed = confirmed
        self.carry_out(loan)

    def look(self) -> None:
        """Those whose messages have not come again."""
        for loan in self._loans:
            if loan.ledger is None:
                self.carry_out(loan)

    def carry_out(self, loan: BrokerLoan) -> None:
        """Go on with a settlement as far as that is possible now."""
        settlement = loan.settlement
        if loan.confirmed is None or settlement is None or loan.sending or self._broker.link is None:
            return
        orphan = loan.ledger is None
        if orphan and time.monotonic() - self._broker.connected_at < GRACE:
            return
        if settlement.give_back and self._again(loan):
            confirmed, loan.confirmed, loan.settlement = loan.confirmed, None, None
            asyncio.get_running_loop().call_soon(confirmed, None)
            return
        if settlement.give_back or (isinstance(settlement.then, Park) and settlement.then.lane == loan.lane):
            self._give_back(loan)
            return
        if loan.left is None:
            loan.left = self._mails(loan, settlement)
        if orphan:
            loan.left = [mail for mail in loan.left if mail.copy]
        if not loan.left:
            self._finish(loan)
            return
        loan.left = [self._anew(mail) for mail in loan.left]
        loan.sending = len(loan.left)
        for mail in list(loan.left):
            self._send(loan, mail)

    def _send(self, loan: BrokerLoan, mail: BrokerMessage) -> None:
        done = self._sent(loan, mail)
        if not (mail.copy and self._held.holds(mail.queue) and self._held.put(mail.queue, mail.body, "", done)):
            self._sender.send(mail, done)

    def _mails(self, loan: BrokerLoan, settlement: Settlement) -> list[BrokerMessage]:
        mails = [BrokerMessage(queue=name, body=body, copy=True) for name, body in settlement.publish]
        queued = loan.lease.queued
        match settlement.then:
            case Retry(body=body, at=at):
                mails.append(put_off(self._names, body, queued, at, self._clock()))
                mails[-1].id = following(loan.id) if is_own(loan.id) else ""
                self.rescheduled += 1
            case Park(lane=lane, expires=expires):
                name, body = self._names.parked(lane), loan.lease.body
                id = following(loan.id) if is_own(loan.id) else ""
                mails.append(BrokerMessage(queue=name, body=body, queued=queued, lane=lane, expires=expires, id=id))
        return mails

    def _anew(self, mail: BrokerMessage) -> BrokerMessage:
        """What waits for a time is on its way as of now: the broker was away, and may have lost a step meanwhile.

        With the id that it has: where the broker did take it, and only its confirmation was lost, the two are one.
        """
        if not mail.due:
            return mail
        anew = put_off(self._names, mail.body, mail.queued, mail.due, self._clock(), mail.slack)
        anew.id, anew.due, anew.slack = mail.id, mail.due, mail.slack
        return anew

    def _sent(self, loan: BrokerLoan, mail: BrokerMessage) -> Confirmed:
        def done(error: Exception | None) -> None:
            if error is not None and mail.copy and self._elsewhere(loan, mail, error):
                return
            assert loan.left is not None
            loan.sending -= 1
            if error is None:
                loan.left.remove(mail)
            else:
                loan.error = error
            if not loan.sending:
                self._all_sent(loan)

        return done

    def _elsewhere(self, loan: BrokerLoan, mail: BrokerMessage, error: Exception) -> bool:
        """What becomes of a copy that its queue does not take, so that it holds nothing up; False: it waits."""
        done = self._sent(loan, mail)
        match error:
            case TooLarge(most=most) if (body := smaller(mail.body, most)) is not None:
                self._sender.send(msgspec.structs.replace(mail, body=body), done)
                return True
            case BrokerRejected():
                return self._held.put(mail.queue, mail.body, str(error), done)
            case Undeliverable() if mail.queue in self._names.configured:
                return self._held.put(mail.queue, mail.body, str(error), done)
            case Undeliverable() | TooLarge():
                self._trouble.note(mail.queue, f"results for queue {mail.queue!r} are dropped", str(error))
                done(None)
                return True
        return False

    def _all_sent(self, loan: BrokerLoan) -> None:
        if not loan.left:
            self._finish(loan)
        elif self._broker.link is None or loan.ledger is None:
            self.carry_out(loan)  # it waits
        else:
            confirmed, loan.confirmed = loan.confirmed, None
            if confirmed is not None:
                confirmed(loan.error)

    def _finish(self, loan: BrokerLoan) -> None:
        if loan.ledger is not None:
            loan.ledger.ack(loan.tag)
            self.acknowledged += 1
        # An orphan's message may come again, and what is to happen with it then did not happen: only its copies did.
        self._end(loan, done=loan.ledger is not None or loan.settlement is None or loan.settlement.then is None)

    def _give_back(self, loan: BrokerLoan) -> None:
        """Into the queue that it came from, at its place."""
        if loan.ledger is not None:
            loan.ledger.back(loan.tag)
            if loan.lease.recalled is not None:
                self._parked.change(loan.lease.recalled, 1)
        self._end(loan, done=False)

    def _end(self, loan: BrokerLoan, *, done: bool) -> None:
        confirmed, loan.confirmed = loan.confirmed, None
        self._loans.remove(loan, done=done)
        if done and loan.settlement is not None and loan.settlement.then is None:
            self._loans.ended(loan)
        if confirmed is not None:
            asyncio.get_running_loop().call_soon(confirmed, None)
        self._freed()

    def abandon(self) -> None:
        """The queue closes: what waits will not be carried out."""
        for loan in self._loans:
            confirmed, loan.confirmed = loan.confirmed, None
            if confirmed is not None:
                confirmed(QueueUnavailable("the queue is closed"))
