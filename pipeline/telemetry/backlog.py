"""Backlog: how each destination answers, in what words, and what waits for its retry. A projection of the event stream.

Owner of: one cell for each (MTA IP, domain) and (tag, domain), with its ends of the last SPAN minutes and the messages
that wait since then. Bounds: CELLS cells of either kind, the least recently active is forgotten; of a cell REASONS
different answers a minute, texts cut at TEXT characters, and BUCKETS retry times.

A message that waits carries its attempts, so whether one that is taken up was waiting, and where, is read from itself.
What waited before the start is not known until somebody has looked into the queue, see `recount`.

Cost: 1 microsecond for an accepted message, 3 for one that was put off. An event that cannot be counted is logged.
"""

from __future__ import annotations

import collections
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
import structlog
from reactivex import Observable, abc

from operators.deliveries.events import Event, Passed, Settled, Taken
from operators.deliveries.outcome import Next
from pipeline.telemetry.figures import OUTSIDE

SPAN = 5  # minutes
CELLS = 5000
REASONS = 20
BUCKETS = 60
BUCKET = 15.0  # seconds of retry times that are one
TEXT = 300
TAGS = 10  # of a message
ELSE = "other answers"
MtaIps = str | frozenset[str] | None  # one, some, or all
Kind = Literal["deferred", "bounced"]


class Reason(msgspec.Struct, frozen=True):
    """An answer, or what came in its place, without what differs from message to message."""

    kind: Kind
    code: str  # of the answer; else the result: timeout, lost, error
    text: str


class Standing(msgspec.Struct, kw_only=True):
    """How a destination, or many, answered in the last SPAN minutes, and what waits for it now.

    Attributes:
        accepted, deferred, bounced: attempts that ended so; deferred: put off for a retry, bounced: given up.
        retrying: messages that wait for their retry; `next_retry`: when the first goes, epoch seconds.
        reasons: equal answers with their count, the most frequent first.
    """

    accepted: int = 0
    deferred: int = 0
    bounced: int = 0
    retrying: int = 0
    next_retry: float | None = None
    reasons: list[tuple[Reason, int]] = []

    @property
    def ended(self) -> int:
        """Attempts that ended."""
        return self.accepted + self.deferred + self.bounced


class MinuteCount(NamedTuple):
    """What ended in a minute: of an MTA IP or a tag (`key`) and a domain, whose lane was the last."""

    key: str
    domain: str
    lane: str
    accepted: int
    deferred: int
    bounced: int


class _Cell:
    """One destination from one MTA IP, or with one tag."""

    __slots__ = ("lane", "minutes", "waits")

    def __init__(self) -> None:
        self.lane = ""
        self.minutes: dict[int, list[Any]] = {}  # accepted, deferred, bounced, reasons
        self.waits: dict[int, int] = {}  # by bucket of the retry time

    def minute(self, minute: int) -> list[Any]:
        """The counts of a minute."""
        found = self.minutes.get(minute)
        if found is None:
            for old in [old for old in self.minutes if not minute - SPAN < old <= minute]:
                del self.minutes[old]
            found = self.minutes[minute] = [0, 0, 0, None]
        return found

    def wait(self, until: float, count: int = 1) -> None:
        """So many more wait until then."""
        bucket = int(until // BUCKET)
        if bucket not in self.waits and len(self.waits) >= BUCKETS:
            bucket = min(self.waits, key=lambda other: abs(other - bucket))
        self.waits[bucket] = self.waits.get(bucket, 0) + count

    def go(self) -> None:
        """One that waited is taken up: of those that go first."""
        if self.waits:
            first = min(self.waits)
            self.waits[first] -= 1
            if not self.waits[first]:
                del self.waits[first]


_Cells = collections.OrderedDict[tuple[str, str], _Cell]


class Backlog:
    """How destinations answer, and what waits for them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._by_ip: _Cells = collections.OrderedDict()
        self._by_tag: _Cells = collections.OrderedDict()
        self._log = structlog.get_logger("backlog")
        self._known: tuple[int, dict[Any, dict[str, Standing]]] = (0, {})  # what was worked out in this second

    def watch(self, events: Observable[Event]) -> abc.DisposableBase:
        """Count the events of a stream until disposed."""
        return events.subscribe(self.count)

    def count(self, event: Event) -> None:
        """Count one event; never raises."""
        try:
            if isinstance(event, Settled):
                self._settled(event)
            elif isinstance(event, Taken):
                self._taken(event)
        except Exception:
            self._log.exception("an event could not be counted", kind=type(event).__name__)

    # -- counting -----------------------------------------------------------------------------------------------------

    def _settled(self, event: Settled) -> None:
        outcome, delivery = event.outcome, event.delivery
        place = _PLACES.get(outcome.next)
        if place is None or (place and outcome.state not in OUTSIDE and outcome.next is not Next.POSTPONE):
            return
        minute, domain, tags = int(event.time) // 60, delivery.domain or delivery.message.domain, delivery.message.tags
        if outcome.next is not Next.POSTPONE:
            for cell in self._cells(outcome.local_ip or delivery.ip, domain, tags):
                cell.lane = delivery.lane or cell.lane
                slot = cell.minute(minute)
                slot[place] += event.count if isinstance(event, Passed) else 1
                if place:
                    _note(slot, _reason(_KINDS[place], str(outcome.code or outcome.result), outcome))
        if place == 1 and event.retry_at is not None:
            for cell in self._cells(outcome.local_ip or "", domain, tags):  # as its results will say
                cell.wait(event.retry_at)

    def _taken(self, event: Taken) -> None:
        lease, message = event.delivery.lease, event.delivery.message
        if lease.recalled is not None or lease.redelivered or not (message.results or message.nextattempt):
            return
        ip = str(message.results[-1].get("from") or "") if message.results else ""
        keys = [(self._by_ip, ip), *((self._by_tag, tag[:255]) for tag in message.tags[:TAGS])]
        for cells, key in keys:
            if (cell := cells.get((key, message.domain))) is not None:
                cell.go()

    def _cells(self, ip: str, domain: str, tags: Iterable[str]) -> Iterator[_Cell]:
        yield self._cell(self._by_ip, (ip, domain))
        for tag in list(tags)[:TAGS]:
            yield self._cell(self._by_tag, (tag[:255], domain))

    @staticmethod
    def _cell(cells: _Cells, key: tuple[str, str]) -> _Cell:
        cell = cells.get(key)
        if cell is None:
            if len(cells) >= CELLS:
                cells.popitem(last=False)
            cell = cells[key] = _Cell()
        else:
            cells.move_to_end(key)
        return cell

    # -- what the queue says ------------------------------------------------------------------------------------------

    def recount(self, waiting: Mapping[tuple[str, str], Mapping[float, int]], tags: bool) -> None:
        """What waits, as the queue has it: for each (MTA IP or tag, domain), how many go when."""
        cells = self._by_tag if tags else self._by_ip
        for cell in cells.values():
            cell.waits.clear()
        for key, times in waiting.items():
            cell = self._cell(cells, key)
            for until, count in times.items():
                cell.wait(until, count)

    # -- looking ------------------------------------------------------------------------------------------------------

    def minute(self, minute: int, tags: bool = False) -> list[MinuteCount]:
        """What ended in one of the last SPAN minutes (epoch seconds // 60), by (MTA IP or tag, domain)."""
        cells = self._by_tag if tags else self._by_ip
        return [
            MinuteCount(key, domain, cell.lane, *cell.minutes[minute][:3])
            for (key, domain), cell in cells.items()
            if minute in cell.minutes
        ]

    def standing(
        self, ip: MtaIps = None, domain: str | None = None, tag: str | None = None, lane: str | None = None
    ) -> Standing:
        """How all that passes answers; None: any."""
        return _sum(cell for _, _, cell in self._select(ip, domain, tag, lane))

    def by(
        self, which: Literal["ip", "domain", "lane"], ip: MtaIps = None, domain: str | None = None,
        tag: str | None = None,
    ) -> dict[str, Standing]:  # fmt: skip
        """How each of them answers, of all that passes; worked out once a second, whoever asks."""
        return self._once((which, ip, domain, tag), lambda: self._grouped(which, ip, domain, tag))

    def _once(self, key: Any, work: Callable[[], dict[str, Standing]]) -> dict[str, Standing]:
        second = int(self._clock())
        if self._known[0] != second:
            self._known = (second, {})
        if key not in self._known[1]:
            self._known[1][key] = work()
        return self._known[1][key]

    def _grouped(self, which: str, ip: MtaIps, domain: str | None, tag: str | None) -> dict[str, Standing]:
        groups: dict[str, list[_Cell]] = collections.defaultdict(list)
        for one, name, cell in self._select(ip, domain, tag, None):
            groups[{"ip": one, "domain": name, "lane": cell.lane or f"{one}/{name}"}[which]].append(cell)
        return {key: _sum(cells) for key, cells in groups.items()}

    def tags(self) -> dict[str, Standing]:
        """How the mail of each tag is answered."""
        return self._once("tags", self._tags)

    def _tags(self) -> dict[str, Standing]:
        groups: dict[str, list[_Cell]] = collections.defaultdict(list)
        for (tag, _), cell in self._by_tag.items():
            groups[tag].append(cell)
        return {tag: _sum(cells) for tag, cells in groups.items()}

    def _select(
        self, ip: MtaIps, domain: str | None, tag: str | None, lane: str | None
    ) -> Iterator[tuple[str, str, _Cell]]:
        now = int(self._clock()) // 60
        for (one, name), cell in (self._by_ip if tag is None else self._by_tag).items():
            if (domain, lane) != (None, None) and (domain not in (None, name) or lane not in (None, cell.lane)):
                continue
            its = one if tag is None else cell.lane.partition("/")[0]
            if (tag is not None and one != tag) or (
                its not in ip if isinstance(ip, frozenset) else ip not in (None, its)
            ):
                continue
            for old in [old for old in cell.minutes if not now - SPAN < old <= now]:
                del cell.minutes[old]
            yield its, name, cell


_PLACES = {Next.DELIVERED: 0, Next.RETRY: 1, Next.POSTPONE: 1, Next.FAIL: 2}
_KINDS: dict[int, Kind] = {1: "deferred", 2: "bounced"}
# What differs from message to message: addresses, and names of digits and letters as queues and sessions have them.
_OWN = re.compile(r"<[^>\s]*@[^>\s]*>|[\w.+-]+@[\w.-]+|\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{8,}\b|\b[0-9]{6,}\b")


def _reason(kind: Kind, code: str, outcome: Any) -> Reason:
    return _named(kind, code, outcome.status or "", outcome.description[:TEXT])


@functools.lru_cache(2048)
def _named(kind: Kind, code: str, status: str, text: str) -> Reason:
    return Reason(kind, code, f"{status} {_OWN.sub('…', text)}".strip())


def _note(slot: list[Any], reason: Reason) -> None:
    reasons: dict[Reason, int] = slot[3]
    if reasons is None:
        reasons = slot[3] = {}
    if reason not in reasons and len(reasons) >= REASONS:
        reason = Reason(reason.kind, "", ELSE)
    reasons[reason] = reasons.get(reason, 0) + 1


def _sum(cells: Iterable[_Cell]) -> Standing:
    found, reasons = Standing(), collections.Counter[Reason]()
    for cell in cells:
        for accepted, deferred, bounced, its in cell.minutes.values():
            found.accepted += accepted
            found.deferred += deferred
            found.bounced += bounced
            reasons.update(its or {})
        if cell.waits:
            found.retrying += sum(cell.waits.values())
            first = min(cell.waits) * BUCKET
            found.next_retry = first if found.next_retry is None else min(found.next_retry, first)
    found.reasons = reasons.most_common()
    return found
