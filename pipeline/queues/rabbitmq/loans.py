"""What is lent from RabbitMQ, over the loss of its connection too.

Owns the loans. When the connection is lost, the broker puts all of them back and sends them again, over the next one;
meanwhile they are still on their way to their receivers here. So a loan whose delivery tag is void is an orphan: when
the same message comes again, it is the orphan's, and not delivered twice. Messages that were settled just before the
loss may come again too, since acknowledgements are not confirmed: those are known by `rabbitmq_settled`. Two messages
without any difference are as good as one another, so nothing is lost by taking one for the other while both are lent.

Bounds: loans by credit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from operators.deliveries.delivery import Lease
from operators.deliveries.settlement import Settlement
from pipeline.queues.contract import Confirmed
from pipeline.queues.rabbitmq.amqp.link import Ledger
from pipeline.queues.rabbitmq.amqp.mail import BrokerMessage, following, is_own
from pipeline.queues.rabbitmq.settled import Key, SettledNotes, key


class BrokerLoan:
    """A message that is lent, or about to be.

    Attributes:
        lease: what the machine has of it.
        key: the same for the same message, also over another connection.
        id: the AMQP message-id.
        ledger, tag: where it is settled; None: an orphan.
        lane: the parked queue that it was got from, or None for the outbox.
        settlement, confirmed: how it is to be settled, while that is under way.
        left: what has to be confirmed before it is acknowledged; None: not begun.
        sending: how much of that is under way.
        error: why the last try failed.
    """

    __slots__ = (
        "confirmed", "error", "id", "key", "lane", "lease", "ledger", "left", "sending", "settlement", "tag",
    )  # fmt: skip

    def __init__(
        self, lease: Lease, key: Key, ledger: Ledger, tag: int, lane: str | None, id: str | None = None
    ) -> None:
        self.lease, self.key, self.lane, self.id = lease, key, lane, id
        self.ledger: Ledger | None = ledger
        self.tag = tag
        self.settlement: Settlement | None = None
        self.confirmed: Confirmed | None = None
        self.left: list[BrokerMessage] | None = None
        self.sending = 0
        self.error: Exception | None = None


class Loans:
    """All loans, by the lease's id.

    Args:
        settled: told what is settled.
    """

    def __init__(self, settled: SettledNotes) -> None:
        self._settled = settled
        self._loans: dict[int, BrokerLoan] = {}
        self._by_key: dict[Key, BrokerLoan] = {}  # the last that came of each
        self._by_base: dict[str, BrokerLoan] = {}  # the same, of those with an id of ours
        self._orphans: dict[Key, list[BrokerLoan]] = {}
        self.lanes: Counter[str] = Counter()  # loans got from parked queues

    def __len__(self) -> int:
        return len(self._loans)

    def __iter__(self) -> Iterator[BrokerLoan]:
        return iter(list(self._loans.values()))

    @property
    def orphans(self) -> int:
        """Loans whose message has not come again yet."""
        return sum(map(len, self._orphans.values()))

    def missing(self) -> Counter[str]:
        """Those of them that were got from parked queues, by lane."""
        return Counter(loan.lane for loans in self._orphans.values() for loan in loans if loan.lane is not None)

    def add(self, loan: BrokerLoan) -> None:
        """A message has come."""
        self._loans[loan.lease.id] = self._by_key[loan.key] = loan
        if loan.id is not None and is_own(loan.id):
            self._by_base[loan.id.partition("~")[0]] = loan
        if loan.lane is not None:
            self.lanes[loan.lane] += 1

    def get(self, id: int) -> BrokerLoan | None:
        """The loan of a lease."""
        return self._loans.get(id)

    def remove(self, loan: BrokerLoan, *, done: bool) -> None:
        """It is lent no more. `done`: it is not in its queue any more either, or will not be soon."""
        if self._loans.pop(loan.lease.id, None) is None:
            return
        if self._by_key.get(loan.key) is loan:
            del self._by_key[loan.key]
        if loan.id is not None and self._by_base.get(base := loan.id.partition("~")[0]) is loan:
            del self._by_base[base]
        if loan.lane is not None:
            self.lanes[loan.lane] -= 1
            if not self.lanes[loan.lane]:
                del self.lanes[loan.lane]
        if loan.ledger is None:
            self._claim(loan)
        if done:
            self._settled.add(loan.key)

    def ended(self, loan: BrokerLoan) -> None:
        """It is delivered or given up: so is what had replaced it, if this process or another died before it knew."""
        if loan.lease.redelivered and is_own(loan.id):
            self._settled.add(key(following(loan.id), b""))

    def known(self, id: str | None, redelivered: bool) -> bool:
        """Whether a message is one with another: it was replaced before its acknowledgement was lost, or replaces one
        that came again and is under way.
        """
        if id is None or not is_own(id):
            return False
        base, _, number = id.partition("~")
        if (loan := self._by_base.get(base)) is not None and loan.id is not None:
            lent = loan.id.partition("~")[2]
            if int(lent or 0) < int(number or 0):
                return loan.settlement is None
            return redelivered and int(lent or 0) > int(number or 0)
        return redelivered and self._settled.again(key(following(id), b""), redelivered, ours=True)

    def lends(self, key: Key) -> bool:
        """Whether the same message is lent over this connection: what comes with its id is its copy."""
        loan = self._by_key.get(key) if isinstance(key, bytes) else None
        return loan is not None and loan.ledger is not None

    def lost(self) -> None:
        """The connection is gone, and every tag with it."""
        self._settled.lost()
        for loan in self._loans.values():
            if loan.ledger is not None:
                loan.ledger = None
                self._orphans.setdefault(loan.key, []).append(loan)

    def reclaim(self, key: Key, ledger: Ledger, tag: int) -> BrokerLoan | None:
        """The orphan that this message is, with its new tag; None where it is none."""
        if not (loans := self._orphans.get(key)):
            return None
        loan = loans[0]
        self._claim(loan)
        loan.ledger, loan.tag = ledger, tag
        return loan

    def _claim(self, loan: BrokerLoan) -> None:
        loans = self._orphans[loan.key]
        loans.remove(loan)
        if not loans:
            del self._orphans[loan.key]
