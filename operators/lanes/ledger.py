"""The ledger: the limits of an instance with several workers, in one place; what each worker may do of them. Pure.

Rates are leased as places: a worker asks for the next few on the grid of a rate, and uses each at its time or not at
all. Connections are asked for one by one, and given back as they close. So what a receiver sees never exceeds a limit,
whatever becomes of a worker: what was given to it counts as used.

Owner of: a pacer for each rate, and the connections that each worker has. Bound: rates and connections in use; what is
at rest is forgotten by `sweep`.
"""

from __future__ import annotations

import bisect
import collections
from collections.abc import Sequence

import msgspec

from operators.lanes.limits import GRACE, Pacer

PROMISED = 0.1  # seconds for which a connection that came free is kept for the worker that has waited longest
REST = 120.0  # seconds without a request after which a rate is forgotten, where its next place is past


class ConnectionAsk(msgspec.Struct, frozen=True):
    """A worker wants a connection.

    Attributes:
        key: for the answer.
        counted: what it counts for, and how many there may be of each; 0 is unlimited, less than 0 is none.
        rates: what it takes a place of, and the limits of a minute.
        made: it is there already: its rates are counted, whatever they say, and nothing is answered.
    """

    key: str
    counted: dict[str, int]
    rates: dict[str, float] = {}
    made: bool = False


class LeaseRefusal(msgspec.Struct, frozen=True):
    """Why not, and until when, monotonic seconds; None: until one is closed, of what `full` names."""

    why: str
    until: float | None = None
    full: str = ""


class _Rate:
    """A rate: its pacer, and the places on the grid that have come back."""

    __slots__ = ("asked_at", "back", "pacer")

    def __init__(self) -> None:
        self.pacer = Pacer()
        self.back: list[float] = []  # ascending
        self.asked_at = 0.0

    def ready(self, limit: float, now: float) -> float:
        """When the next place is."""
        if limit != self.pacer.limit:
            self.back.clear()
        while self.back and now - self.back[0] > GRACE:
            del self.back[0]
        return self.back[0] if self.back else self.pacer.ready(limit)

    def take(self, at: float) -> float:
        """Use the place that `ready` has named, at `at`; when it is."""
        if self.back and self.back[0] <= at:
            return self.back.pop(0)
        self.pacer.take(at)
        return at

    def give_back(self, at: float) -> None:
        """A place was not used."""
        if not self.pacer.give_back(at):
            bisect.insort(self.back, at)


class LimitLedger:
    """What is given to whom. Workers are numbers."""

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}
        self._open: dict[str, collections.Counter[int]] = {}  # by what is counted, then by worker
        self._waiting: dict[str, collections.OrderedDict[int, None]] = {}  # who was refused, the longest wait first
        self._promised: dict[str, dict[int, float]] = {}  # what came free, to whom, and until when

    # -- rates

    def places(self, rate: str, limit: float, count: int, now: float, back: Sequence[float] = ()) -> list[float]:
        """The next places of a rate: monotonic seconds, ascending. `back`: those that were not used."""
        kept = self._rate(rate, now)
        kept.ready(limit, now)
        for at in reversed(back):
            kept.give_back(at)
        return [kept.take(max(now, kept.ready(limit, now))) for _ in range(count)]

    def used(self, rate: str, limit: float, now: float) -> None:
        """A place was used that was not leased: the next one is later."""
        pacer = self._rate(rate, now).pacer
        pacer.take(max(now, pacer.ready(limit)))

    def _rate(self, rate: str, now: float) -> _Rate:
        kept = self._rates.get(rate)
        if kept is None:
            kept = self._rates[rate] = _Rate()
        kept.asked_at = now
        return kept

    # -- connections

    def open(self, worker: int, ask: ConnectionAsk, now: float) -> LeaseRefusal | None:
        """Count a connection of a worker, and a place of each of its rates; or, with nothing counted, why not."""
        if ask.made:
            for name, limit in ask.rates.items():
                self.used(name, limit, now)
            return None
        for name, limit in ask.counted.items():
            if limit and self.total(name) + self._kept_for_others(name, worker, now) >= limit:
                self._waiting.setdefault(name, collections.OrderedDict())[worker] = None
                return LeaseRefusal(f"all {max(limit, 0)} connections of {name} are in use", full=name)
        ready = {name: self._rate(name, now).ready(limit, now) for name, limit in ask.rates.items()}
        if ready and max(ready.values()) > now:
            name = max(ready, key=ready.__getitem__)
            return LeaseRefusal(f"{ask.rates[name]:g} {name} a minute", ready[name])
        for name in ask.rates:
            self._rates[name].take(now)
        for name in ask.counted:
            self._open.setdefault(name, collections.Counter())[worker] += 1
            for line in (self._waiting.get(name), self._promised.get(name)):
                if line is not None:
                    line.pop(worker, None)
        return None

    def total(self, name: str) -> int:
        """Connections of all workers that count for this."""
        return self._open[name].total() if name in self._open else 0

    def holders(self, name: str, but: int) -> list[int]:
        """The other workers that have connections which count for this, the one with most first."""
        kept = self._open.get(name, collections.Counter())
        return [worker for worker, count in kept.most_common() if worker != but and count]

    def users(self, rate: str, but: int) -> list[int]:
        """The other workers that have connections of a rate's lane: for places that have come back."""
        return self.holders(f"lane {rate.removeprefix('messages ')}", but)

    def _kept_for_others(self, name: str, worker: int, now: float) -> int:
        return sum(who != worker and until > now for who, until in self._promised.get(name, {}).items())

    def give_back(self, worker: int, ask: ConnectionAsk, at: float, now: float) -> dict[int, list[str]]:
        """A connection that was granted at `at` was not opened in time; as `close`."""
        for name in ask.rates:
            if name in self._rates:
                self._rates[name].give_back(at)
        return self.close(worker, list(ask.counted), now)

    def close(self, worker: int, counted: list[str], now: float) -> dict[int, list[str]]:
        """A connection of a worker is gone: who waits for what came free, the longest wait first."""
        told: dict[int, list[str]] = {}
        for name in counted:
            kept = self._open.get(name)
            if kept is None or not kept[worker]:
                continue
            kept[worker] -= 1
            if not kept.total():
                del self._open[name]
            self._offer(name, now, told)  # one came free; the next time it is another worker's turn
        return told

    def pass_on(self, worker: int, counted: list[str], now: float) -> dict[int, list[str]]:
        """A worker that was told of something that came free has no use for it any more; as `close`."""
        told: dict[int, list[str]] = {}
        for name in counted:
            if self._promised.get(name, {}).pop(worker, None) is not None:
                self._offer(name, now, told)
        return told

    def _offer(self, name: str, now: float, told: dict[int, list[str]]) -> None:
        if waiting := self._waiting.get(name):
            first, _ = waiting.popitem(last=False)
            told.setdefault(first, []).append(name)
            self._promised.setdefault(name, {})[first] = now + PROMISED

    def gone(self, worker: int) -> dict[int, list[str]]:
        """A worker has ended: its connections are closed with it."""
        told: dict[int, list[str]] = {}
        for name, kept in list(self._open.items()):
            if worker in kept:
                del kept[worker]
                if not kept.total():
                    del self._open[name]
                for waits in self._waiting.pop(name, {}):
                    told.setdefault(waits, []).append(name)
        for waiting in self._waiting.values():
            waiting.pop(worker, None)
        told.pop(worker, None)
        return told

    def sweep(self, now: float) -> None:
        """About once a second: forget rates that nobody asks for."""
        for name, kept in list(self._rates.items()):
            if now - kept.asked_at > REST and kept.pacer.ready(kept.pacer.limit) <= now:
                del self._rates[name]
        for name in [name for name, waiting in self._waiting.items() if not waiting]:
            del self._waiting[name]
        for name in [name for name, kept in self._promised.items() if all(until < now for until in kept.values())]:
            del self._promised[name]
