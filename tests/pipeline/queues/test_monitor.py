"""What the AMQP monitor is told: of RabbitMQ with and without its management API, of the embedded queue, of a loss."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Event, Taken
from operators.mail.message import Message
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq.amqp.management import Said, Totals
from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue
from pipeline.queues.rabbitmq.survey import Rates
from pipeline.queues.survey import QueueRow
from pipeline.views.queue_monitor import Flow, QueueMonitor, Seen
from settings import load
from tests.pipeline.queues.desk import Clock, Desk
from tests.support.broker import Broker, settings_for

PATIENCE = 30.0  # seconds; the broker's statistics are up to 5 s old


class Watched:
    """A queue, and what its monitor has said of it."""

    def __init__(self, settings: Any, queue: Any) -> None:
        self.desk, self.events = Desk(queue, None), Subject[Event]()
        self.monitor = QueueMonitor(SimpleNamespace(settings=settings, queue=queue, events=self.events))  # type: ignore[arg-type]
        self.seen: list[Seen] = []

    async def until(self, true: Callable[[Seen], bool]) -> Seen:
        """The next thing it says of which this is true."""
        async with asyncio.timeout(PATIENCE):
            while not self.seen or not true(self.seen[-1]):  # noqa: ASYNC110 - it is what the test waits for
                await asyncio.sleep(0.02)
        return self.seen[-1]


@contextlib.asynccontextmanager
async def rabbit(address: str, **options: object) -> AsyncIterator[Watched]:
    """A monitored queue on RabbitMQ, that somebody looks at."""
    settings = settings_for(address, **options)
    watched = Watched(settings, RabbitQueue(settings, linger=0.1))
    await watched.desk.queue.start()
    looking = watched.monitor.stream.subscribe(watched.seen.append)
    yield watched
    looking.dispose()
    await watched.desk.queue.close()


def row(seen: Seen, name: str) -> QueueRow:
    """The row of a queue."""
    return next(one for one in seen.rows if one.name == name)


async def test_the_management_api_knows_what_other_clients_hold_and_do(node: Broker, address: str) -> None:
    """Unacked messages and rates of every queue, and the depth as AMQP says it."""
    async with rabbit(address, rabbitmq_management=f"http://127.0.0.1:{node.management_port}") as watched:
        await watched.until(lambda seen: seen.source == "management")
        watched.desk.consume(5)
        await watched.desk.publish(*[b"%d" % number for number in range(8)])
        seen = await watched.until(lambda seen: row(seen, "outbox").unacked == 5 and seen.source == "management")
        assert (row(seen, "outbox").ready, row(seen, "outbox").consumers) == (3, 2)
        assert (seen.connected, seen.note, seen.in_memory) == (True, "", 5)
        async with asyncio.timeout(PATIENCE):
            while not row(watched.seen[-1], "results").into:
                await watched.desk.publish(b"of another", queue="results")
                await asyncio.sleep(0.2)
        assert row(watched.seen[-1], "results").trend[-1] > 0


async def test_without_the_management_api_the_figures_are_those_of_amqp(address: str) -> None:
    """What nobody says is not made up; why there is no more is said; the password is nowhere."""
    async with rabbit(address, rabbitmq_management="http://127.0.0.1:9") as watched:
        watched.desk.consume(5)
        await watched.desk.publish(*[b"%d" % number for number in range(8)])
        await watched.desk.publish(b"later", delay=600)
        seen = await watched.until(lambda seen: row(seen, "outbox").ready == 3)
        assert (seen.source, seen.note, seen.waiting) == ("amqp", "it cannot be reached", 1)
        assert row(seen, "outbox").unacked == 5
        assert (row(seen, "results").unacked, row(seen, "results").into) == (None, None)
        assert Broker.password not in repr(watched.seen)


async def test_an_account_that_may_not_use_the_api_does_without(node: Broker, address: str) -> None:
    """Its refusal is said, and it is not asked every second."""
    where = f"http://guest:wrong@127.0.0.1:{node.management_port}"
    async with rabbit(address, rabbitmq_management=where) as watched:
        seen = await watched.until(lambda seen: seen.source == "amqp")
        assert seen.note == "it answers 401 Unauthorized"
        assert "wrong" not in repr(watched.seen)


async def test_a_lost_broker_is_said_and_its_return(address: str) -> None:
    """With what is in memory meanwhile; the stream goes on."""
    async with rabbit(address) as watched:
        watched.desk.consume(5)
        await watched.desk.publish(b"1", b"2")
        await watched.desk.lent(2)
        queue = watched.desk.queue
        assert isinstance(queue, RabbitQueue)
        assert queue.broker.link is not None
        await queue.broker.stop()  # it connects no more until it is told to
        queue.broker.link.end("gone")
        seen = await watched.until(lambda seen: not seen.connected)
        assert (seen.in_memory, seen.rows) == (2, ())
        assert seen.where.startswith("RabbitMQ is away")
        await queue.broker.start()
        await watched.until(lambda seen: seen.connected)


async def test_the_embedded_queue_has_the_same_figures(tmp_path: Path) -> None:
    """The outbox, what waits, the others and the parked."""
    settings = load([f"--data-dir={tmp_path}"], system_file=None)
    watched = Watched(settings, EmbeddedQueue(tmp_path / "queue.db"))
    await watched.desk.queue.start()
    await watched.desk.publish(b"1", b"2")
    await watched.desk.publish(b"later", delay=600)
    await watched.desk.publish(b"of another", queue="results")
    looking = watched.monitor.stream.subscribe(watched.seen.append)
    seen = await watched.until(lambda seen: seen.connected)
    depths = [(one.name, one.ready) for one in seen.rows]
    assert depths == [("outbox", 2), ("outbox, waiting for a time", 1), ("results", 1)]
    assert (seen.source, seen.waiting, row(seen, "outbox").consumers) == ("embedded", 1, 1)
    looking.dispose()
    await watched.desk.queue.close()


async def test_nobody_looks_and_nothing_is_asked(tmp_path: Path) -> None:
    """One look a period, however many look; none, and no subscription, when they have gone."""
    settings = load([f"--data-dir={tmp_path}"], system_file=None)
    watched = Watched(settings, EmbeddedQueue(tmp_path / "queue.db"))
    await watched.desk.queue.start()
    looks = [watched.monitor.stream.subscribe(watched.seen.append) for _ in range(2)]
    await watched.until(lambda seen: seen.connected)
    assert len(watched.events.observers) == 1
    for look in looks:
        look.dispose()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(watched.events.observers) == 0
    await watched.desk.queue.close()


# -- rates


def taken(when: float, lane: str | None = None) -> Taken:
    """A message of the outbox, or one that was parked, is taken."""
    lease = Lease(id=1, body=b"", recalled=lane)
    return Taken(time=when, delivery=Delivery(lease=lease, message=Message(recipient="you@there.example")))


def test_a_rate_is_taken_over_the_last_ten_seconds() -> None:
    """What is older counts no more, and parked messages are not of the outbox."""
    clock = Clock()
    flow = Flow(clock)
    flow.count(taken(clock.now))
    clock.now += 100
    for _ in range(20):
        flow.count(taken(clock.now))
    flow.count(taken(clock.now, "192.0.2.1/there.example"))
    assert flow.rate("out") == 2.0


def test_what_others_put_into_the_outbox_is_worked_out_from_its_depth() -> None:
    """What it has grown by, and what was lent of it meanwhile."""
    clock = Clock()
    flow = Flow(clock)
    flow.level(100)
    for _ in range(30):
        flow.count(taken(clock.now))
    clock.now += 10
    flow.level(150)
    assert flow.risen() == 8.0


def test_totals_of_the_broker_make_rates() -> None:
    """Also of a queue that was not there before; one declared anew has smaller totals, and no negative rate."""
    ticks = Clock()
    rates = Rates(ticks)
    assert rates.of({"a": Said("a", message_stats=Totals(publish=10))})["a"].into is None
    ticks.now += 5
    later = {name: Said(name, message_stats=Totals(publish=60, ack=5)) for name in ("a", "b")}
    now = rates.of(later)
    assert (now["a"].into, now["a"].ack, now["b"].into) == (10.0, 1.0, 12.0)
    ticks.now += 1
    assert rates.of({"a": Said("a")})["a"].into == 0
