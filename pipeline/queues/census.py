"""The census: one look at every message of a queue, for what no counter can say: ages, and where mail waits.

Takes the queue's own pages, so that its thread does other work in between. Bound: MOST messages; what is more is said.
"""

from __future__ import annotations

import asyncio
import bisect
import collections
import time
from collections.abc import Callable

import msgspec

from operators.mail.message import Message
from pipeline.queues.contract import Queue
from pipeline.queues.listing import Filter, Listed

MOST = 200_000
PAGE = 2000
AGES = (60, 300, 900, 3600, 21_600, 86_400)  # seconds: the bounds between the bars
Places = dict[tuple[str, str], dict[float, int]]  # (MTA IP or tag, domain): retry times, with how many


class Census(msgspec.Struct):
    """What was found.

    Attributes:
        ages: messages by age: younger than each of AGES, and older than the last; by state.
        oldest: when the oldest came into the queue, by lane; under "" of all.
        waiting, tags: where those that wait for a retry were last sent from, and what tags they have.
        looked: messages; `whole`: those are all.
        cost: seconds that it took.
    """

    ages: dict[str, list[int]]
    oldest: dict[str, float]
    waiting: Places
    tags: Places
    looked: int = 0
    whole: bool = True
    cost: float = 0.0


async def census(queue: Queue, outbox: str, clock: Callable[[], float] = time.time) -> Census:
    """Look at all messages of the outbox. Raises `Unbrowsable`, `QueueUnavailable`."""
    found, now, begun = Census({}, {}, {}, {}), clock(), time.monotonic()
    after: tuple[float, int] | None = (0.0, 0)
    while after is not None and found.looked < MOST:
        page = await queue.browse(Filter(), after, PAGE)
        for message in page.messages:
            if message.queue == outbox:
                _count(found, message, now)
        after = page.after
        await asyncio.sleep(0)
    found.whole, found.cost = after is None, time.monotonic() - begun
    return found


def _count(found: Census, message: Listed, now: float) -> None:
    found.looked += 1
    state = "parked" if message.lane else "waiting" if message.due else "ready"
    bars = found.ages.setdefault(state, [0] * (len(AGES) + 1))
    bars[bisect.bisect_right(AGES, now - message.queued)] += 1
    for lane in {message.lane, ""}:
        found.oldest[lane] = min(message.queued, found.oldest.get(lane, message.queued))
    if state != "waiting":
        return
    domain, ip = Message(recipient=message.recipient).domain, str((message.last or {}).get("from") or "")
    _add(found.waiting, (ip, domain), message.due)
    for tag in message.tags[:10]:
        _add(found.tags, (tag[:255], domain), message.due)


def _add(places: Places, key: tuple[str, str], due: float) -> None:
    times = places.setdefault(key, collections.defaultdict(int))
    times[due // 15 * 15] += 1
