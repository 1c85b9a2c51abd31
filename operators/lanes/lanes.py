"""Lanes: where deliveries of one route wait for a permit and a slot. A lane is (MTA IP, destination group).

Owner of: the waiting deliveries, their pacers and the window of each lane. Connections are counted in `Slots`.

Bounds: a lane holds at most its `queue` limit in memory, and never more than the credit that is still free
(so one stalled lane leaves half of the credit to the others, two a quarter, and so on); what finds no room is parked.
A lane whose next permits lie beyond HORIZON holds only what can go within it. A lane that made no progress for
HORIZON parks what waits, a paused one at once. Idle lanes are forgotten after BRIEF to REST seconds, by how much they
have learned: 800 a second that had one message each took 60 MB within REST, which Python then kept.

Quick lanes: to park a delivery and call it in again is as much work as to deliver it (from a full queue: 4,900 a second
to one domain without it, 2,700 with). So a lane may always hold what it lets go within QUICK seconds, and what such a
lane holds counts as free for the others: it is credit that holds back the queue then. A lane that nothing has held up
so far is taken for quick, for one to two seconds. A lane that has become slow, and holds much more than it
has room for, parks what waits: all of it, so that the order stays.

Fairness: a connection stays with its lane while that has mail for it, unless another lane waits that has two fewer,
or none at all while this one has carried TURN messages: then it is given up to that one.

The window is how many deliveries of a lane may be under way at once: it starts at START, grows by one with each
answer, and is halved when a connection fails, so that a receiver that hangs holds few slots (after Postfix's
initial_destination_concurrency).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Mapping

import reactivex as rx
from reactivex import Observable, abc

from operators.deliveries.delivery import Delivery, lane_ip
from operators.deliveries.outcome import Next, Outcome, deferred, parked
from operators.lanes.gate import FRESH, Gate, Hold
from operators.lanes.lane import QUICK, Called, Lane, Pace
from operators.lanes.limits import Limits, Pacer
from operators.lanes.slots import TURN, SkippedHost, Slot, Slots, Wait
from operators.lanes.turns import ShareOf, Tenants, plain
from operators.stages.stage import Report, Stage, unreported

__all__ = ["HORIZON", "REST", "Lane", "Lanes"]

MOST = 1000  # the largest window
HORIZON = 30.0  # seconds that a delivery may wait in memory
REST = 60.0  # seconds without work after which a lane is forgotten, whatever it has learned
BRIEF = 5.0  # the same for one that has learned nothing; and a second for each step of its window
NAMES = 100  # domains of a group that a lane remembers, for the console and the rules
TICK = 0.001  # seconds: the finest wake-up; clocks round, and a wake-up before its time would spin
STARVED = 8  # lanes tried when a connection comes free
SLACK = 1.5  # times its room, which changes with the other lanes, that a lane may hold before it parks what waits
SWEPT = 1000  # parked queues, and lanes without a connection, looked at in one sweep


class Lanes:
    """All lanes, and the throttle stage that deliveries pass through them.

    Args:
        slots: the count of connections.
        limits: the limits in force for a lane, asked before each delivery, so that a change holds at once.
        free: credit of the queue that is not used now.
        recall: calls in up to so many of a lane's parked messages, oldest first.
        parked: messages in the parked queues, by lane; live.
        scheduler: the clock; its `now` must be monotonic.
        clock: monotonic seconds on that scheduler.
        blocked: says of a parked queue that is no lane in memory whether calling its messages in is of no use now.
        paused: until when a lane is paused as a whole, or None.
        credit: all of the queue's credit.
        share: what a tag may have of a lane.
        pacer: makes the pacer of a lane, by name, where several workers share its rate.
    """

    def __init__(
        self,
        slots: Slots,
        limits: Callable[[Lane], Limits],
        free: Callable[[], int],
        recall: Callable[[str, int], None],
        parked: Callable[[], Mapping[str, int]],
        scheduler: abc.SchedulerBase,
        clock: Callable[[], float],
        blocked: Callable[[str], bool] = lambda queue: False,
        paused: Callable[[str], Wait | None] = lambda lane: None,
        credit: int = 1000,
        share: ShareOf = plain,
        pacer: Callable[[str], Pacer] | None = None,
    ) -> None:
        self._slots, self._limits, self._free = slots, limits, free
        self._pacer = pacer
        self._recall, self._parked, self._blocked, self._paused = recall, parked, blocked, paused
        self._called: collections.defaultdict[str, Called] = collections.defaultdict(Called)
        self._scheduler, self._clock = scheduler, clock
        self._lanes: dict[str, Lane] = {}
        self._starved: collections.OrderedDict[str, None] = collections.OrderedDict()  # wait for a connection
        self._tenants = Tenants(share)
        self._gate = Gate(credit, slots.maximum)
        self._relieving = False  # `_relieve` is about to run
        self._gated: collections.OrderedDict[str, None] = collections.OrderedDict()  # wait for a place there
        self._emit: Callable[[Delivery], None] = lambda delivery: None
        self._closing = False
        self._swept = 0  # where the next sweep begins
        self._turning = 0  # deliveries that quick lanes held at the last sweep
        slots.released, slots.freed = self._released, self._freed

    # -- the stage --------------------------------------------------------------------------------------------

    def throttle(self, report: Report = unreported) -> Stage:
        """The stage: holds each delivery until its lane has a permit and a slot for it; `slot` is set then."""

        def put(delivery: Delivery) -> None:
            try:
                self._put(delivery)
            except Exception as error:
                report("throttle", delivery, error)
                lane = self._lanes.get(delivery.lane)
                if lane is None or delivery not in lane.waiting:
                    self._emit(delivery.ended(deferred("process", "error", f"throttle: {type(error).__name__}")))

        def operator(source: Observable[Delivery]) -> Observable[Delivery]:
            def subscribe(
                observer: abc.ObserverBase[Delivery], scheduler: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                self._emit = observer.on_next
                return source.subscribe(put, observer.on_error, observer.on_completed, scheduler=scheduler)

            return rx.create(subscribe)

        return operator

    def _put(self, delivery: Delivery) -> None:
        recalled = delivery.lease.recalled
        if recalled is not None:
            self._called[recalled].discount()
        if delivery.outcome is not None:
            self._emit(delivery)
            return
        if self._closing:
            self._emit(delivery.ended(_returned()))
            return
        lane = self._lane(delivery)
        if why := self._full(lane, recalled, bool(delivery.message.priority)):
            self._park(lane, delivery, why)
            return
        if lane.can_go:
            lane.progress_at = self._clock()  # nothing has held it up so far
        lane.waiting.append(delivery)
        if lane.pace is not Pace.QUICK:
            self._gate.waiting += 1
            if self._gate.full and not self._relieving:
                self._relieving = True
                self._scheduler.schedule_relative(FRESH, lambda *_: self._relieve())
        self._pump(lane)

    def _lane(self, delivery: Delivery) -> Lane:
        now = self._clock()
        lane = self._lanes.get(delivery.lane)
        if lane is None:
            group = delivery.lane.partition("/")[2]
            lane = self._lanes[delivery.lane] = Lane(delivery.lane, delivery.ip, group, now, self._tenants)
            if self._pacer is not None:
                lane.pacer = self._pacer(f"messages {lane.name}")
        lane.active_at = now
        if delivery.domain not in lane.domains and len(lane.domains) < NAMES:
            lane.domains[delivery.domain] = None
        return lane

    def _full(self, lane: Lane, recalled: str | None, urgent: bool = False) -> str | None:
        """Why another delivery cannot be held in memory, or None. `recalled`: the parked queue it comes from.

        An `urgent` one, with a priority, passes by those that are parked, and has half as much room again.
        """
        if recalled != lane.name and not urgent and (lane.parking or self._parked().get(lane.name)):
            return "behind those that are parked already"
        if (pause := self._paused(lane.name)) is not None:
            return pause.why
        if lane.memory >= (room := self._room(lane)) * (1 + urgent / 2):
            return f"the lane's memory is full: {room} at once"
        return Hold.MEMORY if self._gate.crowded(lane, self._clock()) else None

    @property
    def _soon(self) -> int:
        """Credit that is free, or will be within QUICK seconds."""
        return self._free() + self._turning

    def _room(self, lane: Lane) -> int:
        """How many deliveries the lane may hold in memory now."""
        limits, all_ = self._limits(lane), lane.memory + self._soon
        room, quick = max(1, (all_ + 1) // 2), min(lane.rate * QUICK, all_ + 1)
        if limits.queue:
            room = min(room, limits.queue)
        if limits.domain_messages:
            pace = limits.domain_messages / 60
            room, quick = min(room, max(1, round(HORIZON * pace))), min(quick, QUICK * pace)
        return max(room, int(quick))

    # -- permits ------------------------------------------------------------------------------------------------

    def _pump(self, lane: Lane) -> None:
        """Begin what may begin now, and note why the rest waits."""
        while lane.waiting:
            if (pause := self._paused(lane.name)) is not None:
                self._park_all(lane, pause.why)
                break
            if lane.in_flight >= lane.window:
                self._hold(lane, Wait(f"{lane.window} at once, until the receiver answers", own=True))
                return
            limits, now = self._limits(lane), self._clock()
            if self._pacer is not None and limits.domain_messages and (none := self._at_hand(lane, limits, now)):
                self._hold(lane, none)
                return
            if (ready := lane.pacer.want(limits.domain_messages)) > now:
                self._hold(lane, Wait(f"{limits.domain_messages} messages a minute to the domain", ready))
                return
            if (ready := lane.waiting.ready(now)) > now:
                self._hold(lane, Wait("the rates of the tags that wait", ready))
                return
            if not self._gate.admits(lane):
                self._gated[lane.name] = None
                lane.gated_at = now if lane.gated_at is None else lane.gated_at
                self._hold(lane, Wait(Hold.PLACES, own=True))
                return
            lane.gated_at = None
            head = lane.waiting[0]
            assert head.route is not None
            got = self._slots.take(lane.name, lane.ip, head.route.targets, limits, now)
            if isinstance(got, Wait):
                self._hold(lane, got)
                return
            lane.waiting.popleft()
            self._go(lane, head, got, now)
        lane.waits_for, lane.waits_until = "", None

    def _at_hand(self, lane: Lane, limits: Limits, now: float) -> Wait | None:
        """Why the lane has no connection to use a place of its rate; whoever has one gets the place."""
        route = lane.waiting[0].route
        assert route is not None
        wait = self._slots.at_hand(lane.name, lane.ip, route.targets, limits, now)
        if wait is not None:
            lane.pacer.let_go()
        return wait

    def _go(self, lane: Lane, head: Delivery, got: Slot | SkippedHost, now: float) -> None:
        lane.progress_at = now
        if isinstance(got, SkippedHost):
            why = f"all hosts are skipped for a while: {got.why}"
            self._emit(head.ended(deferred("connect", "error", why, skipped=True)))
            return
        if not lane.in_flight:
            lane.heard_at = now
        got.since, got.patience = now, self._gate.patience(lane)
        self._gate.enter(lane)
        lane.in_flight += 1
        lane.went += 1
        lane.pacer.take(now)
        lane.waiting.went(head, now)
        self._emit(head.but(slot=got))

    def _hold(self, lane: Lane, wait: Wait) -> None:
        lane.waits_for, lane.waits_until = wait.why, wait.until
        if wait.until is not None:
            self._wake_at(lane, wait.until)
        elif not wait.own:
            self._starved[lane.name] = None

    def _wake_at(self, lane: Lane, at: float) -> None:
        if lane.wake is not None:
            lane.wake.dispose()

        def awake(*_: object) -> None:
            lane.wake = None
            self._pump(lane)

        lane.wake = self._scheduler.schedule_relative(max(TICK, at - self._clock()), awake)

    # -- what comes back --------------------------------------------------------------------------------------------

    def settled(self, delivery: Delivery) -> None:
        """The queue has confirmed a delivery's end: its slot is free again, and its lane may go on."""
        lane, outcome = self._lanes.get(delivery.lane), delivery.outcome
        back = lane is not None and outcome is not None and outcome.next is Next.PARK and outcome.lane == lane.name
        if lane is not None and back and delivery.slot is None:
            lane.parking = max(0, lane.parking - 1)
        if delivery.slot is not None:
            if lane is not None:
                self._returned(lane, delivery.slot, outcome)
            self._slots.release(delivery.slot, self._clock())
            self._admit()
        if lane is not None:
            self._call_in(lane.name)
        if (queue := delivery.lease.recalled) is not None and queue != delivery.lane:
            self._call_in(queue)

    def _returned(self, lane: Lane, slot: Slot, outcome: Outcome | None) -> None:
        """A delivery has ended: learn from it how the receiver answers."""
        now = self._clock()
        self._gate.leave(lane)
        lane.in_flight -= 1
        lane.active_at = now
        if outcome is None:
            return
        if outcome.code is not None:
            self._gate.turn(lane, lane.heard(now - slot.since, now))
        elif outcome.next is Next.PARK:  # its receiver had less time than usual, and did not answer
            self._gate.turn(lane, Pace.SILENT)
        self._adapt(lane, outcome)

    def _admit(self) -> None:
        """Lanes that wait for a place at the gate try again, in turn."""
        for _ in range(min(STARVED, len(self._gated))):
            name, _ = self._gated.popitem(last=False)
            self.go_on(name)

    def _adapt(self, lane: Lane, outcome: Outcome) -> None:
        """Grow the window with each answer; halve it when the connection failed, unless that is our own fault."""
        if outcome.state == "process":
            return
        if outcome.code is not None and outcome.code != 421:
            lane.window = min(lane.window + 1, MOST)
            lane.progress_at = self._clock()
        elif outcome.result in ("timeout", "lost", "error", "invalid"):
            lane.window = max(1, lane.window // 2)

    def _released(self, slot: Slot) -> None:
        """A connection is free: its lane keeps it, unless a lane that waits has too few."""
        if owed := self._owed(slot):
            self._starved.pop(slot.lane, None)  # it comes after the others
        else:
            self.go_on(slot.lane)
        if not slot.busy:
            self._serve(STARVED)
        if owed:
            self.go_on(slot.lane)

    def _freed(self, slot: Slot) -> None:
        """A connection was closed: those that wait for one come first."""
        self._serve(STARVED)
        self.go_on(slot.lane)

    def _owed(self, slot: Slot) -> bool:
        """Whether a lane that waits has too few connections for this one to stay where it is."""
        if not self._starved:
            return False
        mine, _ = self._slots.of(slot.lane)
        others = (self._slots.of(name)[0] for name in itertools.islice(self._starved, STARVED) if name != slot.lane)
        return any(open_ + 1 < mine or (not open_ and slot.messages >= TURN) for open_ in others)

    def _serve(self, most: int) -> None:
        """Lanes that wait for a connection try again, in turn."""
        for _ in range(min(most, len(self._starved))):
            name, _ = self._starved.popitem(last=False)
            self.go_on(name)

    def go_on(self, name: str) -> None:
        """What this lane waited for may have happened: try."""
        if (lane := self._lanes.get(name)) is not None:
            self._pump(lane)

    def _call_in(self, queue: str) -> None:
        """Call parked messages in, where fewer than half of what there is room for are here or on their way."""
        waiting = self._parked().get(queue, 0)
        if not waiting or self._closing:
            return
        lane, called = self._lanes.get(queue), self._called[queue]
        room, held = self._space(queue, lane)
        held += called.count
        if room and held <= room // 2:
            count = min(waiting, room - held)
            self._gate.called += count if lane_ip(queue) and (lane is None or lane.pace is not Pace.QUICK) else 0
            called.add(count, self._clock())
            self._recall(queue, count)

    def _space(self, queue: str, lane: Lane | None) -> tuple[int, int]:
        """(how many of a parked queue's messages there is room for, how many are here)."""
        if self._paused(queue) is not None:
            return 0, 0
        if lane is not None:
            late = lane.waits_until is not None and lane.waits_until > self._clock() + HORIZON
            room = 0 if late or self._stalled(lane) else self._room(lane)
            return (room if lane.pace is Pace.QUICK else min(room, self._gate.space(lane.pace))), lane.memory
        room = 0 if self._blocked(queue) else max(1, self._soon // 2)
        return (min(room, self._gate.space(Pace.NEW)) if lane_ip(queue) else room), 0

    # -- housekeeping -------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """About once a second: close idle connections, call in what is parked, park what stalls, forget idle lanes."""
        now = self._clock()
        self._slots.sweep(now)
        self._measure(now)
        for lane in list(self._lanes.values()):
            soon = lane.waits_until is not None and now < lane.waits_until <= now + HORIZON
            if lane.waiting and self._stalled(lane) and not soon:
                self._park_all(lane, "the lane made no progress")
            idle = now - lane.active_at if lane.rests else 0.0
            known = lane.pace is Pace.SILENT and lane.name in self._parked()
            if idle > lane.keep(BRIEF, REST) and lane.pacer.ready(lane.pacer.limit) <= now and not known:
                del self._lanes[lane.name]
                self._starved.pop(lane.name, None)
                self._gated.pop(lane.name, None)
        self._serve(SWEPT)  # lanes that no event has woken
        self._admit()
        self._call_in_all()

    def _measure(self, now: float) -> None:
        """Which lanes are quick; one that is not any more, and holds more than it may, parks what waits."""
        self._turning = self._gate.waiting = self._gate.called = 0
        slow = []
        for lane in self._lanes.values():
            lane.measure(now)
            if (pace := lane.unheard(now)) is not lane.pace:
                self._gate.turn(lane, pace)
            self._gate.waiting += len(lane.waiting) if lane.pace is not Pace.QUICK else 0
            if lane.quick:
                self._turning += lane.memory
            elif lane.waiting:
                slow.append(lane)
        for lane in slow:
            if lane.memory > SLACK * self._room(lane):
                self._park_all(lane, "the lane has become slow")
            elif lane.gated_at is not None and now - lane.gated_at > QUICK:
                self._park_all(lane, Hold.PLACES)

    def _relieve(self) -> None:
        """A burst for new lanes has filled what may wait: those that were not answered park theirs."""
        self._relieving = False
        now = self._clock()
        silent = [lane for lane in self._lanes.values() if lane.waiting and not self._gate.fresh(lane, now)]
        for lane in silent if len(silent) > 1 else ():  # a single one leaves half to the others, see `sweep`
            self._park_all(lane, Hold.MEMORY)
        self._gate.waiting = sum(len(lane.waiting) for lane in self._lanes.values() if lane.pace is not Pace.QUICK)

    def _stalled(self, lane: Lane) -> bool:
        """It wants to let deliveries go, and has got no answer and let none go for HORIZON."""
        return not lane.can_go and self._clock() - lane.progress_at > HORIZON

    def _call_in_all(self) -> None:
        now = self._clock()
        for queue in [queue for queue, called in self._called.items() if called.stale(now)]:
            del self._called[queue]
        queues = list(self._parked())
        begin = self._swept if self._swept < len(queues) else 0
        for queue in [*queues[begin:], *queues[:begin]][:SWEPT]:
            self._call_in(queue)
        self._swept = begin + min(
            SWEPT, len(queues) // 4 + 1
        )  # each sweep begins with other queues, so that each gets room in turn

    def reconsider(self) -> None:
        """The rules have changed: what waits goes through the stages before this one again."""
        for lane in list(self._lanes.values()):
            self._park_all(lane, "the rules have changed")
        self._call_in_all()

    def _park_all(self, lane: Lane, why: str) -> None:
        lane.gated_at = None
        while lane.waiting:
            self._park(lane, lane.waiting.popleft(), why)

    def _park(self, lane: Lane, delivery: Delivery, why: str) -> None:
        lane.parking += 1
        self._emit(delivery.ended(parked(lane.name, why)))

    def close(self) -> None:
        """Give back what waits; what is under way ends by itself."""
        self._closing = True
        for lane in list(self._lanes.values()):
            while lane.waiting:
                self._emit(lane.waiting.popleft().ended(_returned()))

    # -- what others ask ----------------------------------------------------------------------------------------------

    def outlook(self, name: str) -> tuple[float, int]:
        """(seconds until the lane can send, deliveries in memory), for `assign`."""
        lane = self._lanes.get(name)
        if lane is None:
            return 0.0, 0
        now = self._clock()
        ready = lane.pacer.ready(lane.pacer.limit) + len(lane.waiting) * lane.pacer.interval
        return max(0.0, ready - now, (lane.waits_until or now) - now), lane.memory

    def get(self, name: str) -> Lane | None:
        """A lane by its name, or None where nothing of it is in memory."""
        return self._lanes.get(name)

    def waits(self, name: str) -> bool:
        """Whether a lane has mail that waits for a permit or a connection."""
        lane = self._lanes.get(name)
        return lane is not None and bool(lane.waiting)

    def all(self) -> list[Lane]:
        """The lanes in memory."""
        return list(self._lanes.values())


def _returned() -> Outcome:
    return Outcome(state="process", result="error", next=Next.RETURN, description="given back: shutting down")
