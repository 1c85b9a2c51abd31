"""What the embedded queue lends: whose turn it is, within credit.

Owns the loans and the consumer's stream. Everything here runs on the event loop. Bounds: at most `credit` loans, and
no more while their bodies exceed BUDGET bytes. Nothing of it is durable: after a kill all that was lent is simply
found again.

A message comes to be lent in one of two ways. When nothing older waits, one that has just been committed is lent from
memory. Otherwise `behind` is set, and it is read from the file in its turn: ready messages after a rising cursor;
those whose time has come; parked ones that expire; and those recalled, lane by lane. Fresh messages and recalled ones
have half the credit each while both want it. A failed read is tried again at the next tick.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

import msgspec
from reactivex import abc

from operators.deliveries.delivery import Lease
from pipeline.queues.embedded.fetch import NEVER, READ_BYTES, Fetched, FetchRequest, Found, Search
from pipeline.queues.embedded.file import StoredRow
from pipeline.queues.embedded.segments import StoredContent

BUDGET = 64 * 2**20  # bytes of JSON lent, beyond which nothing more is lent; contents in segments do not count
READ_LANES = 16  # recalled lanes looked at in one read
TURN = 100  # leases given out in one turn of the event loop


class Loan(msgspec.Struct):
    """A message that is lent. `source`: where it was found, see `store`; `lane`: where it is parked, or None.

    One that is `withdrawn` is nobody's credit: see `Lending.withdraw`.
    """

    size: int
    source: str
    lane: str | None
    segment: int | None = None
    settling: bool = False
    withdrawn: bool = False


Moved = Callable[[str, int], None]  # lane, and by how many its parked queue has changed
Read = Callable[[FetchRequest, Callable[[Fetched | None], None]], None]


class Lending:
    """The loans, and what is lent next."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], read: Read, moved: Moved) -> None:
        self._loop, self._clock, self._read, self._moved = loop, clock, read, moved
        self._known = False  # the file was counted
        self._observer: abc.ObserverBase[Lease] | None = None
        self._credit = 0
        self._loans: dict[int, Loan] = {}
        self._bytes = 0
        self._out: Counter[str] = Counter()  # loans by lane
        self._withdrawn = 0  # loans
        self._waited = 0  # loans whose time had come
        self._outgoing: deque[Lease] = deque()  # lent, about to be given out
        self._emitting = False
        self._parked: dict[str, int] = {}
        self.parked: Mapping[str, int] = MappingProxyType(self._parked)
        self._wanted: dict[str, int] = {}  # recalled, by lane; the first one is next
        self._cursor = 0  # ready messages up to this id are lent, or gone
        self._swept: tuple[int, int] | None = None  # see `sweep`
        self._beyond = 0  # of what came after that, as `_cursor`
        self._behind = True  # there may be ready ones after it
        self._due, self._expires = 0.0, 0.0  # when to look for the next one
        self._request: FetchRequest | None = None  # the read under way
        self._restart = False  # look from the beginning after it
        self._turn = 0

    # The consumer

    def open(self, observer: abc.ObserverBase[Lease], credit: int) -> None:
        """Begin to lend."""
        self._observer, self._credit = observer, credit
        self.look_again()

    def shut(self) -> abc.ObserverBase[Lease] | None:
        """Lend no more; what was not given out yet stays in the queue. Returns the consumer."""
        observer, self._observer = self._observer, None
        while self._outgoing:
            self._forget(self._outgoing.popleft().id)
        return observer

    @property
    def free(self) -> int:
        """Credit that is not used."""
        return max(0, self._credit - len(self._loans) + self._withdrawn)

    @property
    def _reads_ready(self) -> bool:
        return self._request is not None and any(search.source == "ready" for search in self._request.fresh)

    @property
    def lent(self) -> int:
        """Messages lent."""
        return len(self._loans)

    @property
    def lent_waiting(self) -> int:
        """Those of them that had waited for their time."""
        return self._waited

    @property
    def lent_parked(self) -> int:
        """Those of them that are parked in the file."""
        return self._out.total()

    @property
    def segments(self) -> set[int] | None:
        """Those that hold what is lent; None: not known now, since a read is under way."""
        if self._request is not None:
            return None
        return {loan.segment for loan in self._loans.values() if loan.segment is not None}

    # What happens to loans

    def settling(self, id: int) -> bool:
        """Begin to settle a loan; False where there is none, or another settlement is under way."""
        loan = self._loans.get(id)
        if loan is None or loan.settling:
            return False
        loan.settling = True
        return True

    def settled(self, id: int) -> None:
        """It has been settled."""
        self._remove(id)

    def unsettled(self, id: int) -> None:
        """It could not be settled: it is still lent."""
        self._loans[id].settling = False

    def given_back(self, lease: Lease) -> None:
        """Lend it again, before anything else; without a consumer it is just in the queue again."""
        if self._observer is None:
            self._forget(lease.id)
            return
        self._loans[lease.id].settling = False
        self._outgoing.appendleft(msgspec.structs.replace(lease, redelivered=True))

    # What is taken out, whoever's turn it is

    def sweep(self, reached: int, until: int) -> None:
        """All that is ready up to `until` is looked through, and that up to `reached` has been.

        Meanwhile only that is lent, and what has come since: the rest would be lent to be ended one by one.
        """
        if self._swept is None:
            self._beyond = until
        self._swept, self._behind = (reached, until), True
        self.fill()

    def unswept(self) -> None:
        """That is over."""
        self._swept = None
        self.look_again()

    def withdraw(self, ids: Sequence[int]) -> list[int]:
        """Keep these from being lent, and from being withdrawn again; returns those of them that are not lent now."""
        found = [id for id in ids if id not in self._loans]
        for id in found:
            self._loans[id] = Loan(0, "withdrawn", None, withdrawn=True)
        self._withdrawn += len(found)
        return found

    def withdrawn(self, ids: Sequence[int], rows: Mapping[int, StoredRow]) -> list[Lease]:
        """They have been read: as leases, to be settled or put back. Those that are gone by now are left out."""
        leases = []
        for id in ids:
            row = rows.get(id)
            if row is None:
                self._forget(id)
                continue
            loan = self._loans[id]
            if row.content is not None:
                loan.segment = row.content.segment
            if row.lane:
                loan.lane = row.lane
                self._out[row.lane] += 1
                self._change_parked(row.lane, -1)
            leases.append(Lease(id, row.body, row.queued, loan.lane, timely=True, content=row.content))
        return leases

    def ended(self, ids: Sequence[int]) -> None:
        """They are gone for good."""
        for id in ids:
            self._remove(id)

    def put_back(self, ids: Sequence[int]) -> None:
        """They were withdrawn for nothing, unless they have ended: they are as they were."""
        found = [id for id in ids if id in self._loans]
        for id in found:
            self._forget(id)
        if found:
            self.look_again()

    # What happens to the queue

    def arrived(self, id: int, body: bytes, queued: float, content: StoredContent | None = None) -> None:
        """A ready message has been committed."""
        if id <= (self._cursor if self._swept is None else self._beyond) or id in self._loans:
            return  # was read from the file already
        room = self.free - (self._request.room if self._request else 0)
        behind = self._behind or self._swept is not None or self._reads_ready
        if behind or self._observer is None or room <= 0 or self._bytes >= BUDGET:
            self._behind = True
            return
        self._cursor = id
        self._lend(StoredRow(id, queued, "", body, content), "ready")

    def waits(self, due: float) -> None:
        """A message has been committed that waits for its time."""
        self._due = min(self._due, due)

    def was_parked(self, lane: str, expires: float | None) -> None:
        """A message has been parked."""
        self._change_parked(lane, 1)
        if expires is not None:
            self._expires = min(self._expires, expires)

    def counted(self, parked: Mapping[str, int]) -> None:
        """The file was counted: messages parked, by lane. It may hold anything now, so look everywhere."""
        before = dict(self._parked)
        self._parked.clear()
        self._parked.update((lane, n - self._out[lane]) for lane, n in parked.items() if n > self._out[lane])
        if self._known:
            self._tell(before)
        self._known = True
        self.look_again()

    def _tell(self, before: Mapping[str, int]) -> None:
        """What has changed by no message's own way: an operator has purged, deleted or released."""
        for lane in {**before, **self._parked}:
            if change := self._parked.get(lane, 0) - before.get(lane, 0):
                self._moved(lane, change)

    def look_again(self) -> None:
        """Look from the beginning."""
        self._restart = self._request is not None
        self._cursor, self._behind, self._due, self._expires = 0, True, 0.0, 0.0
        self.fill()

    def recall(self, lane: str, most: int) -> None:
        """Lend up to `most` more of this lane."""
        if most > 0 and self._parked.get(lane):
            self._wanted[lane] = min(self._wanted.get(lane, 0) + most, self._parked[lane])
            self.fill()

    # Lending from the file

    def fill(self) -> None:
        """Give out what is lent, and read more where there is credit and something to lend."""
        self.emit()
        if self._observer is None or self._request is not None or self.free <= 0 or self._bytes >= BUDGET:
            return
        now = self._clock()
        # While new messages are lent from memory, half of the credit is left to them.
        room = self.free if self._behind else (self.free + 1) // 2
        fresh, recalls = self._fresh(room, now), self._recalls(room)
        if not fresh and not recalls:
            return
        self._turn += 1
        lent, space = frozenset(self._loans), min(BUDGET - self._bytes, READ_BYTES)
        self._request = FetchRequest(fresh, recalls, lent, room, space, now, self._turn % 2 == 0)
        self._read(self._request, self._filled)

    def _fresh(self, room: int, now: float) -> list[Search]:
        """What to look for in the outbox. What is noted from now on is news that the read may not see."""
        searches = []
        if self._behind:
            searches += self._ready(room)
            self._behind = False
        if self._due <= now:
            searches.append(Search("waiting", now, room + self._waited + self._withdrawn, room))
            self._due = NEVER
        if self._expires <= now:
            searches.append(Search("expiring", now, room + self.lent_parked + self._withdrawn, room))
            self._expires = NEVER
        turned = self._turn // 2 % len(searches) if searches else 0
        return searches[turned:] + searches[:turned]

    def _ready(self, room: int) -> list[Search]:
        if self._swept is None:
            return [Search("ready", self._cursor, room + self._again_from_start(), room)]
        reached = self._swept[0]
        before = [Search("ready", self._cursor, room + len(self._loans), room, reached)]
        after = [Search("ready", self._beyond, room + len(self._loans), room)]
        return before + after if self._cursor < reached else after

    def _again_from_start(self) -> int:
        """From the beginning, the oldest ones are those that are lent."""
        return len(self._loans) if self._cursor == 0 else 0

    def _recalls(self, room: int) -> list[Search]:
        searches = []
        for lane in islice(self._wanted, READ_LANES):
            share = min(self._wanted[lane], room)
            self._wanted[lane] -= share
            searches.append(Search("parked", lane, share + self._out[lane], share))
        return searches

    def _filled(self, answer: Fetched | None) -> None:
        """The read has come back; None: it failed, and the next tick looks again."""
        request, self._request = self._request, None
        assert request is not None
        if answer is None:
            self._behind, self._due, self._expires = True, 0.0, 0.0
            for search in request.recalls:
                self._wanted[str(search.after)] += search.share
            return
        for found in answer.found:
            self._note(found, answer)
        if self._restart:
            self._restart = False
            self.look_again()
        else:
            self.fill()

    def _note(self, found: Found, answer: Fetched) -> None:
        search = found.search
        match search.source:
            case "ready":
                self._behind = self._behind or not found.all
                if self._swept is not None and float(search.after) >= self._swept[1]:
                    self._beyond = max(found.reached, self._beyond)
                else:
                    self._cursor = max(found.reached, self._cursor)
            case "waiting":
                self._due = min(self._due, answer.due if found.all else 0.0)
            case "expiring":
                self._expires = min(self._expires, answer.expires if found.all else 0.0)
            case _:
                self._recalled(found)
        if self._observer is not None:
            for row in found.rows:
                self._lend(row, search.source)

    def _recalled(self, found: Found) -> None:
        """Those that have had their turn go behind the others; a lane that has no more is done."""
        lane, more = str(found.search.after), 0 if found.all else found.search.share - len(found.rows)
        self._wanted[lane] += more
        if found.rows or not self._wanted[lane]:
            left = self._wanted.pop(lane)
            if left:
                self._wanted[lane] = left

    # Loans

    def _lend(self, row: StoredRow, source: str) -> None:
        if row.id in self._loans:
            return  # was withdrawn while it was read
        lane, content = row.lane or None, row.content
        segment = content.segment if content is not None else None
        self._loans[row.id] = Loan(len(row.body), source, lane, segment)
        self._bytes += len(row.body)
        self._waited += source == "waiting"
        if lane is not None:
            self._out[lane] += 1
            self._change_parked(lane, -1)
        self._outgoing.append(Lease(row.id, row.body, row.queued, lane, timely=source != "ready", content=content))

    def _remove(self, id: int) -> Loan:
        loan = self._loans.pop(id)
        self._withdrawn -= loan.withdrawn
        self._bytes -= loan.size
        self._waited -= loan.source == "waiting"
        if loan.lane is not None:
            self._out[loan.lane] -= 1
            if not self._out[loan.lane]:
                del self._out[loan.lane]
        return loan

    def _forget(self, id: int) -> None:
        """It is not lent any more, and as it was in the file."""
        if (lane := self._remove(id).lane) is not None:
            self._change_parked(lane, 1)

    def _change_parked(self, lane: str, by: int) -> None:
        n = self._parked.get(lane, 0) + by
        if n > 0:
            self._parked[lane] = n
        else:
            self._parked.pop(lane, None)

    # Giving out

    def emit(self) -> None:
        """Give out what is lent, TURN at once; the rest in the next turns of the loop, so that it is never blocked."""
        if not self._emitting:
            self._emit()

    def _emit(self) -> None:
        self._emitting = False
        for _ in range(min(TURN, len(self._outgoing))):
            if self._observer is None or not self._outgoing:
                return
            try:
                self._observer.on_next(self._outgoing.popleft())
            except Exception as error:
                self._loop.call_exception_handler({"message": "a consumer of the queue failed", "exception": error})
        if self._outgoing:
            self._emitting = True
            self._loop.call_soon(self._emit)
