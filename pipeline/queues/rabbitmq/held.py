"""Results that their queue does not take: held on the disk until it does, so that the mail they tell of is done.

A full queue that rejects what is published (`x-overflow: reject-publish`), one that is gone, or a quorum queue without
its majority would otherwise keep each delivered message unacknowledged: no credit would be left, and after a restart
all of them would be sent again. So such a copy goes to a shelf, an embedded queue of its own in `data-dir`, which
survives a kill; then the message is acknowledged. While a queue has a shelf with something on it, its copies go there
at once, and the oldest is tried again with a pause that grows to LONGEST_PAUSE.

Owns the shelves. Bounds: SHELVES queues, and MOST copies, beyond which no more mail is lent until there are fewer; what
is in memory then still gets its copies in. All of that is said, and a fault while it lasts.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path

from operators.deliveries.delivery import Lease
from pipeline.process.supervisor import spawn
from pipeline.queues.contract import Confirmed, QueueUnavailable, Settlement
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq.amqp.mail import BrokerMessage

MOST = 100_000  # copies
SHELVES = 20
AT_ONCE = 100  # copies of a shelf that are published at once
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds
SAY_AGAIN = 60.0  # seconds
NAME = "name"

Send = Callable[[BrokerMessage, Confirmed], None]
Report = Callable[[str, str], None]


class Shelf:
    """The copies for one queue.

    Args:
        folder: where they are.
        name: the queue's.
        send: publishes.
        report: told (kind, text).
    """

    def __init__(self, folder: Path, name: str, send: Send, report: Report) -> None:
        self.name, self.why = name, ""
        self._folder, self._send, self._report = folder, send, report
        self._queue = EmbeddedQueue(folder / "queue.db", name, report=report)
        self._leases: deque[Lease] = deque()
        self._sending, self._flows, self._pause = 0, False, 0.0
        self._again: asyncio.TimerHandle | None = None
        self.count = 0
        self._said_at = -SAY_AGAIN

    async def open(self) -> None:
        """Find what is there, and try to publish it. Raises `QueueUnavailable`, `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / NAME).write_text(self.name)
        await self._queue.start()
        figures = await self._queue.figures()
        self.count = figures.ready + figures.waiting
        self._queue.consume(AT_ONCE).subscribe(self._lent, self._failed)

    async def close(self) -> None:
        """What is on it stays."""
        if self._again is not None:
            self._again.cancel()
        self._queue.cease()
        await self._queue.close()

    def put(self, body: bytes, why: str, confirmed: Confirmed) -> None:
        """Hold a copy; `confirmed` when it is safe, or with why it is not."""
        self.why = why or self.why
        self.count += 1

        def done(error: Exception | None) -> None:
            if error is not None:
                self.count -= 1
            confirmed(error)

        self._queue.publish([(self.name, body)], done)
        self._say()

    @property
    def fault(self) -> str | None:
        """What is wrong while something is on it."""
        if not self.count:
            return None
        return f"{self.count:,} results for queue {self.name!r} are held here: {self.why or 'it is tried again'}"

    def _say(self) -> None:
        now = time.monotonic()
        if self.fault is not None and now - self._said_at >= SAY_AGAIN:
            self._said_at = now
            self._report("queue-held", self.fault)

    def _failed(self, error: Exception) -> None:
        self.why = f"the shelf cannot be read: {error}"
        self._say()

    def _lent(self, lease: Lease) -> None:
        self._leases.append(lease)
        self._try()

    def _try(self) -> None:
        """One, until it is taken; then as many as there are."""
        if self._again is not None or (self._sending and not self._flows):
            return
        for _ in range(len(self._leases) if self._flows else min(1, len(self._leases))):
            lease = self._leases.popleft()
            self._sending += 1
            self._send(BrokerMessage(queue=self.name, body=lease.body, copy=True), partial(self._sent, lease))

    def _sent(self, lease: Lease, error: Exception | None) -> None:
        self._sending -= 1
        if error is None:
            self._flows, self._pause = True, 0.0
            self._queue.settle(lease, Settlement(), self._taken)
            self._try()
            return
        self.why, self._flows = str(error), False
        self._leases.appendleft(lease)
        if self._again is None:
            self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
            self._again = asyncio.get_running_loop().call_later(self._pause, self._once_more)
        self._say()

    def _once_more(self) -> None:
        self._again = None
        self._try()

    def _taken(self, error: Exception | None) -> None:
        if error is not None:
            self._report("queue-held", f"a result for {self.name!r} may be published twice: {error}")
            return
        self.count -= 1
        if not self.count:
            self._said_at = -SAY_AGAIN
            self._report("queue-back", f"queue {self.name!r} takes results again: none is held any more")


class HeldResults:
    """All shelves.

    Args:
        folder: where they are; None: nothing is held.
        send: publishes.
        report: told (kind, text).
        changed: called when more or less may be lent.
    """

    def __init__(self, folder: Path | None, send: Send, report: Report) -> None:
        self._folder, self._send, self._report = folder, send, report
        self._shelves: dict[str, Shelf] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._open = False

    def open(self) -> None:
        """Go on with what the last process held. Once there is a consumer: others only look."""
        if self._open or self._folder is None:
            return
        self._open = True
        for name in self._named():
            self._get(name)

    async def close(self) -> None:
        """What is held stays, for the next process."""
        self._open = False
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await asyncio.gather(*(shelf.close() for shelf in self._shelves.values()))
        self._shelves.clear()

    def holds(self, name: str) -> bool:
        """Whether this queue's copies are held now, so that more of them go there at once."""
        shelf = self._shelves.get(name)
        return shelf is not None and shelf.count > 0

    def put(self, name: str, body: bytes, why: str, confirmed: Confirmed) -> bool:
        """Hold a copy; False where it cannot be, and `confirmed` will not be called."""
        if not self._open or (name not in self._shelves and len(self._shelves) >= SHELVES):
            return False
        self._get(name)
        if (opening := self._opening.get(name)) is None:
            self._shelves[name].put(body, why, confirmed)
        else:
            opening.add_done_callback(lambda _: self._put_late(name, body, why, confirmed))
        return True

    def _put_late(self, name: str, body: bytes, why: str, confirmed: Confirmed) -> None:
        if (shelf := self._shelves.get(name)) is not None:
            shelf.put(body, why, confirmed)
        else:
            confirmed(QueueUnavailable(f"results for {name!r} cannot be held: {why}"))

    def _get(self, name: str) -> None:
        if name in self._shelves:
            return
        assert self._folder is not None
        self._shelves[name] = Shelf(self._folder / _key(name), name, self._send, self._report)
        self._opening[name] = spawn(self._begin(name), "held results")

    async def _begin(self, name: str) -> None:
        try:
            await self._shelves[name].open()
        except (QueueUnavailable, OSError) as error:
            del self._shelves[name]
            self._report("queue-held", f"results for queue {name!r} cannot be held on the disk: {error}")
        finally:
            self._opening.pop(name, None)

    def _named(self) -> list[str]:
        """The queues that have a shelf on the disk."""
        if self._folder is None:
            return []
        try:
            return [path.read_text() for path in sorted(self._folder.glob(f"*/{NAME}"))[:SHELVES]]
        except OSError as error:
            self._report("queue-held", f"held results cannot be read: {error}")
            return []

    async def counts(self) -> dict[str, int]:
        """How many are held, by queue; also by another process. Raises `QueueUnavailable`."""
        if self._open or self._folder is None:
            return {name: shelf.count for name, shelf in self._shelves.items() if shelf.count}
        found = {}
        for name in self._named():
            queue = EmbeddedQueue(self._folder / _key(name) / "queue.db", name)
            await queue.start()
            figures = await queue.figures()
            await queue.close()
            if count := figures.ready + figures.waiting:
                found[name] = count
        return found

    @property
    def full(self) -> bool:
        """Whether as many are held as may be, so that no more mail is to be sent."""
        return sum(shelf.count for shelf in self._shelves.values()) >= MOST

    @property
    def faults(self) -> list[str]:
        """A line for each queue that does not take its results."""
        return [shelf.fault for shelf in self._shelves.values() if shelf.fault is not None]


def _key(name: str) -> str:
    """A folder's name."""
    return blake2b(name.encode(errors="surrogatepass"), digest_size=12).hexdigest()
