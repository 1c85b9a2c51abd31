"""The embedded queue against a model: a dictionary that says where each message is."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from operators.deliveries.delivery import Lease
from pipeline.queues.contract import Park, Retry, Settlement
from pipeline.queues.embedded.embedded import EmbeddedQueue
from tests.pipeline.queues.desk import Clock, Desk, until

CREDIT = 5
LANES = st.sampled_from(["a", "b"])


class QueueMachine(RuleBasedStateMachine):
    """Each message is ready, waits, is parked, is lent, or is done; and the queue thinks the same."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.number = 0
        self.ready: set[bytes] = set()
        self.waiting: dict[bytes, float] = {}
        self.parked: dict[bytes, tuple[str, float | None]] = {}
        self.lent: dict[bytes, Lease] = {}
        self.open()

    def run(self, call: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(call)

    def open(self) -> None:
        self.queue = EmbeddedQueue(Path(self.folder.name) / "q", clock=self.clock, poll=0.002)
        self.desk = Desk(self.queue, self.clock)
        self.run(self.queue.start())
        self.desk.consume(CREDIT)

    def teardown(self) -> None:
        self.run(self.queue.close())
        self.loop.close()
        self.folder.cleanup()

    def body(self) -> bytes:
        self.number += 1
        return b"%d" % self.number

    @rule(number=st.integers(1, 8))
    def publish(self, number: int) -> None:
        bodies = [self.body() for _ in range(number)]
        self.run(self.desk.publish(*bodies))
        self.ready |= set(bodies)

    @rule(delay=st.integers(1, 30))
    def publish_delayed(self, delay: int) -> None:
        body = self.body()
        self.run(self.desk.publish(body, delay=delay))
        self.waiting[body] = self.clock.now + delay

    def a_lease(self, data: st.DataObject) -> tuple[bytes, Lease]:
        body = data.draw(st.sampled_from(sorted(self.lent)))
        return body, self.lent.pop(body)

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        _, lease = self.a_lease(data)
        self.run(self.desk.settle(lease))

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), delay=st.integers(0, 30))
    def retry(self, data: st.DataObject, delay: int) -> None:
        _, lease = self.a_lease(data)
        body = self.body()
        self.run(self.desk.settle(lease, Settlement(then=Retry(body, self.clock.now + delay))))
        self.waiting[body] = self.clock.now + delay

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), lane=LANES, expires=st.none() | st.integers(1, 30))
    def park(self, data: st.DataObject, lane: str, expires: int | None) -> None:
        body, lease = self.a_lease(data)
        until = None if expires is None else self.clock.now + expires
        self.run(self.desk.settle(lease, Settlement(then=Park(lane, until))))
        self.parked[body] = lane, until

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        body, lease = self.a_lease(data)
        self.run(self.desk.settle(lease, Settlement(give_back=True)))
        [again] = self.run(self.desk.next())
        assert (again.body, again.redelivered) == (body, True)
        self.lent[body] = again

    @rule(lane=LANES, most=st.integers(1, 4))
    def recall(self, lane: str, most: int) -> None:
        self.queue.recall(lane, most)
        self.run(asyncio.sleep(0.01))

    @rule(seconds=st.integers(-5, 40))
    def pass_time(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def flush(self) -> None:
        self.settle_down()
        self.run(self.queue.flush())
        self.ready |= set(self.waiting)
        self.waiting.clear()

    @rule()
    def restart(self) -> None:
        self.run(self.queue.close())
        self.settle_down(lendable=False)
        for body, lease in self.lent.items():
            if lease.recalled is None:
                self.ready.add(body)
            else:
                self.parked[body] = lease.recalled, None
        self.lent.clear()
        self.open()

    def settle_down(self, lendable: bool = True) -> None:
        """Take what has been lent; where there is credit, all that is to be lent must come."""
        if lendable:
            ready = self.ready | {body for body, due in self.waiting.items() if due <= self.clock.now}
            expired = {body for body, (_, end) in self.parked.items() if end is not None and end <= self.clock.now}
            wanted = min(CREDIT, len(self.lent) + len(ready | expired))
            self.run(until(lambda: len(self.lent) + len(self.desk.leases) >= wanted))
        for lease in self.desk.leases:
            assert lease.body not in self.lent, "lent twice"
            origin = (self.ready, self.waiting, self.parked)[self.origin(lease)]
            origin.discard(lease.body) if isinstance(origin, set) else origin.pop(lease.body)
            self.lent[lease.body] = lease
        self.desk.leases.clear()

    def origin(self, lease: Lease) -> int:
        if lease.recalled is not None:
            assert self.parked[lease.body][0] == lease.recalled
            return 2
        if lease.body in self.ready:
            return 0
        assert lease.body in self.waiting, "lent though it is gone"
        return 1

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        self.settle_down()
        assert len(self.lent) <= CREDIT
        figures = self.run(self.queue.figures())
        self.settle_down()
        total = figures.ready + figures.waiting + figures.unsettled + sum(figures.parked.values())
        assert total == len(self.ready) + len(self.waiting) + len(self.parked) + len(self.lent)
        assert dict(self.queue.parked()) == Counter(lane for lane, _ in self.parked.values())


QueueMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples // 4,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestQueue = QueueMachine.TestCase
