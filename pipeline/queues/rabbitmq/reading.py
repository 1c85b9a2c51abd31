"""Reading the outbox: the consumers on RabbitMQ, and how much of the credit they take.

Owns two consumers of the outbox, each with half of the credit as its prefetch. While parked messages are called in, the
second one is away, and so each has half. (A prefetch cannot be changed while a consumer lives.) Nothing else bounds
what the broker sends; so it is never more than the credit.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiormq.abc import DeliveredMessage

from pipeline.queues.rabbitmq.amqp.link import Ledger, Link

Take = Callable[[Ledger, DeliveredMessage], None]


class Reader:
    """The consumers of a queue. They come and go soon after they are wanted."""

    def __init__(self, queue: str, take: Take) -> None:
        self._queue, self._take = queue, take
        self._link: Link | None = None
        self._ledger: Ledger | None = None
        self._tags: list[str] = []
        self._shares: list[int] = []
        self._wanted, self._anew, self._busy = 0, False, False

    @property
    def consumers(self) -> int:
        """How many there are now."""
        return len(self._tags)

    @property
    def settled(self) -> bool:
        """Whether the consumers that are wanted are there."""
        return not self._busy and len(self._tags) == self._wanted

    def credit(self, credit: int) -> None:
        """Begin anew, with this credit."""
        self._shares = [share for share in (credit - credit // 2, credit // 2) if share]
        self._anew = True

    def attach(self, link: Link, ledger: Ledger) -> None:
        """Read over this link."""
        self._link, self._ledger, self._tags, self._busy = link, ledger, [], False

    def lost(self) -> None:
        """The connection is gone."""
        self._link = self._ledger = None
        self._tags = []

    def want(self, consumers: int) -> None:
        """Have so many: none, one with half of the credit, or both."""
        self._wanted = min(consumers, len(self._shares))
        if self._link is not None and not self._busy and (self._anew or self._wanted != len(self._tags)):
            self._busy = True
            self._link.run(self._steer(self._link))

    async def _steer(self, link: Link) -> None:
        ledger = self._ledger
        assert ledger is not None

        def taker() -> Callable[[DeliveredMessage], Coroutine[Any, Any, None]]:
            async def take(message: DeliveredMessage) -> None:
                self._take(ledger, message)

            return take

        while self._link is link:
            surplus = 0 if self._anew else self._wanted
            if len(self._tags) > surplus:
                await ledger.channel.basic_cancel(self._tags[-1])
                self._tags.pop()
            elif self._anew:
                self._anew = False
            elif len(self._tags) < self._wanted:
                share = self._shares[len(self._tags)]
                self._tags.append(await link.consume(ledger, self._queue, share, taker()))
            else:
                self._busy = False
                return
