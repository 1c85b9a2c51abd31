"""Slots: who may hold which outgoing connection. The one place where connections are counted.

A `Slot` is the right to one connection, and carries the connection while it is open. `Slots` hands them out
within the limits of the lane, of the remote IP (for each MTA IP) and of the whole process; it opens nothing
itself: the transport fills a slot, and says `closed` when its connection is gone.

Bound: `maximum` slots in all. When it is reached, or what a remote IP may have, the connection that has been idle
longest is asked to quit, one for each lane that waits, and the taker waits. Health of addresses is kept for at most
REMEMBER of (MTA IP, address, port); the oldest is forgotten.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from operators.deliveries.delivery import Target
from operators.lanes.limits import Limits, Pacer

REMEMBER = 10_000
TURN = 20  # messages over a connection after which it goes to a lane, or a worker, that has none
HELD = 5.0  # seconds for which one that waits for a place of a rate stays: closing and opening it costs places
ALL = "*"


class Connection(Protocol):
    """What a slot needs to know of the connection in it."""

    @property
    def usable(self) -> bool:
        """Open, and ready for another message."""

    def quit(self, reason: str) -> None:
        """Start to close it; its transport reports `Slots.closed` when it is gone."""


class ConnectionLeases(Protocol):
    """Where connections are counted for several workers; `leases.Leases`."""

    def pacer(self, name: str) -> Pacer:
        """The pacer of a rate."""

    def take(self, lane: str, ip: str, address: str, limits: Limits) -> Wait | None:
        """Use a connection that was granted; or why there is none now."""

    def may(self, lane: str, ip: str, address: str, limits: Limits) -> Wait | None:
        """As `take`, and nothing is used."""

    def placed_ahead(self, lane: str) -> bool:
        """Whether this lane has places of its rate."""

    def closed(self, lane: str, ip: str, address: str) -> None:
        """It is gone."""

    def reopened(self, lane: str, ip: str, address: str, limits: Limits) -> None:
        """It was made anew: counts as another one for the rates."""

    def sweep(self, now: float) -> None:
        """Once a second."""


def names(lane: str, ip: str, address: str) -> list[str]:
    """What a connection counts for: its lane, its remote address, all."""
    return [f"lane {lane}", f"{ip} to {address}", ALL]


class Slot:
    """The right to one connection from an MTA IP to a target, and the connection while it is open."""

    __slots__ = (
        "attempting", "begun", "busy", "connection", "idle_since", "idle_until", "ip", "lane", "limits", "messages",
        "patience", "since", "target",
    )  # fmt: skip

    def __init__(self, lane: str, ip: str, target: Target, limits: Limits) -> None:
        self.lane = lane
        self.ip = ip
        self.target = target
        self.limits = limits
        self.connection: Connection | None = None
        self.begun = 0.0  # monotonic seconds
        self.messages = 0  # that it has carried
        self.busy = True  # lent to a delivery that is not settled yet
        self.attempting = True  # its connection is being made
        self.since = 0.0  # monotonic seconds at which the delivery that has it was let go
        self.patience: float | None = None  # seconds for a new connection to be ready; None: as long as the RFC asks
        self.idle_since = 0.0
        self.idle_until = 0.0


class Wait(msgspec.Struct, frozen=True):
    """Not now. `until` is monotonic seconds; None: when a connection is released, `own`: one of the lane's own."""

    why: str
    until: float | None = None
    own: bool = False


class SkippedHost(msgspec.Struct, frozen=True):
    """Every address of the route is being skipped, since it failed a moment ago."""

    why: str
    until: float


_Idle = collections.OrderedDict[Slot, None]  # longest idle first


class _Remote:
    """What is counted for one (MTA IP, remote IP)."""

    __slots__ = ("connects", "idle", "messages", "open")

    def __init__(self) -> None:
        self.open = 0
        self.idle: _Idle = collections.OrderedDict()
        self.messages = Pacer()
        self.connects = Pacer()


class _Lane:
    """What is counted for one lane."""

    __slots__ = ("attempting", "connects", "idle", "leaving", "open")

    def __init__(self) -> None:
        self.open = self.attempting = 0
        self.leaving: Slot | None = None  # was asked to quit, so that this lane gets a connection
        self.idle: list[Slot] = []  # most recently used last
        self.connects = Pacer()


class Slots:
    """The count of outgoing connections, by lane and by remote IP."""

    def __init__(self, maximum: int = 1000, leases: ConnectionLeases | None = None) -> None:
        self.maximum = maximum
        self._leases = leases  # the count is kept for several workers, elsewhere
        self._given_up: set[str] = set()  # what another worker waits for, of which nothing idles here
        self.noted: Callable[[str, Target, str, float], None] = lambda ip, target, why, until: None  # of `skip`
        self.released: Callable[[Slot], None] = lambda slot: None  # called after a connection came free
        self.freed: Callable[[Slot], None] = lambda slot: None  # called after it was closed, and another may be opened
        self.open = 0
        self.attempting = 0
        self._lanes: dict[str, _Lane] = {}
        self._remotes: dict[tuple[str, str], _Remote] = {}
        self._idle: _Idle = collections.OrderedDict()
        self._skipped: collections.OrderedDict[tuple[str, str, int], tuple[float, str]] = collections.OrderedDict()

    @property
    def remembered(self) -> int:
        """Lanes and receivers' addresses that something is known of."""
        return len(self._lanes) + len(self._remotes)

    # -- taking ---------------------------------------------------------------------------------------------

    def take(
        self, lane: str, ip: str, targets: Sequence[Target], limits: Limits, now: float
    ) -> Slot | Wait | SkippedHost:
        """A slot for one message of this lane, or why there is none now."""
        mine = self._lanes.get(lane)
        if mine is None:
            mine = self._lanes[lane] = _Lane()
        kept = self._reuse(mine, limits, now)
        if isinstance(kept, Slot) or (kept is not None and self.open >= self.maximum):
            return kept
        begun = self._begin(mine, lane, ip, targets, limits, now)
        if kept is None or not isinstance(begun, Wait):
            return begun
        return min(kept, begun, key=lambda wait: math.inf if wait.until is None else wait.until)

    def at_hand(self, lane: str, ip: str, targets: Sequence[Target], limits: Limits, now: float) -> Wait | None:
        """Of several workers: why the lane has no connection, which is asked for then; None: it has, or may."""
        mine = self._lanes.get(lane)
        if self._leases is None or (mine is not None and mine.idle) or self.open >= self.maximum:
            return None
        if limits.domain_connects or limits.ip_connects or limits.ip_messages:
            return None  # such a connection is granted for one moment, which is that of the place
        found = self._choose(lane, ip, targets, limits, now, self._leases.may)
        if isinstance(found, Wait) and found.until is None:
            self._make_room_at(mine or _Lane(), ip, targets)
        return found if isinstance(found, Wait) else None

    def _reuse(self, mine: _Lane, limits: Limits, now: float) -> Slot | Wait | None:
        """The lane's connection that idled last; where only its rate forbids it now, when it does no longer."""
        while mine.idle:
            slot = mine.idle[-1]
            remote = self._remotes[slot.ip, slot.target.address]
            if (ready := remote.messages.want(limits.ip_messages)) > now:
                return Wait(f"{limits.ip_messages} messages a minute to {slot.target.address}", ready)
            self._idles_no_more(slot)
            if slot.connection is None or not slot.connection.usable:
                continue  # it is being closed; `closed` frees it
            remote.messages.take(now)
            slot.busy, slot.limits = True, limits
            return slot
        return None

    def _begin(
        self, mine: _Lane, lane: str, ip: str, targets: Sequence[Target], limits: Limits, now: float
    ) -> Slot | Wait | SkippedHost:
        if self._leases is None and (wait := self._own(mine, limits, now)) is not None:
            return wait
        if self.open >= self.maximum:
            self._make_room(mine, self._idle)
            return Wait(f"{self.maximum} connections in all")
        target = self._choose(lane, ip, targets, limits, now)
        if isinstance(target, SkippedHost) and mine.open:
            return Wait(target.why, target.until)  # a receiver that takes no further connection still takes mail
        if not isinstance(target, Target):
            if isinstance(target, Wait) and target.until is None:
                self._make_room_at(mine, ip, targets)
            return target
        slot = Slot(lane, ip, target, limits)
        slot.begun = now
        mine.open += 1
        mine.connects.take(now)
        self.open += 1
        self.attempting += 1
        mine.attempting += 1
        self._count(slot, now)
        return slot

    @staticmethod
    def _own(mine: _Lane, limits: Limits, now: float) -> Wait | None:
        """What the lane's limits say against another connection now."""
        if limits.domain_connections and mine.open >= limits.domain_connections:
            return Wait(f"{limits.domain_connections} connections at once to the domain", own=True)
        if (ready := mine.connects.ready(limits.domain_connects)) > now:
            return Wait(f"{limits.domain_connects} new connections a minute to the domain", ready)
        return None

    def _choose(
        self,
        lane: str,
        ip: str,
        targets: Sequence[Target],
        limits: Limits,
        now: float,
        leased: Callable[[str, str, str, Limits], Wait | None] | None = None,
    ) -> Target | Wait | SkippedHost:
        """The first target that may be used now."""
        skipped: SkippedHost | None = None
        wait: Wait | None = None
        for target in targets:
            if ip and (":" in ip) != (":" in target.address):
                continue
            if bad := self.skipped(ip, target, now):
                if skipped is None or bad.until < skipped.until:
                    skipped = bad
                continue
            held = leased(lane, ip, target.address, limits) if leased else self._held(lane, ip, target, limits, now)
            if held is None:
                return target
            if wait is None or (held.until is not None and (wait.until is None or held.until < wait.until)):
                wait = held
        return wait or skipped or SkippedHost(f"no address that {ip} can reach", now)

    def _held(self, lane: str, ip: str, target: Target, limits: Limits, now: float) -> Wait | None:
        """What the limits for each remote IP, or other workers, say against this target now."""
        if self._leases is not None:
            return self._leases.take(lane, ip, target.address, limits)
        remote = self._remotes.get((ip, target.address))
        if remote is None:
            return None
        if limits.ip_connections and remote.open >= limits.ip_connections:
            return Wait(f"{limits.ip_connections} connections at once to {target.address}")
        if (ready := remote.connects.ready(limits.ip_connects)) > now:
            return Wait(f"{limits.ip_connects} new connections a minute to {target.address}", ready)
        if (ready := remote.messages.ready(limits.ip_messages)) > now:
            return Wait(f"{limits.ip_messages} messages a minute to {target.address}", ready)
        return None

    def _count(self, slot: Slot, now: float) -> None:
        remote = self._remotes.get((slot.ip, slot.target.address))
        if remote is None:
            remote = self._remotes[slot.ip, slot.target.address] = _Remote()
            if self._leases is not None:
                remote.messages = self._leases.pacer(f"messages {slot.ip} to {slot.target.address}")
        remote.open += 1
        if self._leases is not None:
            return  # its rates were counted with the lease
        remote.connects.ready(slot.limits.ip_connects)
        remote.connects.take(now)
        remote.messages.ready(slot.limits.ip_messages)
        remote.messages.take(now)

    def _make_room_at(self, mine: _Lane, ip: str, targets: Sequence[Target]) -> None:
        """One that idles at an address of these: its lane may never have use for it again."""
        for target in targets:
            remote = self._remotes.get((ip, target.address))
            if remote is not None and remote.idle:
                self._make_room(mine, remote.idle)
                return

    def _make_room(self, mine: _Lane, idle: _Idle) -> None:
        """Close the one that has been idle longest; one at a time for each lane."""
        if not idle or (mine.leaving is not None and mine.leaving.connection is not None):
            return
        slot = next(iter(idle))
        self._idles_no_more(slot)
        if slot.connection is not None:
            mine.leaving = slot
            slot.connection.quit("limit")

    def _idles_no_more(self, slot: Slot) -> None:
        if slot in self._idle:
            del self._idle[slot]
            self._lanes[slot.lane].idle.remove(slot)
            del self._remotes[slot.ip, slot.target.address].idle[slot]

    # -- while it is used -------------------------------------------------------------------------------------

    def move(self, slot: Slot, target: Target, now: float) -> bool:
        """Use the slot for another target, after the connection to its own failed. False: that one's limits forbid.

        The lane's rate of new connections does not forbid it, but has the next connection wait the longer.
        """
        if self.skipped(slot.ip, target, now) or self._held(slot.lane, slot.ip, target, slot.limits, now):
            return False
        self._uncount(slot)
        if self._leases is not None:
            self._leases.closed(slot.lane, slot.ip, slot.target.address)
        slot.target = target
        self._count(slot, now)
        self._lanes[slot.lane].connects.take(now)
        return True

    def reopen(self, slot: Slot, now: float) -> None:
        """Another connection is made in this slot, after the one before was lost or given up.

        It is never forbidden, since the message has had its permit; but the next connection waits the longer.
        """
        if not slot.attempting:
            slot.attempting = True
            self.attempting += 1
            self._lanes[slot.lane].attempting += 1
        self._lanes[slot.lane].connects.take(now)
        self._remotes[slot.ip, slot.target.address].connects.take(now)
        if self._leases is not None:
            self._leases.reopened(slot.lane, slot.ip, slot.target.address, slot.limits)

    def connected(self, slot: Slot, connection: Connection) -> None:
        """The transport has connected the slot: `connection` is ready for mail."""
        slot.connection = connection
        self._attempted(slot)

    def _attempted(self, slot: Slot) -> None:
        if slot.attempting:
            slot.attempting = False
            self.attempting -= 1
            self._lanes[slot.lane].attempting -= 1

    def closed(self, slot: Slot) -> None:
        """The transport says that the slot's connection is gone."""
        slot.connection = None
        if not slot.busy:
            self._idles_no_more(slot)
            self._free(slot)

    def release(self, slot: Slot, now: float) -> None:
        """The delivery that had the slot is settled: its connection idles, or, where it is gone, the slot is free."""
        slot.busy = False
        if slot.connection is None:
            self._attempted(slot)
            self._free(slot)
            return
        if self._given_up and self._gives_up(slot):
            slot.connection.quit("limit")
        elif slot.connection.usable:
            slot.idle_since, slot.idle_until = now, now + (slot.limits.connection_idle or math.inf)
            self._lanes[slot.lane].idle.append(slot)
            self._remotes[slot.ip, slot.target.address].idle[slot] = None
            self._idle[slot] = None
        self.released(slot)

    def sweep(self, now: float) -> None:
        """Quit the connections that have idled long enough, and forget what is at rest; call it about once a second."""
        if self._leases is not None:
            self._leases.sweep(now)
            self._given_up.clear()
        for slot in [slot for slot in self._idle if slot.idle_until <= now]:
            self._idles_no_more(slot)
            if slot.connection is not None:
                slot.connection.quit("idle")
        for lane in [
            n for n, kept in self._lanes.items() if not kept.open and kept.connects.ready(kept.connects.limit) <= now
        ]:
            del self._lanes[lane]
        for key in [k for k, kept in self._remotes.items() if not kept.open and self._rested(kept, now)]:
            del self._remotes[key]

    def give_up(self, counted: str, now: float) -> None:
        """Another worker waits for what counts for this: the longest idle connection goes, or one after its turn."""
        for slot in self._idle:
            if counted in names(slot.lane, slot.ip, slot.target.address) and not self._stays(slot, now):
                self._idles_no_more(slot)
                if slot.connection is not None:
                    slot.connection.quit("limit")
                return
        self._given_up.add(counted)

    def _stays(self, slot: Slot, now: float) -> bool:
        """It idles only until the next place of its lane's rate, and has not had its turn."""
        assert self._leases is not None
        return slot.messages < TURN and now - slot.begun < HELD and self._leases.placed_ahead(slot.lane)

    def _gives_up(self, slot: Slot) -> bool:
        found = self._given_up.intersection(names(slot.lane, slot.ip, slot.target.address))
        if not found or slot.messages < TURN:
            return False
        self._given_up -= found
        return True

    def abandon(self, slot: Slot) -> None:
        """The transport does not connect the slot. `release` frees it when the message is settled."""
        self._attempted(slot)

    @staticmethod
    def _rested(remote: _Remote, now: float) -> bool:
        pacers = (remote.messages, remote.connects)
        return all(pacer.ready(pacer.limit) <= now for pacer in pacers)

    def _uncount(self, slot: Slot) -> None:
        self._remotes[slot.ip, slot.target.address].open -= 1

    def _free(self, slot: Slot) -> None:
        self.open -= 1
        self._lanes[slot.lane].open -= 1
        self._uncount(slot)
        if self._leases is not None:
            self._leases.closed(slot.lane, slot.ip, slot.target.address)
        self.freed(slot)

    # -- addresses that failed ----------------------------------------------------------------------------------

    def skip(self, ip: str, target: Target, why: str, until: float) -> None:
        """This address and port refused or timed out: pass them over until then (monotonic seconds).

        From this MTA IP only: what a receiver makes of one, and the way to it, says nothing of the others. So a
        message that brings an IP of its own, or a smarthost's port, delays no other message.
        """
        self.noted(ip, target, why, until)
        self.pass_over(ip, target, why, until)

    def pass_over(self, ip: str, target: Target, why: str, until: float) -> None:
        """As `skip`, by another worker's word."""
        key = (ip, target.address, target.port)
        self._skipped[key] = (until, why)
        self._skipped.move_to_end(key)
        if len(self._skipped) > REMEMBER:
            self._skipped.popitem(last=False)

    def healthy(self, ip: str, target: Target) -> None:
        """This address and port answer this MTA IP again."""
        self._skipped.pop((ip, target.address, target.port), None)

    def skipped(self, ip: str, target: Target, now: float) -> SkippedHost | None:
        """Why this address and port are passed over from this MTA IP now, or None."""
        if not self._skipped:
            return None
        key = (ip, target.address, target.port)
        found = self._skipped.get(key)
        if found is None:
            return None
        if found[0] <= now:
            del self._skipped[key]
            return None
        return SkippedHost(found[1], found[0])

    # -- what the console shows -----------------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Connections open and without a message."""
        return len(self._idle)

    @property
    def active(self) -> int:
        """Connections with a message on them."""
        return self.open - self.idle - self.attempting

    def of(self, lane: str) -> tuple[int, int]:
        """(open, idle) connections of a lane."""
        mine = self._lanes.get(lane)
        return (mine.open, len(mine.idle)) if mine else (0, 0)

    def states(self) -> dict[str, tuple[int, int, int]]:
        """(attempting, active, idle) connections of each lane that has some."""
        lanes = ((name, mine.attempting, mine.open, len(mine.idle)) for name, mine in self._lanes.items() if mine.open)
        return {name: (attempting, open_ - attempting - idle, idle) for name, attempting, open_, idle in lanes}
