"""The figures of all queues, as a queue knows them: depths, unacked messages, consumers, rates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, or all of its kind. None: not known.

    Attributes:
        into, out, ack: messages put into it, lent, and settled, a second.
        trend: its depths, once a second.
    """

    name: str
    ready: int
    unacked: int | None = None
    consumers: int | None = None
    into: float | None = None
    out: float | None = None
    ack: float | None = None
    trend: tuple[int, ...] = ()


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the queues.

    Attributes:
        where: the queue's address, without the password.
        source: embedded; management, for all clients; amqp, which does not tell what other clients do.
        note: why there is nothing of the management API.
        waiting: messages that wait for their time.
        rows: the outbox, what waits, the others, the parked ones.
        temporary: queues that vanish when they are empty.
        outbox: messages in the outbox, with those that are here and not lent yet.
        rated: the rows have the rates of all clients.
        shared: others put messages into the outbox, too.
    """

    where: str
    source: str
    note: str = ""
    waiting: int = 0
    rows: tuple[QueueRow, ...] = ()
    temporary: int = 0
    outbox: int = 0
    rated: bool = False
    shared: bool = False


AskSurvey = Callable[[], Awaitable[Survey]]  # raises `QueueUnavailable`
