"""Reading what is lent next from the embedded queue's file: one request, one moment of the file, one answer.

Runs in the reader's thread, and owns nothing. Bounds: what the request allows, and READ_BYTES.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

from pipeline.queues.embedded.file import LAST, Store, StoredRow

READ_BYTES = 8 * 2**20  # of bodies read at once, and one more message
NEVER = float("inf")

T = TypeVar("T")


class Search(msgspec.Struct, frozen=True):
    """Look into one source for up to `most`, of which `share` may be taken. `after`, `until`: see `Store.find`."""

    source: str
    after: float | str
    most: int
    share: int
    until: int = LAST


class Found(msgspec.Struct):
    """What a search came to: the messages taken, how far it looked, and whether that was all there is."""

    search: Search
    rows: list[StoredRow]
    reached: int
    all: bool


class FetchRequest(msgspec.Struct, frozen=True):
    """What to read at once: in turn from `fresh` and `recalls`, up to `room` messages and `space` bytes."""

    fresh: list[Search]
    recalls: list[Search]
    lent: frozenset[int]
    room: int
    space: int
    now: float
    recalls_first: bool


class Fetched(msgspec.Struct, frozen=True):
    """What was read: by search, and when something next becomes due, or expires."""

    found: list[Found]
    due: float
    expires: float


def fetch(store: Store, outbox: str, request: FetchRequest) -> Fetched:
    """Read what a request asks for. Runs in the reader's thread."""
    with store.reading():
        searches = [*request.fresh, *request.recalls]
        listings = [store.find(search.source, outbox, search.after, search.most, search.until) for search in searches]
        chosen = _choose(request, listings)
        rows = store.take(chosen) if chosen else {}
        timed = any(search.source in ("waiting", "expiring") for search in request.fresh)
        due, expires = store.upcoming(outbox, request.now) if timed else (NEVER, NEVER)
    for row in rows.values():
        if row.content is not None:
            row.content.warm()
    found = []
    for number, (search, listing) in enumerate(zip(searches, listings, strict=True)):
        passed = list(_passed(listing, chosen, request.lent))
        complete = len(passed) == len(listing) < search.most
        mine = [rows[id] for id in passed if chosen.get(id) == number and id in rows]
        found.append(Found(search, mine, passed[-1] if passed else 0, complete))
    return Fetched(found, due, expires)


def _choose(request: FetchRequest, listings: list[list[tuple[int, int]]]) -> dict[int, int]:
    """Whose turn it is: message ids, each with the number of the search that found it."""

    def offers(number: int, search: Search) -> Iterator[tuple[int, int, int]]:
        unlent = ((id, size, number) for id, size in listings[number] if id not in request.lent)
        return islice(unlent, search.share)

    fresh = [offers(number, search) for number, search in enumerate(request.fresh)]
    recalls = [offers(number, search) for number, search in enumerate(request.recalls, len(fresh))]
    recalled = _in_turn(recalls)
    sides = [_in_turn(fresh), recalled, recalled]  # twice: what is parked shall become less, not more
    chosen: dict[int, int] = {}
    size = 0
    for id, more, number in _in_turn(sides[::-1] if request.recalls_first else sides):
        if len(chosen) >= request.room or size >= request.space:
            break
        if chosen.setdefault(id, number) == number:
            size += more
    return chosen


def _in_turn(streams: Iterable[Iterator[T]]) -> Iterator[T]:
    """One of each, until all are at their end."""
    waiting = deque(streams)
    while waiting:
        stream = waiting.popleft()
        try:
            yield next(stream)
        except StopIteration:
            continue
        waiting.append(stream)


def _passed(listing: list[tuple[int, int]], chosen: Mapping[int, int], lent: frozenset[int]) -> Iterator[int]:
    """The oldest messages of a listing, up to the first one that is not lent."""
    for id, _ in listing:
        if id not in chosen and id not in lent:
            return
        yield id
