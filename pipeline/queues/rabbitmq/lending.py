"""Giving out what RabbitMQ has sent: within credit, fresh and recalled messages in turn.

Owns the consumer's stream and what has come and is not given out yet. That is little: the readers' prefetch and the
room for recalls are within credit. Everything here runs on the event loop.

Orphans (`rabbitmq_loans`) do not count against the credit: what comes after a loss may be before them in its queue, and
would otherwise keep them out. So for GRACE seconds after a loss there may be twice the credit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
from reactivex import abc

from operators.deliveries.delivery import Lease
from pipeline.queues.rabbitmq.loans import BrokerLoan, Loans

TURN = 100  # leases given out in one turn of the event loop


class BrokerLending:
    """Whose turn it is.

    Args:
        loans: all loans, these included.
        wanted: whether recalled messages are on their way.
    """

    def __init__(self, loans: Loans, wanted: Callable[[], bool]) -> None:
        self._loans, self._wanted = loans, wanted
        self.observer: abc.ObserverBase[Lease] | None = None
        self.credit = 0
        self._fresh: deque[BrokerLoan] = deque()
        self._recalled: deque[BrokerLoan] = deque()
        self._ahead = 0.0  # how many fresh ones may go before the next recalled one
        self._emitting = False
        self.received = 0  # messages that came, since the start

    @property
    def free(self) -> int:
        """Credit that is not used."""
        return max(0, self.credit - len(self._loans))

    @property
    def fresh(self) -> int:
        """Messages of the outbox that are not given out yet."""
        return len(self._fresh)

    @property
    def lent(self) -> int:
        """Messages lent."""
        return len(self._loans) - len(self._fresh) - len(self._recalled)

    def lend(self, loan: BrokerLoan) -> None:
        """A message has come."""
        self.received += 1
        self._loans.add(loan)
        (self._fresh if loan.lane is None else self._recalled).append(loan)
        self.emit()

    def again(self, loan: BrokerLoan) -> bool:
        """What was given back is the next to be lent; False without a consumer."""
        if self.observer is None:
            return False
        loan.lease = msgspec.structs.replace(loan.lease, redelivered=True)
        (self._fresh if loan.lane is None else self._recalled).appendleft(loan)
        asyncio.get_running_loop().call_soon(self.emit)
        return True

    def forget(self) -> list[BrokerLoan]:
        """What came and was not given out: lent no more."""
        loans = [*self._recalled, *self._fresh]
        self._recalled.clear()
        self._fresh.clear()
        for loan in loans:
            self._loans.remove(loan, done=False)
        return loans

    def emit(self) -> None:
        """Give out what has come, TURN at once, so that the event loop is never held up."""
        if self._emitting:
            return
        for _ in range(TURN):
            if (
                self.observer is None
                or self.lent - self._loans.orphans >= self.credit
                or (loan := self._next()) is None
            ):
                return
            try:
                self.observer.on_next(loan.lease)
            except Exception as error:
                context = {"message": "a consumer of the queue failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
        self._emitting = True
        asyncio.get_running_loop().call_soon(self._emit_on)

    def _emit_on(self) -> None:
        self._emitting = False
        self.emit()

    def _next(self) -> BrokerLoan | None:
        """Recalled ones first; while more are wanted, two of them for each fresh one: they come in groups, and later.

        Two, so that what is parked becomes less, not more, while more comes for the same lane.
        """
        half = max(1, self.credit // 2)
        wanted = self._wanted()
        if not wanted:
            self._ahead = half
        if self._recalled:
            self._ahead = min(self._ahead + 0.5, half)
            return self._recalled.popleft()
        if not self._fresh or self._ahead <= 0:
            return None
        self._ahead -= wanted
        return self._fresh.popleft()
