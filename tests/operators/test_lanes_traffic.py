"""Lanes under any traffic: several destinations, receivers that hang and fail, pauses, limits, little credit."""

from __future__ import annotations

import collections
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, deferred
from tests.support.virtual import World, accepted

CREDIT = 40
OPEN, AT_ONCE, TO_ONE = 6, 4, 3  # connections: in all, to a remote IP, of a lane
LANES = {"a.example": "127.1.0.1", "b.example": "127.1.0.1", "c.example": "127.1.0.2", "d.example": "127.1.0.3"}
GROUPS, RECEIVERS = st.sampled_from(sorted(LANES)), st.sampled_from(sorted(set(LANES.values())))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), GROUPS, st.integers(1, 30)),
        st.tuples(st.just("behave"), RECEIVERS, st.sampled_from(["fine", "slow", "hang", "fail", "skip"])),
        st.tuples(st.just("pause"), GROUPS, st.integers(1, 90)),
        st.tuples(st.just("wait"), GROUPS, st.sampled_from([0.05, 1, 7, 40])),
        st.tuples(st.just("reconsider"), GROUPS, st.just(0)),
    ),
    max_size=40,
)


class Traffic(World):
    """A world whose receivers change their ways, and which counts what becomes of each message."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(
            credit=CREDIT, maximum=OPEN, ip_connections=AT_ONCE, domain_connections=TO_ONE, queue=15, **limits
        )
        self.ways: dict[str, str] = {}
        self.ends: collections.Counter[int] = collections.Counter()
        self.under_way: dict[int, Delivery] = {}
        self.hung: list[Delivery] = []
        self.answer = self._answer
        self.outcome = lambda item: self._outcome_of(item)

    def _answer(self, item: Delivery) -> float | None:
        way = self.ways.get(item.slot.target.address, "fine")
        if way == "hang":
            self.hung.append(item)
            return None
        return {"fine": 0.2, "slow": 20.0}.get(way, 2.0)

    def _outcome_of(self, item: Delivery) -> Any:
        address = item.slot.target.address
        way = self.ways.get(address)
        if way == "skip":
            self.slots.skip(item.slot.ip, item.slot.target, "refused", self.now() + 60)
        return deferred("connect", "timeout", "no answer") if way in ("fail", "skip") else accepted(item)

    def _throttled(self, item: Delivery) -> None:
        if item.outcome is None:
            assert item.lease.id not in self.under_way
            self.under_way[item.lease.id] = item
        super()._throttled(item)

    def _answered(self, item: Delivery) -> None:
        way = self.ways.get(item.slot.target.address)
        self.keep_open = way not in ("fail", "skip")
        super()._answered(item)

    def _settled(self, item: Delivery) -> None:
        assert item.outcome is not None
        self.under_way.pop(item.lease.id, None)
        self.ends[item.lease.id] += item.outcome.next is not Next.PARK
        super()._settled(item)

    def calm(self) -> None:
        """All receivers are well again, and answer what they had left hanging."""
        self.ways.clear()
        self.paused.clear()
        for item in self.hung:
            self._answered(item)
        self.hung.clear()

    def check(self) -> None:
        """What always holds, as soon as the queue has confirmed what it was told."""
        self.run(0.01)
        lanes = self.lanes.all()
        assert self.credit >= 0
        assert self.credit + sum(lane.memory for lane in lanes) == CREDIT
        assert sum(lane.in_flight for lane in lanes) == len(self.under_way)
        assert self.slots.open <= OPEN and max(self.most_open.values(), default=0) <= AT_ONCE
        assert self.most_total <= OPEN
        assert all(self.slots.of(lane.name)[0] <= TO_ONE for lane in lanes)
        assert self.slots.open == sum(self.slots.of(lane.name)[0] for lane in lanes)
        assert max(self.ends.values(), default=0) <= 1
        parked = [item.lease.id for queue in self.parked.values() for item in queue]
        waiting = [item.lease.id for lane in lanes for item in lane.waiting]
        ended = [id for id, count in self.ends.items() if count]
        assert sorted([*parked, *waiting, *self.under_way, *ended]) == list(range(1, self.number + 1))


@settings(max_examples=2 * settings.default.max_examples)
@given(
    burst=st.lists(st.integers(0, 10), min_size=4, max_size=4),
    steps=STEPS,
    rate=st.sampled_from([0, 120]),
    address_rate=st.sampled_from([0, 90]),
)
def test_no_traffic_loses_doubles_or_strands_a_message(
    burst: list[int], steps: list[tuple[str, str, Any]], rate: int, address_rate: int
) -> None:
    """Each message ends once or is held; limits and credit hold at all times; when all is calm, everything leaves."""
    world = Traffic(domain_messages=rate, ip_messages=address_rate)
    for step, name, value in [*(("send", *each) for each in zip(LANES, burst, strict=True)), *steps]:
        if step == "send":
            world.send(min(value, world.credit), name, address=LANES[name])
        elif step == "behave":
            world.ways[name] = value
        elif step == "pause":
            world.paused[f"127.0.0.1/{name}"] = world.now() + value
        elif step == "wait":
            world.run(value)
        else:
            world.lanes.reconsider()
        world.check()
    world.calm()
    for _ in range(60):
        world.run(10)
        world.check()
        if sum(world.ends.values()) == world.number:
            break
    assert not any(world.parked.values())
    assert sum(world.ends.values()) == world.number
    assert world.credit == CREDIT
