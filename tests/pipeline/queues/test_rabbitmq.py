"""What is RabbitMQ's own: delays, parked queues after a restart, gzip, foreign publishers, losses, starting."""

from __future__ import annotations

import asyncio
import gzip
import random
import time
from typing import Any

import aiormq
import pytest
from pamqp import commands

from operators.deliveries.results import QUOTED
from pipeline.queues.contract import Park, QueueUnavailable, Retry, Settlement
from pipeline.queues.rabbitmq.amqp.mail import plain
from pipeline.queues.rabbitmq.delays import LATE, STEPS, slack, step
from pipeline.queues.rabbitmq.rabbitmq import HEAVY, RabbitQueue
from tests.pipeline.queues.desk import park, until
from tests.pipeline.queues.rabbit import LANE, channel, opened, rabbit
from tests.support.broker import Broker, settings_for

# Delays


def test_any_delay_is_a_few_steps_and_late_by_little() -> None:
    """At most 31 queues; from 5 s to a day three steps at most, and late by LATE or one smallest step."""
    chance = random.Random(1)
    assert len(STEPS) <= 32
    for _ in range(5000):
        delay = left = int(1000 * 5 * (86400 / 5) ** chance.random())
        may, steps = slack(delay), 0
        while left > 0:
            left -= step(left, may)
            steps += 1
        assert steps <= 3
        assert -left <= max(LATE * delay, STEPS[0])


async def test_retries_come_within_a_tenth_of_their_delays(address: str) -> None:
    """Not before, and none is lent in between; over few queues."""
    came: dict[bytes, float] = {}
    async with opened(address) as desk:
        desk.consume(1000)
        await desk.publish(*[b"%d" % n for n in range(200)])
        due = {}
        for lease in await desk.next(200):
            delay = 3 + int(lease.body) % 50 / 10
            due[lease.body] = (delay, time.time() + delay)
            await desk.settle(lease, Settlement(then=Retry(lease.body, due[lease.body][1])))
        while len(came) < 200:
            [lease] = await desk.next()
            assert lease.body not in came
            came[lease.body] = time.time()
        delays = [name for name in rabbit(desk).topology.known if rabbit(desk).names.delays(name)]
    for body, (delay, at) in due.items():
        assert -0.05 <= came[body] - at <= 0.1 * delay + 20  # 20 s: a busy machine
    assert len(delays) <= len(STEPS)


async def test_delays_outlive_a_restart_of_ours(address: str) -> None:
    """They are the broker's; and they are counted as waiting after it."""
    async with opened(address) as desk:
        await desk.publish(b"m", delay=6)
    async with opened(address) as desk:
        assert (await desk.queue.figures()).waiting == 1
        desk.consume()
        assert [lease.body for lease in await desk.next()] == [b"m"]


async def test_flushed_messages_are_ready_at_once(address: str) -> None:
    """And forget the time that they name themselves."""
    async with opened(address) as desk:
        await desk.publish(b'{"recipient":"a@b","nextattempt":{"time":"2099-01-01 00:00:00"}}', delay=500)
        assert await rabbit(desk).flush() == 1
        desk.consume()
        assert [lease.body for lease in await desk.next()] == [b'{"recipient":"a@b"}']


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_the_broker_confirms_what_has_expired(address: str, node: Broker, kind: str) -> None:
    """A classic queue would let go of it before the outbox has it safe: killed meanwhile, the broker loses it."""
    async with opened(address, rabbitmq_queue_type=kind) as desk:
        await desk.publish(b"m", delay=500)
        [delay] = [name for name in rabbit(desk).topology.known if rabbit(desk).names.delays(name)]
    queue = node.api("GET", f"queues/{address.rpartition('/')[2]}/{delay}")
    assert queue["durable"]
    assert queue["arguments"]["x-queue-type"] == "quorum"
    assert queue["arguments"]["x-dead-letter-strategy"] == "at-least-once"


# Parked queues


async def test_parked_queues_are_found_after_a_restart(address: str) -> None:
    """By the index, since AMQP cannot list queues; also where the lane's name cannot be a queue's."""
    long = "?~2001:db8::1/ä" + "x" * 250 + ".example"
    async with opened(address) as desk:
        desk.consume()
        await desk.publish(b"a", b"b")
        for lane, lease in zip((LANE, long), await desk.next(2), strict=True):
            await desk.settle(lease, Settlement(then=Park(lane)))
    async with opened(address) as desk:
        assert dict(desk.queue.parked()) == {LANE: 1, long: 1}
        desk.consume()
        desk.queue.recall(long, 1)
        assert [(lease.body, lease.recalled) for lease in await desk.next()] == [(b"b", long)]


@pytest.mark.parametrize("was", ["classic", "quorum"])
@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_parked_queues_vanish_when_they_are_empty(address: str, kind: str, was: str) -> None:
    """Not before what was in them is settled; also those of another configuration. The connection stays."""
    async with opened(address, rabbitmq_queue_type=was) as desk:
        desk.consume()
        await desk.publish(b"m")
        [lease] = await desk.next()
        await desk.settle(lease, Settlement(then=Park(LANE)))
    async with opened(address, rabbitmq_queue_type=kind) as desk:
        queue = rabbit(desk)
        link = queue.broker.link
        desk.consume()
        desk.queue.recall(LANE, 1)
        [lease] = await desk.next()
        await asyncio.sleep(1.2)
        assert queue.parked_queues.queues == 1
        await desk.settle(lease)
        await until(lambda: queue.parked_queues.queues == 0)
        async with channel(address) as other:
            with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
                await other.queue_declare(queue.names.parked(LANE), passive=True)
        assert queue.broker.link is link


async def test_a_parked_queue_with_mail_in_it_stays(address: str) -> None:
    """Though we count it as empty: somebody else has parked there. Of quorum queues RabbitMQ asks nothing itself."""
    async with opened(address, rabbitmq_queue_type="quorum") as desk, channel(address) as other:
        queue = rabbit(desk)
        assert queue.broker.link is not None
        name = queue.names.parked(LANE)
        await queue.parked_queues.ensure(queue.broker.link, LANE)
        await other.basic_publish(b"m", routing_key=name)
        assert not await queue.topology.remove(queue.broker.link, name)
        async with asyncio.timeout(20):
            while (message := await other.basic_get(name)).delivery_tag is None:
                pass  # it is on its way back
        assert message.body == b"m"


async def test_a_count_that_was_overtaken_is_not_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker answered before a message was called in, and was heard after it."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.amqp.broker.TICK", 60)
    async with opened(address) as desk:
        link = rabbit(desk).broker.link
        assert link is not None
        count, answered, heard = link.count, asyncio.Event(), asyncio.Event()

        async def slow(queue: str) -> Any:
            answer = await count(queue)
            answered.set()
            await heard.wait()
            return answer

        desk.consume()
        await park(desk, b"m")
        monkeypatch.setattr(link, "count", slow)
        look = asyncio.create_task(rabbit(desk).parked_queues.look(alone=False))
        await answered.wait()
        desk.queue.recall(LANE, 1)
        await desk.next()
        heard.set()
        await look
        assert dict(desk.queue.parked()) == {}


async def test_messages_that_are_slow_to_come_in_hold_nothing_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that waits no longer loses none that is on its way, and does not keep fresh messages out."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.parked.PATIENCE", 0)
    async with opened(address) as desk:
        desk.consume(100)
        await desk.publish(*[b"%d" % n for n in range(60)])
        for lease in await desk.next(60):
            await desk.settle(lease, Settlement(then=Park(LANE)))
        await desk.publish(b"fresh")
        came: set[bytes] = set()
        async with asyncio.timeout(20):
            while len(came) < 61:
                desk.queue.recall(LANE, 60)
                await rabbit(desk).figures()  # a turn of the broker
                for lease in await desk.next(len(desk.leases)):
                    came.add(lease.body)
                    await desk.settle(lease)
        assert dict(desk.queue.parked()) == {}


async def test_a_parked_message_comes_when_it_expires(address: str) -> None:
    """By its own TTL, over the outbox, as one of its lane."""
    async with opened(address) as desk:
        desk.consume()
        await desk.publish(b"m")
        [lease] = await desk.next()
        await desk.settle(lease, Settlement(then=Park(LANE, time.time() + 1)))
        [again] = await desk.next()
        assert (again.body, again.recalled, again.queued) == (b"m", LANE, lease.queued)
        assert dict(desk.queue.parked()) == {}


async def test_what_is_parked_in_a_new_queue_counts_as_soon_as_that_is_safe(address: str) -> None:
    """A broker that is killed may forget the queue that was declared last: the next declaration makes it safe."""
    async with opened(address) as desk:
        desk.consume()
        await desk.publish(b"1", b"2")
        first, second = await desk.next(2)
        confirmed: list[int] = []
        desk.queue.settle(first, Settlement(then=Park(LANE)), lambda error: confirmed.append(1))
        await until(lambda: desk.queue.parked().get(LANE) == 1)
        assert confirmed == []
        desk.queue.settle(second, Settlement(then=Park(f"{LANE}.org")), lambda error: confirmed.append(2))
        await until(lambda: len(confirmed) == 2)
        assert confirmed == [1, 2]


# Bodies


async def test_gzip_is_read_always_and_written_where_configured(address: str) -> None:
    """The broker holds gzip, with its content-encoding; whoever is lent it sees JSON."""
    async with opened(address, rabbitmq_encoding="gzip") as desk, channel(address) as other:
        await desk.publish(b'{"a":1}', queue="results")
        message = await other.basic_get("results", no_ack=True)
        assert message.header.properties.content_encoding == "gzip"
        assert gzip.decompress(message.body) == b'{"a":1}'
        properties = commands.Basic.Properties(content_encoding="gzip")
        await other.basic_publish(gzip.compress(b'{"b":2}'), routing_key="outbox", properties=properties)
        await other.basic_publish(b"no gzip", routing_key="outbox", properties=properties)
        desk.consume()
        assert [lease.body for lease in await desk.next(2)] == [b'{"b":2}', b"no gzip"]


async def test_large_gzip_is_lent_too_and_holds_nobody_up(address: str) -> None:
    """It is unpacked beside the event loop; what comes behind it may be lent first."""
    large = random.Random(1).randbytes(3 * HEAVY).hex().encode()
    async with opened(address) as desk, channel(address) as other:
        for body in (large, b"x" * 100):
            properties = commands.Basic.Properties(content_encoding="gzip")
            await other.basic_publish(gzip.compress(body), routing_key="outbox", properties=properties)
        desk.consume()
        leases = await desk.next(2)
        assert {lease.body for lease in leases} == {large, b"x" * 100}
        for lease in leases:
            await desk.settle(lease)
        assert (await desk.queue.figures()).unsettled == 0


def test_a_bomb_is_unpacked_as_far_as_the_limit() -> None:
    """Whatever it claims to hold; only its beginning is kept."""
    bomb = gzip.compress(bytes(50_000_000))
    assert plain(bomb, "gzip", 2_000_000) == (bytes(QUOTED), 50_000_000)
    assert plain(bomb[:-4] + bytes(4), "gzip", 1000) == (bytes(1001), 1001)
    assert plain(b"x" * 3_000_000, None, 2_000_000) == (b"x" * QUOTED, 3_000_000)


def test_what_says_that_it_is_gzip_is_unpacked_where_it_is() -> None:
    """A series of members is one body (RFC 1952 2.2); what is cut off or something else stays as it is."""
    whole = gzip.compress(b"abc" * 100)
    assert plain(whole, "GZIP", 1000) == (b"abc" * 100, 0)
    assert plain(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 1000) == (b"ab", 0)
    for other in (whole[:-9], whole + b"rest", whole[:-4] + bytes(4), b'{"a":1}', b"\x1f\x8b", b""):
        assert plain(other, "x-gzip", 1000) == (other, 0)
    assert plain(whole, "deflate", 1000) == (whole, 0)


async def test_the_same_message_as_often_as_it_is_published(address: str) -> None:
    """Also with the same AMQP message-id: it is the application's own."""
    properties = commands.Basic.Properties(message_id="same")
    async with opened(address) as desk, channel(address) as other:
        desk.consume(1)
        for _ in range(3):
            await other.basic_publish(b"m", routing_key="outbox", properties=properties)
            [lease] = await desk.next()
            await desk.settle(lease)
            assert lease.body == b"m"


async def test_priorities_decide_who_is_first(address: str) -> None:
    """Where the queues have them."""
    async with opened(address, rabbitmq_maxpriority=5) as desk:
        await desk.publish(b'{"priority":1}', b'{"priority":9}', b'{"priority":3}')
        desk.consume(1)
        order = []
        for _ in range(3):
            [lease] = await desk.next()
            order.append(lease.body)
            await desk.settle(lease)
        assert order == [b'{"priority":9}', b'{"priority":3}', b'{"priority":1}']


@pytest.mark.parametrize("options", [{"rabbitmq_queue_type": "quorum"}, {"rabbitmq_exchange": "mail"}])
async def test_the_round_works_with_other_topologies(address: str, options: dict[str, Any]) -> None:
    """Quorum queues; an exchange to publish to."""
    async with opened(address, **options) as desk:
        desk.consume()
        await desk.publish(b"m")
        [lease] = await desk.next()
        await desk.settle(lease, Settlement(then=Park(LANE), publish=[("own results", b"r")]))
        desk.queue.recall(LANE, 1)
        [lease] = await desk.next()
        await desk.settle(lease, Settlement(then=Retry(b"again", time.time() + 0.3)))
        [lease] = await desk.next()
        await desk.settle(lease)
        assert (lease.body, (await desk.queue.figures()).other) == (b"again", {"own results": 1})


async def test_a_copy_that_has_no_queue_holds_nothing_up(address: str) -> None:
    """With rabbitmq-declare off, a message may name a queue that does not exist: said, and the message is done."""
    async with opened(address):
        pass
    async with opened(address, rabbitmq_declare="false") as desk:
        desk.consume()
        await desk.publish(b"m")
        [lease] = await desk.next()
        await desk.settle(lease, Settlement(publish=[("nowhere", b"r"), ("results", b"r")]))
        assert (await desk.queue.figures()).other == {"results": 1}
        with pytest.raises(QueueUnavailable, match="nowhere"):
            await desk.publish(b"m", queue="nowhere")


# Starting


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("guest:", "stranger:"), "refuses the login of 'stranger'"),
        (lambda text: text.rpartition("/")[0] + "/nowhere", "virtual host"),
        (lambda text: text.replace(text.rpartition(":")[2].partition("/")[0], "1"), "cannot be reached"),
    ],
)
async def test_a_broker_that_cannot_be_used_is_one_clear_line(address: str, change: Any, said: str) -> None:
    """Which names the broker, and never the password."""
    with pytest.raises(QueueUnavailable) as raised:
        await RabbitQueue(settings_for(change(address))).start()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert Broker.password not in str(raised.value)


async def test_the_next_address_is_tried(address: str) -> None:
    """Several addresses, with commas."""
    async with opened(f"amqp://guest:x@127.0.0.1:1,{address}") as desk:
        await desk.publish(b"m")


async def test_missing_queues_are_said_at_start_where_none_are_declared(address: str) -> None:
    """rabbitmq-declare: false."""
    with pytest.raises(QueueUnavailable, match=r"'outbox'.*rabbitmq-declare is off"):
        await RabbitQueue(settings_for(address, rabbitmq_declare="false")).start()
