"""The queue contract: what the machine needs of a queue, embedded or on a broker.

Two implementations: `embedded` (SQLite in `data-dir`, the default) and RabbitMQ. One contract test suite holds for
both. All calls are made on the event loop; answers come on the event loop.

Credit: the queue lends at most `credit` messages; settling one gives its credit back. So whatever the receivers
do, memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import IO, Protocol, TypeVar

import msgspec
from reactivex import Observable

from operators.deliveries.delivery import Lease
from operators.deliveries.settlement import Park, Retry, Settlement, Unstorable
from operators.mail.message import Content
from pipeline.queues.listing import (
    EVERYTHING,
    Action,
    Browsed,
    Filter,
    OpenedMessage,
    Place,
    Sought,
    Unbrowsable,
    Withdrawn,
)
from pipeline.queues.survey import AskSurvey

__all__ = [
    "Apart",
    "Body",
    "Confirmed",
    "LargeBody",
    "NewContent",
    "Park",
    "Queue",
    "QueueFigures",
    "QueueFull",
    "QueueUnavailable",
    "Retry",
    "Settlement",
    "TooLarge",
    "Unbrowsable",
    "Unstorable",
    "Withdrawable",
    "Writes",
]

Confirmed = Callable[[Exception | None], None]


class NewContent(msgspec.Struct, eq=False):
    """What follows a large mail's header, on its way into the queue; see `Content`. Several messages may share it.

    Attributes:
        data: the octets, or a file of them.
        size: how many.
        ascii: none of them is 8-bit.
        dots: a line of it may begin with a dot.
        stored: where the queue keeps it, once it does.
    """

    data: bytes | memoryview | IO[bytes]
    size: int
    ascii: bool
    dots: bool = True
    stored: Content | None = None

    def pieces(self, size: int) -> Iterator[bytes | memoryview]:
        """All of it; of a file at most `size` octets at once."""
        if isinstance(self.data, bytes | memoryview):
            yield self.data
            return
        self.data.seek(0)
        while piece := self.data.read(size):
            yield piece

    def close(self) -> None:
        """The queue has answered, or will never be asked."""
        if not isinstance(self.data, bytes | memoryview):
            self.data.close()


class LargeBody(msgspec.Struct, frozen=True, eq=False):
    """A message whose content is apart from its JSON, whose `mime` is the header then. Its length is that of both."""

    head: bytes
    content: NewContent

    def __len__(self) -> int:
        return len(self.head) + self.content.size


Body = bytes | LargeBody
Writes = Callable[[IO[bytes]], tuple[bool, bool]]  # writes a content into a file; says `ascii` and `dots` of it


class Apart(Protocol):
    """How contents are kept apart from their JSON."""

    @property
    def least(self) -> int:
        """Octets of a content from which on it is handed in as a `LargeBody`."""

    def keep(self, size: int, write: Writes) -> NewContent:
        """A content that is not in memory, of about this size: `write` gets the file that it goes to.

        Runs in the caller's thread. `close` the content when the queue has answered.
        Raises OSError, and whatever `write` does.
        """


class QueueUnavailable(Exception):
    """The queue cannot take or confirm anything now; intake answers 451."""


class QueueFull(QueueUnavailable):
    """There is no room for new messages where the queue keeps them; intake answers 452."""


class TooLarge(QueueUnavailable, Unstorable):
    """The broker does not take a message of this size, now or later; intake answers 552."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"{size:,} bytes as it is stored: the broker takes {most:,} at most")
        self.most = most


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the queue holds. For the console, `mailrace queue` and the AMQP monitor."""

    ready: int = 0  # can be lent now
    waiting: int = 0  # for their retry time
    unsettled: int = 0  # lent
    parked: Mapping[str, int] = {}  # by lane
    other: Mapping[str, int] = {}  # messages in each other queue, by its name


GROUP = 1000  # messages that are taken out in one transaction
T = TypeVar("T")


def parts(all_: Sequence[T], size: int = GROUP) -> Iterator[Sequence[T]]:
    """So many at once."""
    return (all_[start : start + size] for start in range(0, len(all_), size))


async def confirmed(begin: Callable[[Confirmed], object]) -> None:
    """Wait until what `begin` has been given is called; raises the error that it is called with."""
    safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def told(error: Exception | None) -> None:
        if safe.done():  # who waited has gone
            return
        if error is None:
            safe.set_result(None)
        else:
            safe.set_exception(error)

    begin(told)
    await safe


class Withdrawable(Protocol):
    """A queue whose messages can be taken out, whoever's turn it is."""

    def withdraw(self, sought: Sought, whole: bool = True) -> AsyncGenerator[Withdrawn, None]:
        """What is sought, lent apart from the stream of `consume` and from its credit, in parts, oldest first.

        Each is ended, settled or put back. What is lent already is left out. Raises `QueueUnavailable`.
        `whole`: with their bodies, for who decides on each.
        """

    def put_back(self, leases: Sequence[Lease]) -> None:
        """What was withdrawn, and has not ended, is as it was."""

    def end(self, leases: Sequence[Lease], publish: Sequence[tuple[str, Body]], confirmed: Confirmed) -> None:
        """They go for good: durably, all or none, with these messages in their place."""

    async def discard(self, leases: Sequence[Lease]) -> None:
        """They go for good, and nobody is told but of what was parked. Raises `QueueUnavailable`."""

    async def sought(self, sought: Sought) -> int:
        """How many are sought, at most: some of them may be others. Raises `QueueUnavailable`."""

    async def size(self) -> int:
        """How many messages it has, in all queues. Raises `QueueUnavailable`."""


class Queue(Protocol):
    """A durable queue of JSON messages."""

    def consume(self, credit: int) -> Observable[Lease]:
        """The messages of the outbox, each lent until it is settled; at most `credit` at once. One subscriber."""

    def settle(self, lease: Lease, settlement: Settlement, confirmed: Confirmed) -> None:
        """End a lease: durably, and atomically with what replaces the message. `confirmed` is called exactly once."""

    @property
    def withdrawable(self) -> Withdrawable | None:
        """How messages are taken out whoever's turn it is; None: they come one after another."""

    @property
    def apart(self) -> Apart | None:
        """How large contents are handed in; None: each message is whole."""

    def publish(self, messages: Sequence[tuple[str, Body]], confirmed: Confirmed, delay: float = 0.0) -> None:
        """Add (queue name, body) messages, all or none; `confirmed` when they are safe. `delay`: seconds, for all."""

    def recall(self, lane: str, most: int) -> None:
        """Lend up to `most` messages of a lane's parked queue, oldest first, in the stream of `consume`, within credit.

        Calls add up. Where the lane has fewer, the rest lapses.
        """

    @property
    def free(self) -> int:
        """Credit that is not used now."""

    @property
    def lent(self) -> int:
        """Messages that are lent: how many are in memory."""

    @property
    def full(self) -> str | None:
        """Why no new message is taken now: there is no room to keep it. None while there is."""

    @property
    def fault(self) -> str | None:
        """What is wrong with it now, in one line; None while it works."""

    @property
    def troubles(self) -> Sequence[str]:
        """What is wrong with queues that results and others go to, a line each; mail goes on all the same."""

    def notice(self, parked: Mapping[str, int]) -> None:
        """Another process has parked so many messages in these lanes, where processes share the parked queues."""
        ...

    def parked(self) -> Mapping[str, int]:
        """Messages in the parked queues, by lane; those lent are not counted."""

    async def figures(self) -> QueueFigures:
        """What the queue holds now; cheap enough for once a second, also with a million messages."""

    async def answers(self) -> None:
        """Returns where the queue answers one question. Raises `QueueUnavailable`."""

    def surveys(self) -> AbstractAsyncContextManager[AskSurvey]:
        """While people look at the queues: asks what each holds, see `survey`. One look a second costs little."""

    async def flush(self) -> int:
        """What waits for a time becomes ready now; returns how many. Raises `QueueUnavailable`."""

    async def purge(self, queue: str | None = None, lane: str | None = None) -> int:
        """Remove the messages of a queue (the outbox, unless named), or of one lane's parked queue; returns how many.

        What is being sent at this moment is sent. Raises `QueueUnavailable`.
        """

    async def browse(self, filter: Filter = EVERYTHING, after: Place = (0, 0), limit: int = 50) -> Browsed:
        """A page of messages, from `after` on. Raises `Unbrowsable` where the queue cannot, `QueueUnavailable`."""

    async def read(self, id: int) -> OpenedMessage | None:
        """One message, None where it is not there (any more). Raises as `browse`."""

    async def change(self, action: Action, ids: Sequence[int]) -> int:
        """Do this with these messages; returns how many. What is being sent is sent. Raises as `browse`.

        `retry`: those that wait for a time become due. `release`: those that are parked become due. `delete`: they go.
        """

    async def start(self) -> None:
        """Open it. Raises `QueueUnavailable` with one clear line where it cannot be."""

    def cease(self) -> None:
        """Lend no more. What is lent can still be settled; what is given back is in the queue again."""

    async def close(self) -> None:
        """Confirm what is under way, and close. What is still lent is lent again at the next start."""
