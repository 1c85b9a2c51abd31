"""The parked queues on RabbitMQ: how many messages are in which, calling them in, and removing empty ones.

Owns the counts. They are our own bookkeeping, corrected by what the broker says whenever it is asked anyway, and for
LOOKED lanes in turn at each look, so that what other instances park and take is noticed; an answer that was overtaken
by a change of ours is not used. AMQP cannot list queues: each lane is also a small message in the index queue
`<outbox>.parked`, written before the lane's first message and looked through at start and every REREAD seconds, so that
a restart, or another instance, finds all of them.

An empty queue is removed once nothing has been parked or called in for `linger` seconds and nothing of it is lent; not
while other instances read the outbox, since the broker does not say over AMQP whether they hold some of its messages,
which would go with it. Bounds: FETCHES lanes are called in at once; memory by the number of lanes that hold mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from pipeline.queues.contract import confirmed
from pipeline.queues.rabbitmq.amqp.link import Ledger, Link
from pipeline.queues.rabbitmq.amqp.mail import PERSISTENT, Properties
from pipeline.queues.rabbitmq.names import Topology

FETCHES = 4
PATIENCE = 1.0  # seconds until messages that were counted, and did not come, are taken for another program's
LINGER = 60.0
BEFORE = 50  # messages that may stand before one that is missed
REREAD = 60.0
LOOKED = 20
MOST_LANES = 100_000  # entries of the index that are looked at

Arrive = Callable[[Ledger, DeliveredMessage, str], None]


class ParkedQueues:
    """Counts by lane, and the ways in and out.

    Args:
        topology: the queues that are there.
        arrive: takes what was called in, and counts it out.
        room: messages that may be called in now.
        held: whether messages of this lane are lent.
        fetched: called when a call has ended.
        linger: seconds for which an empty queue is kept.
    """

    def __init__(
        self,
        topology: Topology,
        arrive: Arrive,
        room: Callable[[], int],
        held: Callable[[str], bool],
        fetched: Callable[[], None],
        linger: float = LINGER,
    ) -> None:
        self._topology, self._arrive, self._room, self._held = topology, arrive, room, held
        self._fetched, self._linger = fetched, linger
        self._counts: dict[str, int] = {}
        self.counts: Mapping[str, int] = MappingProxyType(self._counts)
        self._lanes: dict[str, float] = {}  # those that have a queue; when it was last used, monotonic seconds
        self._wanted: dict[str, int] = {}  # called in and not fetched; the first one is next
        self._missing: Counter[str] = Counter()  # lent over a link that was lost: to be fetched whatever the room
        self._fetching: Counter[str] = Counter()
        self._fetches = 0
        self._ledgers: list[Ledger] = []
        self._putting: Counter[str] = Counter()
        self._link: Link | None = None
        self._index: tuple[Link, AbstractChannel] | None = None  # the channel over which the index is read
        self._read_at = 0.0
        self._position = 0

    # -- counts

    @property
    def wanted(self) -> bool:
        """A lane waits to be called in."""
        return bool(self._wanted or self._missing or self._fetches)

    @property
    def fetching(self) -> int:
        """Messages on their way in."""
        return self._fetching.total()

    @property
    def queues(self) -> int:
        """Parked queues on the broker, as far as known."""
        return len(self._lanes)

    def has(self, lane: object) -> bool:
        """Whether this is a lane that has a queue, for all we know."""
        return lane in self._lanes if isinstance(lane, str) else False

    def change(self, lane: str, by: int) -> None:
        """So many more are in there."""
        self._set(lane, self._counts.get(lane, 0) + by)

    def notice(self, lanes: Mapping[str, int]) -> None:
        """Another process has so many in these lanes; of those that are known the broker is asked anyway."""
        for lane, count in lanes.items():
            if lane not in self._lanes:
                self._set(lane, count)

    def _set(self, lane: str, count: int) -> None:
        self._lanes[lane] = time.monotonic()
        if count > 0:
            self._counts[lane] = count
        else:
            self._counts.pop(lane, None)

    # -- putting in

    async def ensure(self, link: Link, lane: str) -> None:
        """Have the lane's queue, and its entry in the index. Raises `aiormq` errors, `QueueUnavailable`."""
        names = self._topology.names
        await self._topology.ensure(link, names.index)
        await self._topology.ensure(link, names.parked(lane), lambda: self._enter(link, lane))

    async def _enter(self, link: Link, lane: str) -> None:
        """Write the lane into the index, unless it is there for all we know."""
        if lane in self._lanes:
            return
        index, properties = self._topology.names.index, Properties(delivery_mode=PERSISTENT)
        await confirmed(partial(link.publish, "", index, lane.encode(), properties))
        self._lanes[lane] = time.monotonic()

    def putting(self, lane: str, by: int) -> None:
        """So many messages are on their way into the lane's queue."""
        self._putting[lane] += by
        if not self._putting[lane]:
            del self._putting[lane]

    # -- calling in

    def recall(self, lane: str, most: int) -> None:
        """Call in up to `most` more of a lane."""
        if most > 0 and self._counts.get(lane) and self._link is not None:
            self._wanted[lane] = min(self._wanted.get(lane, 0) + most, self._counts[lane])
            self.fill()

    def miss(self, lanes: Mapping[str, int]) -> None:
        """Messages lent over a lost link that have not come again: others came before them, so fetch on."""
        for lane, count in lanes.items():
            if lane not in self._fetching:
                self._missing[lane] = 2 * count + BEFORE
        self.fill()

    def fill(self) -> None:
        """Fetch what is wanted, where there is room; each lane in turn."""
        while self._link is not None and self._fetches < FETCHES and (lane := self._next()) is not None:
            share = self._missing.pop(lane, 0)
            if not share:
                room = self._room()
                if room <= 0:
                    return
                share = min(self._wanted[lane], max(1, room // len(self._wanted)))
            left = self._wanted.pop(lane, 0) - share
            if left > 0:
                self._wanted[lane] = left  # behind the others
            self._fetches += 1
            self._fetching[lane] += share
            self._link.run(self._fetch(self._link, lane, share))

    def _next(self) -> str | None:
        for lanes in (self._missing, self._wanted):
            for lane in lanes:
                if lane not in self._fetching:
                    return lane
        return None

    async def _fetch(self, link: Link, lane: str, share: int) -> None:
        ledger: Ledger | None = None
        try:
            ledger = self._ledgers.pop() if self._ledgers else await link.lender()
            await self._get(link, ledger, lane, share)
        finally:
            self._fetching.pop(lane, None)
            self._fetches -= 1
            if ledger is not None and ledger.link is self._link and not link.ended:
                ledger.held = False
                ledger.flush()
                self._ledgers.append(ledger)
                self.fill()
                self._fetched()

    async def _get(self, link: Link, ledger: Ledger, lane: str, share: int) -> None:
        """One by basic.get, which also says how many are left, then a consumer for exactly the others.

        Acknowledgements, which would let it have more, wait until it is gone.
        """
        name = self._topology.names.parked(lane)
        if name not in self._topology.known and not await self._count(link, lane):
            return
        ledger.held = True
        used = self._lanes.get(lane)
        first = await ledger.channel.basic_get(name)
        there = 0 if first.delivery_tag is None else (first.message_count or 0) + 1
        if self._still(lane, used):
            self._set(lane, there)
        if not there:
            return
        due, got, all_here = min(share, there), 0, asyncio.Event()

        async def take(message: DeliveredMessage) -> None:
            nonlocal got
            got += 1
            if not link.ended:  # else the fetch may be over, and its lane would count as being fetched for ever
                self._fetching[lane] -= 1
            self._arrive(ledger, message, lane)
            if got >= due:
                all_here.set()

        await take(first)
        if due == 1:
            return
        tag = await link.consume(ledger, name, due - 1, take)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_here.wait(), PATIENCE)
        await ledger.channel.basic_cancel(tag)  # waits: what is on its way would be thrown away, and stay lent

    def _gone(self, lane: str) -> None:
        self._topology.forget(self._topology.names.parked(lane))
        self._wanted.pop(lane, None)
        self._counts.pop(lane, None)
        self._lanes.pop(lane, None)

    def purged(self, lane: str | None, *, everything: bool) -> None:
        """A lane's queue was emptied, or all of them were."""
        for name in list(self._counts) if everything else [lane]:
            if name is not None:
                self._set(name, 0)

    # -- the link

    def lost(self, lent: Counter[str]) -> None:
        """The connection is gone: what was lent of these lanes is in their queues again."""
        self._link = None
        self._ledgers.clear()
        self._wanted.clear()
        self._missing.clear()
        for lane, count in lent.items():
            self._missing[lane] += count
            self.change(lane, count)

    async def prepare(self, link: Link) -> None:
        """Find the parked queues over a new link. Raises `aiormq` errors."""
        await self._topology.ensure(link, self._topology.names.index)
        await self._read(link)

    def attach(self, link: Link) -> None:
        """Use this link."""
        self._link = link
        self.fill()

    async def _read(self, link: Link) -> None:
        """Look through the index; entries of queues that are gone, and doubles, are taken out."""
        self._read_at = time.monotonic()
        if self._index is None or self._index[0] is not link:  # one for all times: each lives as long as the link
            self._index = (link, await link.channel())
        channel = self._index[1]
        seen: set[str] = set()
        last = None
        for _ in range(MOST_LANES):
            entry = await channel.basic_get(self._topology.names.index)
            if entry.delivery_tag is None:
                break
            lane = entry.body.decode(errors="replace")
            if lane in seen or not await self._count(link, lane):
                await channel.basic_ack(entry.delivery_tag, wait=False)
            else:
                last = entry.delivery_tag
                seen.add(lane)
        if last is not None:
            await channel.basic_nack(last, multiple=True, requeue=True)

    async def _count(self, link: Link, lane: str) -> bool:
        """Learn how many are in a lane's queue; whether there is one."""
        name, used = self._topology.names.parked(lane), self._lanes.get(lane)
        try:
            count = (await link.count(name)).message_count or 0
        except ChannelNotFoundEntity:
            self._gone(lane)
            return False
        if lane not in self._fetching and self._still(lane, used):
            self._set(lane, count)
            if not count and used is not None:
                self._lanes[lane] = used
            self._topology.known.add(name)
        return True

    def _still(self, lane: str, used: float | None) -> bool:
        """Whether nothing was put in or taken since the broker was asked, so that its answer holds."""
        return lane not in self._putting and self._lanes.get(lane) == used

    # -- housekeeping

    async def look(self, alone: bool) -> None:
        """About once a second: recount some lanes, remove empty queues. `alone`: no other program reads the outbox."""
        link = self._link
        if link is None:
            return
        lanes = list(self._lanes)
        self._position = (self._position + LOOKED) % max(1, len(lanes))
        for lane in (lanes + lanes)[self._position : self._position + min(LOOKED, len(lanes))]:
            await self._count(link, lane)
        if alone:
            await self._remove_empty(link)
        if time.monotonic() - self._read_at > REREAD:
            await self._read(link)

    async def _remove_empty(self, link: Link) -> None:
        now = time.monotonic()
        for lane in [lane for lane, used in self._lanes.items() if now - used >= self._linger and self._idle(lane)]:
            name = self._topology.names.parked(lane)
            if self._idle(lane) and await self._topology.remove(link, name) and self._idle(lane):
                self._gone(lane)

    def _idle(self, lane: str) -> bool:
        busy = self._counts.get(lane) or lane in self._fetching or lane in self._putting or lane in self._missing
        return not busy and not self._held(lane)
