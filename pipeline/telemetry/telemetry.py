"""Telemetry: the counters, as a projection of the one event stream.

Owner of: every figure that the console, `/metrics` and the API show; for all, for each MTA IP, domain and tag.

Bounds: a series for at most `keys` keys in each dimension (the least recently active is forgotten), parked counts for
at most PARKED keys, an answer for at most `keys` domains, ANSWERS last answers, and one small record for each message
in memory, which credit bounds. Measured: 100,000 domains in turn 7 MB, 1,000 domains that are busy all day 35 MB.
Cost: 1.5 microseconds an event with one tag, in all dimensions together (5 where every message of a second is for
another domain): a second's counts are added up in plain lists, and folded into the series when the second is over.

What fails: an event that cannot be counted is logged and dropped; the stream and the other figures go on.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import reactivex as rx
import structlog
from reactivex import Observable, abc
from reactivex import operators as ops

from operators.deliveries.delivery import Delivery, lane_ip
from operators.deliveries.events import (
    Assigned,
    Connecting,
    Event,
    Parked,
    Passed,
    Redirected,
    Settled,
    Taken,
    Unparked,
)
from operators.deliveries.outcome import Next, Outcome
from pipeline.telemetry.figures import COUNTERS, FIGURES, GAUGES, INDEX, OUTSIDE, WRONG, Figure, counted
from pipeline.telemetry.series import SLOTS, STEPS, Place, Series, places

__all__ = [
    "COUNTERS",
    "DIMENSIONS",
    "FIGURES",
    "GAUGES",
    "INDEX",
    "RANGES",
    "DomainErrors",
    "Figure",
    "LastAnswer",
    "Telemetry",
]

Dimension = Literal["ip", "domain", "tag"]
Range = Literal["1m", "1h", "24h"]
DIMENSIONS: tuple[Dimension, ...] = ("ip", "domain", "tag")
RANGES: dict[Range, int] = {"1m": 0, "1h": 1, "24h": 2}

PARKED = 10_000  # keys in each dimension with a parked count
ANSWERS = 500  # last attempts that went wrong
TAGS = 10  # of a message that are counted
LONGEST = 255  # characters of a key; a domain has no more (RFC 1035 2.3.4)
RECENT = 30  # slots of 10 s that the top errors look at: 5 minutes

_PROCESSED = (INDEX["processed"],)
_REMOVED = (INDEX["removed"],)
_REDIRECTED = (INDEX["redirected"],)
_CONNECTS = (INDEX["connects"],)


class LastAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt that went wrong, as the console shows it. `time` is epoch seconds."""

    time: float
    domain: str
    ip: str
    outcome: Outcome


class DomainErrors(msgspec.Struct, frozen=True, kw_only=True):
    """A destination with errors in the last 5 minutes, and the last of them."""

    domain: str
    errors: int  # negative answers, strange ends, and attempts that reached nobody
    attempts: int
    delivered: int
    last: LastAnswer


class _Held(msgspec.Struct):
    """Where a message in memory is counted, from taken to settled."""

    domain: str
    tags: tuple[str, ...]
    ip: str = ""


_Keys = collections.OrderedDict[str, Series]
_Where = tuple[str, str, tuple[str, ...]]  # MTA IP, domain, tags


class Telemetry:
    """Counters, gauges and series of what the machine does.

    Args:
        clock: epoch seconds.
        gauges: figures that others own, by name, read when they are shown: attempting, active, idle, waiting.
        keys: series kept in each dimension.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        gauges: Mapping[str, Callable[[], int]] | None = None,
        keys: int = 1000,
    ) -> None:
        self._clock = clock
        self._gauges = dict(gauges or {})
        self._most = keys
        self._all = Series(len(INDEX))
        self._whole: _Keys = collections.OrderedDict({"": self._all})
        self._totals = [0] * len(INDEX)
        self._dimensions: dict[str, _Keys] = {name: collections.OrderedDict() for name in DIMENSIONS}
        self._ips, self._domains, self._tags = self._dimensions.values()
        self._touched: list[tuple[Series, _Keys, str]] = []
        self._second = self.began = int(clock())  # epoch seconds; before it is known what was put back
        self.restored: dict[int, tuple[int, int]] = {}  # by tier, of which time that is, epoch seconds
        self._where: tuple[Place, ...] = places(self._second)
        self._held: dict[int, _Held] = {}
        self._parked = 0
        self._parked_by: dict[str, collections.OrderedDict[str, int]] = {
            n: collections.OrderedDict() for n in DIMENSIONS
        }
        # Who is parked in each lane, in the order in which they came; see `_on_unparked`.
        self._parked_in: dict[str, dict[_Where, int]] = {}
        self._noted = 0
        self._last: collections.OrderedDict[str, LastAnswer] = collections.OrderedDict()
        self._answers: collections.deque[LastAnswer] = collections.deque(maxlen=ANSWERS)
        self._troubles: list[DomainErrors] | None = None  # as worked out in this second
        self._log = structlog.get_logger("telemetry")
        self._count_of: dict[type[Event], Callable[[Any], None]] = {
            Taken: self._on_taken,
            Assigned: self._on_assigned,
            Settled: self._on_settled,
            Passed: self._on_passed,
            Redirected: self._on_redirected,
            Connecting: self._on_connecting,
            Parked: self._on_parked,
            Unparked: self._on_unparked,
        }

    # -- counting: called for every event ---------------------------------------------------------------------

    def watch(self, events: Observable[Event]) -> abc.DisposableBase:
        """Count the events of a stream until disposed."""
        return events.subscribe(self.count)

    def count(self, event: Event) -> None:
        """Count one event; never raises."""
        handler = self._count_of.get(type(event))
        if handler is None:
            return
        try:
            second = int(event.time)
            if second != self._second:
                self._roll(second)
            handler(event)
        except Exception:
            self._log.exception("an event could not be counted", kind=type(event).__name__)

    def _on_taken(self, event: Taken) -> None:
        self._take(event.delivery)

    def _take(self, delivery: Delivery) -> _Held:
        lease, message = delivery.lease, delivery.message
        domain = (delivery.domain or message.domain)[:LONGEST]
        if delivery.outcome is not None and lease.recalled is None and len(self._domains) >= self._most:
            # Withdrawn with a whole campaign: its domains must not take the place of those that get mail.
            domain = domain if domain in self._domains else ""
        held = _Held(domain, _tags_of(delivery))
        # The lease is one object from taken to settled, and lives as long: its identity is a key that costs 30 ns,
        # a hash of its fields 400 ns.
        self._held[id(lease)] = held
        if lease.recalled is None:
            self._add_all(held.domain, held.tags, "", _PROCESSED)
        else:
            held.ip = lane_ip(lease.recalled)
            self._unpark(held, lease.recalled)
        return held

    def _on_assigned(self, event: Assigned) -> None:
        held = self._held.get(id(event.delivery.lease)) or self._take(event.delivery)
        if held.ip != event.delivery.ip:
            held.ip = event.delivery.ip
            self._add(self._ips, held.ip, _PROCESSED)

    def _on_redirected(self, event: Redirected) -> None:
        held = self._held.get(id(event.delivery.lease)) or self._take(event.delivery)
        self._add_all(held.domain, held.tags, event.from_ip, _REDIRECTED)

    def _on_settled(self, event: Settled) -> None:
        delivery, outcome = event.delivery, event.outcome
        held = self._held.get(id(delivery.lease)) or self._take(delivery)
        del self._held[id(delivery.lease)]
        counts = _counts_of(outcome)
        self._add_all(held.domain, held.tags, held.ip, counts)
        if outcome.next is Next.PARK:
            # In a pause's queue it is nobody's: who it is assigned to afterwards, nobody knows.
            held.ip = lane_ip(outcome.lane or "")
            self._park(held, outcome.lane or "")
        elif not WRONG.isdisjoint(counts):
            self._remember(LastAnswer(time=event.time, domain=held.domain, ip=held.ip, outcome=outcome))

    def _on_passed(self, event: Passed) -> None:
        delivery, count = event.delivery, event.count
        domain, tags = delivery.domain[:LONGEST], _tags_of(delivery)
        self._add_all(domain, tags, "", _PROCESSED, count)
        self._add(self._ips, delivery.ip, _PROCESSED, count)
        self._add_all(domain, tags, delivery.ip, _counts_of(event.outcome), count)

    def _on_connecting(self, event: Connecting) -> None:
        group = event.lane.partition("/")[2]
        self._add_all(group if group in self._domains else "", (), event.ip, _CONNECTS)

    def _on_parked(self, event: Parked) -> None:
        self._parked += event.count
        self._add(self._whole, "", _PROCESSED, event.count)
        if ip := lane_ip(event.lane):
            self._parked_by["ip"][ip] = self._parked_by["ip"].get(ip, 0) + event.count
            self._add(self._ips, ip, _PROCESSED, event.count)

    def _on_unparked(self, event: Unparked) -> None:
        """The queue says how many are parked; who they were is known as far as it was noted, the oldest first."""
        self._parked = max(0, self._parked - event.count)
        self._add(self._whole, "", _REMOVED, event.count)
        left, lane = event.count, self._parked_in.get(event.lane, {})
        for where, count in list(lane.items()):
            gone = min(left, count)
            self._forget(event.lane, where, gone)
            self._remove(where, gone)
            left -= gone
            if not left:
                return
        self._remove((lane_ip(event.lane), "", ()), left)

    def _remove(self, where: _Where, count: int) -> None:
        for name, key in _keys_of(_Held(where[1], where[2], where[0])):
            parked, keys = self._parked_by[name], self._dimensions[name]
            known = min(count, parked.get(key, 0))
            self._add(keys, key, _REMOVED, known)
            if known == parked.get(key, 0):
                parked.pop(key, None)
            else:
                parked[key] -= known

    def _note(self, lane: str, where: _Where) -> None:
        if self._noted < PARKED:
            self._noted += 1
            noted = self._parked_in.setdefault(lane, {})
            noted[where] = noted.get(where, 0) + 1

    def _forget(self, lane: str, where: _Where, count: int) -> None:
        noted = self._parked_in.get(lane)
        if noted is None or where not in noted:
            return
        gone = min(count, noted[where])
        self._noted -= gone
        noted[where] -= gone
        if not noted[where]:
            del noted[where]
        if not noted:
            del self._parked_in[lane]

    def _add_all(self, domain: str, tags: Iterable[str], ip: str, counts: tuple[int, ...], by: int = 1) -> None:
        """Count for all, and for each key; an empty one is unknown, and has no series."""
        self._add(self._whole, "", counts, by)
        if domain:
            self._add(self._domains, domain, counts, by)
        if ip:
            self._add(self._ips, ip, counts, by)
        for tag in tags:
            self._add(self._tags, tag, counts, by)

    def _add(self, keys: _Keys, key: str, counts: tuple[int, ...], by: int = 1) -> None:
        series = keys.get(key)
        if series is None:
            if len(keys) >= self._most:
                keys.popitem(last=False)
            series = keys[key] = Series(len(INDEX))
        if not series.touched:
            series.touched = True
            self._touched.append((series, keys, key))
        current = series.current
        for index in counts:
            current[index] += by

    def _roll(self, second: int) -> None:
        """The second is over: fold its counts, and note which keys were active."""
        for index, count in enumerate(self._all.current):
            self._totals[index] += count
        for series, keys, key in self._touched:
            if keys.get(key) is series:  # else it has been forgotten meanwhile
                series.fold(self._where)
                keys.move_to_end(key)
        self._touched.clear()
        self._troubles = None
        self._second, self._where = second, places(second)
        self.began = min(self.began, second)

    # -- parked -------------------------------------------------------------------------------------------------

    def _park(self, held: _Held, lane: str) -> None:
        self._parked += 1
        self._note(lane, (held.ip, held.domain, held.tags))
        for name, key in _keys_of(held):
            parked = self._parked_by[name]
            parked[key] = parked.get(key, 0) + 1
            if len(parked) > PARKED:
                parked.popitem(last=False)

    def _unpark(self, held: _Held, lane: str) -> None:
        """It was counted when it was parked; where that is not known, it is counted as processed now."""
        self._forget(lane, (held.ip, held.domain, held.tags), 1)
        if self._parked:
            self._parked -= 1
        else:
            self._add(self._whole, "", _PROCESSED)
        for name, key in _keys_of(held):
            parked, keys = self._parked_by[name], self._dimensions[name]
            left = parked.get(key, 0) - 1
            if left < 0:
                self._add(keys, key, _PROCESSED)
            elif left:
                parked[key] = left
            else:
                del parked[key]

    def _remember(self, answer: LastAnswer) -> None:
        self._answers.append(answer)
        self._last[answer.domain] = answer
        self._last.move_to_end(answer.domain)
        if len(self._last) > self._most:
            self._last.popitem(last=False)

    def put_back(self, tier: int, time: int, ip: str, counters: Iterable[int], count: int) -> None:
        """Counts of a time before the start, in the slot that begins then; of all, and of an MTA IP."""
        first, last = self.restored.get(tier, (time, time))
        self.restored[tier] = min(first, time), max(last, time + STEPS[tier])
        found = [self._all]
        if ip and (ip in self._ips or len(self._ips) < self._most):
            found.append(self._ips.setdefault(ip, Series(len(INDEX))))
        for series in found:
            for counter in counters:
                series.put_back(counter, tier, time // STEPS[tier], count)

    def knows(self, time: int, tier: int) -> bool:
        """Whether anybody counted then, in the slots of this tier."""
        first, last = self.restored.get(tier, (0, 0))
        return time >= self.began or first <= time < last

    # -- looking ------------------------------------------------------------------------------------------------

    def snapshot(self, dimension: Dimension | None = None, key: str | None = None) -> dict[str, int]:
        """Every counter's sum over the last 60 s, and every gauge now; for all, or for one key of a dimension.

        The connection gauges and `waiting` are the whole machine's.
        """
        self._catch_up()
        if dimension is None:
            return self._figures(self._all, len(self._held), self._parked)
        return self.snapshots(dimension, [key or ""])[key or ""]

    def snapshots(self, dimension: Dimension, keys: Iterable[str]) -> dict[str, dict[str, int]]:
        """The snapshots of many keys at once, which is cheaper: 40 microseconds a key."""
        self._catch_up()
        # Counted when asked, so that the hot path need not: 0.2 ms for 1,000 messages in memory.
        held = collections.Counter(
            key for its in self._held.values() for name, key in _keys_of(its) if name == dimension
        )
        series, parked = self._dimensions[dimension], self._parked_by[dimension]
        return {key: self._figures(series.get(key), held[key], parked.get(key, 0)) for key in keys}

    def totals(self) -> dict[str, int]:
        """Every counter since start, and the gauges `in_memory` and `parked`; exact at this moment."""
        counts = (total + now for total, now in zip(self._totals, self._all.current, strict=True))
        return dict(zip(INDEX, counts, strict=True)) | {"in_memory": len(self._held), "parked": self._parked}

    def series(
        self, counters: Iterable[str], span: Range, dimension: Dimension | None = None, key: str | None = None
    ) -> tuple[list[int], dict[str, list[int]]]:
        """The slots of a range that are over: their starts (epoch seconds), and each counter's count in them."""
        tier = RANGES[span]
        self._catch_up()
        first = self._second // STEPS[tier] - SLOTS[tier]
        times = [(first + slot) * STEPS[tier] for slot in range(SLOTS[tier])]
        found = self._find(dimension, key)
        empty = [0] * SLOTS[tier]
        return times, {
            name: found.values(INDEX[name], tier, first, SLOTS[tier]) if found else list(empty) for name in counters
        }

    def keys(self, dimension: Dimension) -> list[str]:
        """The keys of a dimension that are remembered, the most recently active first."""
        return list(reversed(self._dimensions[dimension]))

    def top_errors(self, most: int = 10) -> list[DomainErrors]:
        """The destinations with the most errors in the last 5 minutes, the worst first.

        Worked out once a second, whoever asks.
        """
        self._catch_up()
        if self._troubles is None:
            self._troubles = sorted(self._find_troubles(), key=lambda trouble: (-trouble.errors, trouble.domain))
        return self._troubles[:most]

    @property
    def answers(self) -> list[LastAnswer]:
        """The last attempts that went wrong, the newest first."""
        return list(reversed(self._answers))

    def samples(self, scheduler: abc.SchedulerBase) -> Observable[dict[str, int]]:
        """A snapshot of all once a second; one timer, however many watch."""
        return rx.interval(1.0, scheduler=scheduler).pipe(ops.map(lambda _: self.snapshot()), ops.share())

    def _catch_up(self) -> None:
        second = int(self._clock())
        if second != self._second:
            self._roll(second)

    def _find(self, dimension: Dimension | None, key: str | None) -> Series | None:
        return self._all if dimension is None else self._dimensions[dimension].get(key or "")

    def _figures(self, series: Series | None, in_memory: int, parked: int) -> dict[str, int]:
        counts = series.sums(0, self._second - 59, 59) if series else [0] * len(INDEX)
        if series:
            counts = [past + now for past, now in zip(counts, series.current, strict=True)]
        gauges = {figure.name: 0 for figure in GAUGES} | {name: read() for name, read in self._gauges.items()}
        return dict(zip(INDEX, counts, strict=True)) | gauges | {"in_memory": in_memory, "parked": parked}

    def _find_troubles(self) -> Iterator[DomainErrors]:
        first = self._second // 10 - RECENT + 1
        for domain, last in self._last.items():
            series = self._domains.get(domain)
            if series is None or last.time < first * 10:
                continue
            counts = [past + now for past, now in zip(series.sums(1, first, RECENT), series.current, strict=True)]
            yield DomainErrors(
                domain=domain,
                errors=sum(counts[index] for index in WRONG),
                attempts=counts[INDEX["attempts"]],
                delivered=counts[INDEX["delivered"]],
                last=last,
            )


def _tags_of(delivery: Delivery) -> tuple[str, ...]:
    tags = delivery.message.tags
    return tuple(dict.fromkeys([tag[:LONGEST] for tag in tags[:TAGS]])) if tags else ()


def _counts_of(outcome: Outcome) -> tuple[int, ...]:
    return counted(
        outcome.next,
        outcome.result,
        outcome.code is not None and not outcome.ours,
        outcome.attempted,
        outcome.messages > 1,
        outcome.remote_ip is not None,
        outcome.state in OUTSIDE,
    )


def _keys_of(held: _Held) -> Iterator[tuple[str, str]]:
    if held.ip:
        yield "ip", held.ip
    if held.domain:
        yield "domain", held.domain
    for tag in held.tags:
        yield "tag", tag
