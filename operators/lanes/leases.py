"""Leases: what a worker has got of the instance's limits, and asks for; the other end is the `LimitLedger`. Pure.

A rate's places come ahead of their time, a quarter of a second's worth. Each is used at its time, or up to GRACE
later; what is older lapses, and counts as used. A connection is asked for before it is opened; the answer wakes its
lane. Where a lane has both limits, it asks for the connection first, and gives its places back when it has none any
more: a place without a connection would lapse, while others have a connection without a place. A worker that has not
heard from the head for SILENCE opens nothing new, and takes no places.

Bound: lanes and remote addresses in use; a connection that was granted and is not used is given back by `sweep`.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Collection

import msgspec

from operators.lanes.ledger import ConnectionAsk
from operators.lanes.limits import GRACE, Limits, Pacer
from operators.lanes.slots import Wait, names

SILENCE = 1.0  # seconds
POLL = 0.02  # seconds until a lane looks again for places that were asked for
AGAIN = 0.5  # seconds after which a connection that was refused is asked for again, unless it was said to be free
KEPT = 60.0  # seconds
UNUSED = 2.0  # seconds for which a connection that was granted waits for a message
LOST = 2.0  # seconds after which a question is asked again
AHEAD = 0.25  # seconds' worth of places that are asked for at once
MOST = 200  # places asked for at once

AskPlaces = Callable[[str, float, int, list[float]], None]
AskOpen = Callable[[ConnectionAsk], None]
TellClosed = Callable[[list[str]], None]
GiveBack = Callable[[ConnectionAsk, float], None]
PassOn = Callable[[list[str]], None]


class LeasedPacer(Pacer):
    """A `Pacer` whose permits come from the head.

    Args:
        name: the rate.
        clock: monotonic seconds.
        ask: for places.
    """

    __slots__ = ("_ask", "_asked_at", "_clock", "_lapsed", "_name", "_wanted_at", "places", "spare")

    def __init__(self, name: str, clock: Callable[[], float], ask: AskPlaces) -> None:
        super().__init__()
        self._name, self._clock, self._ask = name, clock, ask
        self._asked_at, self._wanted_at = -math.inf, clock()
        self._lapsed: float | None = None
        self.places: collections.deque[float] = collections.deque()
        self.spare = False  # another worker has given early ones back

    def ready(self, limit: float) -> float:
        """When the next place is; without any, now, or soon where there is a limit."""
        now = self._clock()
        if limit != self.limit:
            self.limit = limit
            self._lapsed = None
            self.places.clear()  # those of another grid lapse
            self._asked_at = -math.inf
        while self.places and now - self.places[0] > GRACE:
            self._lapsed = self.places.popleft()
        if not limit:
            return -math.inf
        return self.places[0] if self.places else self._last + self.interval

    def want(self, limit: float) -> float:
        """As `ready`, of a lane that has mail: places are asked for before they run out."""
        at, now = self.ready(limit), self._clock()
        self._wanted_at = now
        if not limit:
            return at
        ahead = max(1, min(MOST, int(limit / 60 * AHEAD)))
        if (self.spare or len(self.places) <= ahead // 2) and now - self._asked_at > LOST:
            self._asked_at, self.spare = now, False
            lapsed = [] if self.places or self._lapsed is None else [self._lapsed]
            self._ask(self._name, limit, max(1, ahead - len(self.places)), lapsed)
            self._lapsed = None
        return at if self.places else now + POLL

    def at_rest(self, now: float) -> bool:
        """Nobody wants it any more: whoever has it goes on to use it, and it begins anew."""
        return not self.places and now - max(self._last, self._asked_at, self._wanted_at) > KEPT

    def granted(self, limit: float, places: list[float]) -> None:
        """The head's answer."""
        self._asked_at = -math.inf
        if limit == self.limit:
            self.places = collections.deque(sorted([*self.places, *places]))  # one that came back is an early one

    def let_go(self) -> None:
        """Give all places back."""
        self._wanted_at = self._clock()
        if self.places:
            self._ask(self._name, self.limit, 0, list(self.places))
            self.places.clear()

    def take(self, now: float) -> None:
        """Use the place that `want` has named; without one, a connection that is made anew: the head counts it."""
        self._last = now
        if self.places and self.places[0] <= now:
            self.places.popleft()
        elif self.limit:
            self._ask(self._name, self.limit, 0, [])


_Key = tuple[str, str, str]  # lane, MTA IP, remote address


class LeaseRefused(msgspec.Struct, frozen=True):
    """Why a connection may not be opened, until when (None: until one is free), and since when."""

    why: str
    until: float | None
    since: float


class Leases:
    """A worker's part of the limits.

    Args:
        clock: monotonic seconds.
        places, opens, closed, give_back: what is told to the head.
        wake: lets a lane try again.
        maximum: connections in all.

    Attributes:
        heard: monotonic seconds at which the head was heard last.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        places: AskPlaces,
        opens: AskOpen,
        closed: TellClosed,
        give_back: GiveBack,
        maximum: int,
        pass_on: PassOn = lambda names: None,
    ) -> None:
        self._clock, self._places, self._opens, self._closed = clock, places, opens, closed
        self._give_back, self._maximum, self._pass_on = give_back, maximum, pass_on
        self.wake: Callable[[str], None] = lambda lane: None
        self.waits: Callable[[str], bool] = lambda lane: True  # whether a lane has mail
        self.heard = clock()
        self._pacers: dict[str, LeasedPacer] = {}
        self._asked: dict[_Key, tuple[float, ConnectionAsk]] = {}  # connections that were asked for, and when
        self._granted: dict[_Key, tuple[float, ConnectionAsk]] = {}  # that may be opened, as of when
        self._refused: dict[_Key, LeaseRefused] = {}
        self._full: dict[str, LeaseRefused] = {}  # by what is counted for many lanes

    def pacer(self, name: str) -> Pacer:
        """The pacer of a rate."""
        found = self._pacers.get(name)
        if found is None:
            found = self._pacers[name] = LeasedPacer(name, self._clock, self._ask_places)
        return found

    def _ask_places(self, name: str, limit: float, count: int, back: list[float]) -> None:
        if not count or not self.silent:
            self._places(name, limit, count, back)

    @property
    def silent(self) -> bool:
        """The head has not been heard for too long."""
        return self._clock() - self.heard > SILENCE

    def take(self, lane: str, ip: str, address: str, limits: Limits) -> Wait | None:
        """Use a connection that the head has granted; or why there is none now: it is asked for then."""
        wait = self.may(lane, ip, address, limits)
        if wait is None:
            del self._granted[lane, ip, address]
        return wait

    def may(self, lane: str, ip: str, address: str, limits: Limits) -> Wait | None:
        """As `take`, and nothing is used."""
        if self.silent:
            return Wait("the head of this instance is not heard")
        key, now = (lane, ip, address), self._clock()
        if key in self._granted:
            if self._good(key, now):
                return None
            at, wish = self._granted.pop(key)
            self._give_back(wish, at)  # its place on the grid is past
        refused = self._refused.get(key)
        if refused is not None and now < (refused.until or refused.since + AGAIN):
            return Wait(refused.why, refused.until)
        if key not in self._asked or now - self._asked[key][0] > LOST:
            if (full := self._found_full(key, now)) is not None:
                self._refused[key] = full
                return Wait(full.why)
            self._asked[key] = now, self._wish(key, limits)
            self._opens(self._asked[key][1])
        return Wait(refused.why if refused is not None else "a connection is asked for")

    def _found_full(self, key: _Key, now: float) -> LeaseRefused | None:
        """Another lane was refused for what this one counts for, too: one of them asks, and the others wait for that.

        Else thousands of lanes would ask for one receiver's connections, and be answered when their mail is parked.
        """
        for name in names(*key)[1:]:
            if (full := self._full.get(name)) is not None:
                if now < full.since + AGAIN:
                    return LeaseRefused(full.why, None, now)
                self._full[name] = LeaseRefused(full.why, None, now)
        return None

    def _wish(self, key: _Key, limits: Limits, made: bool = False) -> ConnectionAsk:
        lane, remote, all_ = names(*key)
        counted = {lane: limits.domain_connections, remote: limits.ip_connections, all_: self._maximum}
        rates: dict[str, float] = {f"connects {lane}": limits.domain_connects, f"connects {remote}": limits.ip_connects}
        if not made:
            rates[f"messages {remote}"] = limits.ip_messages
        return ConnectionAsk("\n".join(key), counted, {name: limit for name, limit in rates.items() if limit}, made)

    def reopened(self, lane: str, ip: str, address: str, limits: Limits) -> None:
        """A connection was made anew: the next one waits the longer."""
        self._opens(self._wish((lane, ip, address), limits, made=True))

    def answered(self, key: str, at: float, refused: str | None, until: float | None = None, full: str = "") -> None:
        """The head's answer of `at` to a wish for a connection; `full`: what is counted, of which there are no more."""
        lane, ip, address = key.split("\n")
        which = (lane, ip, address)
        asked = self._asked.pop(which, None)
        if refused is not None:
            self._refused[which] = LeaseRefused(refused, until, self._clock())
            if full in names(*which)[1:]:
                self._full[full] = self._refused[which]
        elif asked is None or which in self._granted:  # it was asked for again meanwhile
            self._closed(names(*which))
        else:
            self._refused.pop(which, None)
            self._granted[which] = at, asked[1]
        self.wake(lane)
        if which in self._granted and not self.waits(lane):  # its mail was parked meanwhile; others wait for it
            at, wish = self._granted.pop(which)
            self._give_back(wish, at)
        if refused is None:  # there may be more
            self._ask_next(names(*which)[1:])

    def freed(self, counted: list[str]) -> None:
        """One that was refused may be had now: the lane that has waited longest asks for it. None does: pass it on."""
        if not self._ask_next(counted):
            self._pass_on(counted)

    def _ask_next(self, counted: Collection[str]) -> bool:
        """A lane that was refused for this asks again, if any still has mail."""
        for name in counted:
            self._full.pop(name, None)
        wanted = {*counted}
        for key in [key for key in self._refused if wanted.intersection(names(*key))]:
            self._refused.pop(key)
            self.wake(key[0])
            if key in self._asked:
                return True
        return False

    def placed(self, name: str, limit: float, places: list[float]) -> None:
        """The head's answer to a wish for places."""
        if (pacer := self._pacers.get(name)) is not None:
            pacer.granted(limit, places)
            self.wake(name.removeprefix("messages "))  # it may have no connection any more

    def spare(self, name: str) -> None:
        """Another worker has given places of this rate back."""
        if (pacer := self._pacers.get(name)) is not None:
            pacer.spare = True
            self.wake(name.removeprefix("messages "))

    def closed(self, lane: str, ip: str, address: str) -> None:
        """A connection is gone."""
        self._closed(names(lane, ip, address))

    def sweep(self, now: float) -> None:
        """About once a second: give back what nobody has used, and forget."""
        for key in [key for key in self._granted if not self._good(key, now)]:
            at, wish = self._granted.pop(key)
            self._give_back(wish, at)
        for key in [key for key, (at, _) in self._asked.items() if now - at > KEPT]:
            del self._asked[key]
        for key in [key for key, refused in self._refused.items() if now - refused.since > KEPT]:
            del self._refused[key]
        for name in [name for name, refused in self._full.items() if now - refused.since > KEPT]:
            del self._full[name]
        for name in [name for name, pacer in self._pacers.items() if pacer.at_rest(now)]:
            del self._pacers[name]

    def _good(self, key: _Key, now: float) -> bool:
        """Whether a grant is still good: one that took places on the grid of a rate, only at its time."""
        at, wish = self._granted[key]
        return now - at <= (GRACE if wish.rates else UNUSED) or (not wish.rates and self.placed_ahead(key[0]))

    def placed_ahead(self, lane: str) -> bool:
        """Whether this lane has places of its rate."""
        pacer = self._pacers.get(f"messages {lane}")
        return pacer is not None and bool(pacer.places) and pacer.places[-1] > self._clock() - GRACE
