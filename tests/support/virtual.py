"""A lane's world on virtual time: a clock, a queue's credit and parked messages, receivers that answer when told."""

from __future__ import annotations

import collections
from collections.abc import Callable

from reactivex.scheduler import VirtualTimeScheduler
from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease, Route, Target, lane_name
from operators.deliveries.outcome import Next, Outcome, failed, parked
from operators.lanes.lanes import Lane, Lanes
from operators.lanes.leases import Leases
from operators.lanes.limits import Limits
from operators.lanes.slots import Slots, Wait
from operators.mail.message import from_properties


class Line:
    """A connection that is open until somebody quits it, and gone a moment later."""

    def __init__(self, gone: Callable[[], None], scheduler: VirtualTimeScheduler) -> None:
        self.usable, self._gone, self._scheduler = True, gone, scheduler

    def quit(self, reason: str) -> None:
        self.usable = False
        self._scheduler.schedule_relative(0.1, lambda *_: self._gone())


class World:
    """Everything around `Lanes`, on one virtual clock.

    Attributes:
        gone: (seconds, delivery) for each delivery that got a slot.
        ended: deliveries that the throttle ended, with their outcomes.
        parked: the parked queues, by lane.
    """

    def __init__(
        self,
        *,
        credit: int = 1000,
        maximum: int = 1000,
        scheduler: VirtualTimeScheduler | None = None,
        leases: Leases | None = None,
        **limits: object,
    ) -> None:
        self.scheduler = scheduler or VirtualTimeScheduler()
        self.limits = Limits(**limits)  # type: ignore[arg-type]
        self.by_group: dict[str, Limits] = {}
        self.credit = credit
        self.slots = Slots(maximum, leases)
        self.input: Subject[Delivery] = Subject()
        self.gone: list[tuple[float, Delivery]] = []
        self.ended: list[Delivery] = []
        self.parked: dict[str, collections.deque[Delivery]] = {}
        self.counts: dict[str, int] = {}  # of those
        self.open_now: collections.Counter[str] = collections.Counter()  # connections by remote IP, as receivers count
        self.most_open: collections.Counter[str] = collections.Counter()
        self.most_total = 0
        self.answer: Callable[[Delivery], float | None] = lambda delivery: 1.0  # seconds, None: never
        self.keep_open = True
        self.outcome = accepted
        self.number = 0
        self.paused: dict[str, float] = {}  # lanes, and until when
        self.lanes = Lanes(
            self.slots,
            self._limits_of,
            lambda: self.credit,
            self._recall,
            self._counts,
            self.scheduler,
            self.now,
            paused=self._pause_of,
            credit=credit,
            pacer=leases.pacer if leases is not None else None,
        )
        self.input.pipe(self.lanes.throttle()).subscribe(self._throttled)
        self.scheduler.schedule_periodic(1.0, lambda state: self.lanes.sweep())

    def now(self) -> float:
        return float(self.scheduler.clock)

    def run(self, seconds: float) -> None:
        self.scheduler.advance_by(seconds)

    def send(self, count: int = 1, group: str = "a.example", ip: str = "127.0.0.1", address: str = "127.1.0.1") -> None:
        """`count` messages come from the outbox."""
        for _ in range(count):
            self.number += 1
            self.credit -= 1
            self.input.on_next(delivery(self.number, group, ip, address))

    def flood(self, seconds: float) -> None:
        """All of the credit is used, again and again."""
        for _ in range(round(seconds * 10)):
            self.send(self.credit)
            self.run(0.1)

    @property
    def moments(self) -> list[float]:
        return [moment for moment, _ in self.gone]

    def numbers(self, group: str = "a.example") -> list[int]:
        return [item.lease.id for _, item in self.gone if item.lane.endswith("/" + group)]

    # -- the other side --------------------------------------------------------------------------------------

    def _limits_of(self, lane: Lane) -> Limits:
        return self.by_group.get(lane.group, self.limits)

    def _pause_of(self, lane: str) -> Wait | None:
        until = self.paused.get(lane, 0.0)
        return Wait("flood", until) if until > self.now() else None

    def _throttled(self, item: Delivery) -> None:
        if item.outcome is not None:
            self._end(item)
            return
        self.gone.append((self.now(), item))
        if item.slot.connection is None:
            self._connect(item.slot)
        item.slot.messages += 1
        if (seconds := self.answer(item)) is not None:
            self.scheduler.schedule_relative(seconds, lambda *_: self._answered(item))
        elif item.slot.patience is not None and item.slot.messages == 1:
            self.scheduler.schedule_relative(item.slot.patience, lambda *_: self._hurried(item))

    def _connect(self, slot: object) -> None:
        address = slot.target.address  # type: ignore[attr-defined]
        self.open_now[address] += 1
        self.most_open[address] = max(self.most_open[address], self.open_now[address])
        self.most_total = max(self.most_total, self.open_now.total())
        self.slots.connected(slot, Line(lambda: self._closed(slot), self.scheduler))  # type: ignore[arg-type]

    def _closed(self, slot: object) -> None:
        self.open_now[slot.target.address] -= 1  # type: ignore[attr-defined]
        self.slots.closed(slot)  # type: ignore[arg-type]

    def _answered(self, item: Delivery) -> None:
        if not self.keep_open:
            item.slot.connection.usable = False
            self._closed(item.slot)
        self._settle(item.ended(self.outcome(item)))

    def _hurried(self, item: Delivery) -> None:
        """As the transport does with a connection that was not ready in time."""
        item.slot.connection.usable = False
        self._closed(item.slot)
        self._settle(item.ended(parked(item.lane, "hurried")))

    def _end(self, item: Delivery) -> None:
        self.ended.append(item)
        self._settle(item)

    def _settle(self, item: Delivery) -> None:
        self.scheduler.schedule_relative(0.0, lambda *_: self._settled(item))

    def _settled(self, item: Delivery) -> None:
        self.credit += 1
        assert item.outcome is not None
        if item.outcome.next is Next.PARK:
            queue = self.parked.setdefault(item.outcome.lane or "", collections.deque())
            queue.append(item)
            if len(queue) > 1 and queue[-2].lease.id > item.lease.id:
                self.parked[item.outcome.lane or ""] = collections.deque(sorted(queue, key=lambda one: one.lease.id))
            self.counts[item.outcome.lane or ""] = len(queue)
        self.lanes.settled(item)

    def _counts(self) -> dict[str, int]:
        return self.counts

    def _recall(self, lane: str, most: int) -> None:
        def lend(*_: object) -> None:
            queue = self.parked.get(lane, collections.deque())
            for _i in range(min(most, len(queue), self.credit)):
                item = queue.popleft()
                self.credit -= 1
                self.counts[lane] -= 1
                if not queue:
                    del self.counts[lane]
                group, ip = item.lane.partition("/")[2], item.ip
                assert item.route is not None
                self.input.on_next(delivery(item.lease.id, group, ip, item.route.targets[0].address, recalled=lane))

        self.scheduler.schedule_relative(0.03, lend)  # a read of the disk


def delivery(number: int, group: str, ip: str, address: str, recalled: str | None = None) -> Delivery:
    """A delivery as it comes to the throttle."""
    message = from_properties({"recipient": f"user{number}@{group}", "mime": "x"})
    route = Route(group, (Target(group, address),))
    lease = Lease(number, b"{}", recalled=recalled)
    return Delivery(
        lease=lease, message=message, domain=group, ip=ip, route=route, lane=lane_name(ip, group), source=b"x"
    )


def accepted(item: Delivery) -> Outcome:
    """The receiver takes it."""
    return Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, remote_ip="127.1.0.1")


def rejected(item: Delivery) -> Outcome:
    """The receiver refuses it for good."""
    return failed("rcptto", "error", "no such user", code=550, remote_ip="127.1.0.1")
