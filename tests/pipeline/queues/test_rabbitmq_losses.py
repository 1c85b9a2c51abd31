"""Connections that are lost, crashes of the broker, closing: what is sent again, and what is not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.queues.contract import Park, QueueUnavailable, Retry, Settlement
from pipeline.queues.rabbitmq.amqp.broker import Broker as Keeper
from pipeline.queues.rabbitmq.amqp.link import Link
from pipeline.queues.rabbitmq.amqp.mail import following
from pipeline.queues.rabbitmq.delays import STEPS
from pipeline.queues.rabbitmq.names import QueueNames
from tests.pipeline.queues.desk import Desk, until
from tests.pipeline.queues.rabbit import LANE, channel, mark, opened, post, rabbit
from tests.support.broker import Broker, settings_for


async def test_closing_ends_though_a_failing_connection_takes_the_cancellation_for_itself(address: str) -> None:
    """aiormq raises what ended the connection where it was cancelled in the same moment; closing once hung on it."""
    asked, gone_on = 0, 0

    async def look(_: Link) -> None:
        nonlocal asked, gone_on
        asked += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if gone_on < 2:
                gone_on += 1
                raise ConnectionResetError("cut") from None
            raise

    async def prepare(_: Link) -> None: ...

    keeper = Keeper(
        settings_for(address), prepare, lambda _: None, lambda *_: None, look, lambda: True, lambda *_: None, 10
    )
    await keeper.start()
    await until(lambda: asked > 0)
    async with asyncio.timeout(20):
        await keeper.stop()
    assert gone_on == 1
    await keeper.close()


async def test_a_lost_connection_loses_and_doubles_nothing(address: str, node: Broker) -> None:
    """What is lent goes on, its settlement waits for the next connection, and it is not lent twice."""
    async with opened(address) as desk:
        queue = rabbit(desk)
        await desk.publish(*[b"%d" % n for n in range(20)])
        desk.consume(10)
        leases = await desk.next(10)
        assert queue.broker.link is not None
        queue.broker.link.end("cut")
        with pytest.raises(QueueUnavailable, match="cut"):
            await desk.publish(b"refused")
        await asyncio.gather(*(desk.settle(lease, Settlement(publish=[("results", b"r")])) for lease in leases))
        rest = await desk.next(10)
        assert sorted(int(lease.body) for lease in rest) == list(range(10, 20))
        assert (await desk.queue.figures()).other == {"results": 10}


async def test_equal_messages_are_two_though_both_are_flagged(address: str, node: Broker) -> None:
    """Without a message-id nothing tells one that was settled before the loss from one that nobody was sent."""
    async with opened(address) as desk:
        for _ in range(12):
            post(node, address, "same")
        await mark(address, 12)
        desk.consume(4)
        for lease in await desk.next(4):
            await desk.settle(lease)
        link = rabbit(desk).broker.link
        assert link is not None
        link.end("cut")
        for _ in range(8):
            [lease] = await desk.next()
            await desk.settle(lease)
        assert (await desk.queue.figures()).ready == 0


async def test_what_was_settled_before_a_crash_is_not_sent_again(address: str, node: Broker, tmp_path: Path) -> None:
    """By its message-id, where the broker has lost the acknowledgement: though our process is another one."""
    async with opened(address, folder=tmp_path) as desk:
        desk.consume()
        post(node, address, "m", message_id="1")
        [lease] = await desk.next()
        await desk.settle(lease)
    async with opened(address, folder=tmp_path):
        pass  # once more without a consumer: nothing is forgotten
    for id, body in (("1", "m"), ("1", "another"), ("2", "m")):
        post(node, address, body, message_id=id)
    await mark(address, 3)
    async with opened(address, folder=tmp_path) as desk:
        desk.consume()
        assert [lease.body for lease in await desk.next(2)] == [b"another", b"m"]
        await desk.nothing_more()
        post(node, address, "m", message_id="1")
        assert [lease.body for lease in await desk.next()] == [b"m"]


async def test_parked_ones_that_were_settled_are_not_called_in_for_others(address: str, tmp_path: Path) -> None:
    """After a crash thousands of them may stand before those that are wanted."""
    async with opened(address, folder=tmp_path) as desk, channel(address) as other:
        desk.consume()
        name = rabbit(desk).names.parked(LANE)
        await desk.publish(*[b"%d" % number for number in range(30)])
        for lease in await desk.next(30):
            await desk.settle(lease, Settlement(then=Park(LANE)))
        parked = [await other.basic_get(name) for _ in range(30)]
        await other.basic_nack(parked[-1].delivery_tag, multiple=True, requeue=True)
        desk.queue.recall(LANE, 30)
        for lease in await desk.next(30):
            if int(lease.body) < 20:
                await desk.settle(lease)
    async with channel(address) as other:
        await other.queue_purge(name)
        for message in parked:
            await other.basic_publish(message.body, routing_key=name, properties=message.header.properties)
    await mark(address, 30, name)
    async with opened(address, folder=tmp_path) as desk:
        desk.consume()
        desk.queue.recall(LANE, 10)
        assert sorted(int(lease.body) for lease in await desk.next(10)) == list(range(20, 30))
        assert dict(desk.queue.parked()) == {}


async def test_a_retry_that_was_not_put_off_is_tried_again(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled while its message was away for long, and somebody else's for all we knew: then it comes after all."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.settling.GRACE", 0.1)
    async with opened(address) as desk:
        queue = rabbit(desk)
        desk.consume(1)
        await desk.publish(b"m")
        [lease] = await desk.next()
        queue.cease()
        assert queue.broker.link is not None
        queue.broker.link.end("cut")
        await desk.settle(lease, Settlement(then=Retry(b"later", time.time() + 100)))
        assert queue.broker.link is not None
        queue.broker.link.end("cut again")
        desk.consume(1)
        assert [lease.body for lease in await desk.next()] == [b"m"]


async def confirmation_lost(desk: Desk, then: Park | Retry) -> None:
    """A message is settled so, and the link is cut before the broker is trusted with what follows: it is done again."""
    desk.consume()
    await desk.publish(b"m")
    [lease] = await desk.next()
    queue = rabbit(desk)
    said: list[Exception | None] = []
    queue.settle(lease, Settlement(then=then), said.append)
    await until(lambda: queue.sender.published == 2)
    assert said == []
    assert queue.broker.link is not None
    queue.broker.link.end("cut")
    await until(lambda: said == [None])


async def test_a_queue_that_was_just_declared_is_not_trusted(address: str) -> None:
    """Killed in that moment, RabbitMQ has a new quorum queue without what it confirmed: so the original stays lent."""
    async with opened(address) as desk:
        await confirmation_lost(desk, Retry(b"later", time.time() + 100))
        assert rabbit(desk).sender.published == 3


@pytest.mark.parametrize("parks", [False, True], ids=["put off", "parked"])
async def test_a_retry_whose_confirmation_was_lost_comes_once(address: str, parks: bool) -> None:
    """The broker has taken it, and takes it again over the next connection: with the same id, the two are one."""
    async with opened(address) as desk:
        await confirmation_lost(desk, Park(LANE) if parks else Retry(b"later", time.time() + 1.5))
        assert rabbit(desk).sender.published >= 3
        desk.queue.recall(LANE, 2 if parks else 0)
        [lease] = await desk.next()
        assert lease.body == (b"m" if parks else b"later")
        await desk.nothing_more()
        await desk.settle(lease)
        await desk.nothing_more()
        assert ((await desk.queue.figures()).ready, dict(desk.queue.parked())) == (0, {})


def test_each_round_of_a_delay_has_an_id_that_follows_from_the_last() -> None:
    """So it is the same where a round is published again, and another one than that of the round before."""
    assert [following(id) for id in ("t-1", "t-1~1", "t-1~9", "~3", "x~y")] == [
        "t-1~1",
        "t-1~2",
        "t-1~10",
        "~3~1",
        "x~y~1",
    ]
    assert [following(id) for id in (None, "", "x" * 250)] == ["", "", ""]


async def test_a_delay_that_a_crash_left_without_a_leader_is_gone_around(limited: Broker) -> None:
    """RabbitMQ 3.10 leaves the one declared last so, and each publication to it holds up all others for 30 s."""
    address = limited.fresh()
    names = QueueNames(settings_for(address))
    names.confirms_expiry = True
    dead = names.delay(STEPS[2])
    async with channel(address) as other:
        await other.queue_declare(dead, durable=True, arguments=names.arguments(dead))
        limited.kill()
    limited.start()
    async with opened(address) as desk:
        desk.consume()
        await desk.publish(b"m", delay=STEPS[2] / 1000)
        assert [lease.body for lease in await desk.next()] == [b"m"]


async def test_a_question_ends_with_its_link(address: str) -> None:
    """One that gets no answer any more, and those that wait for their turn behind it: all are told of the loss."""
    async with opened(address) as desk:
        link = rabbit(desk).broker.link
        assert link is not None
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = [asyncio.ensure_future(link.ask(lambda _: never)), asyncio.ensure_future(link.count("outbox"))]
        await until(lambda: link._asking.locked())
        link.end("cut")
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError]


async def test_a_loss_that_aiormq_gives_no_name_is_one(address: str) -> None:
    """It ends what waits with `Exception()` then, which nobody else expects."""

    async def nameless(_: object) -> None:
        raise Exception

    async with opened(address) as desk:
        link = rabbit(desk).broker.link
        assert link is not None
        with pytest.raises(ConnectionError):
            await link.ask(nameless)


async def test_a_link_that_has_ended_leaves_nothing_running(address: str) -> None:
    """What waited for ever would keep its locks and its counts: nobody could declare, or fetch what is parked."""
    async with opened(address) as desk:
        link = rabbit(desk).broker.link
        assert link is not None
        ended = asyncio.Event()

        async def wait() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

        link.run(wait())
        await asyncio.sleep(0)
        link.end("cut")
        await asyncio.wait_for(ended.wait(), 20)


@dataclass
class Told:
    """What a link tells of its broker, in seconds."""

    waits: float
    silent: float
    unanswered: float = 0.0
    why: str = ""

    def end(self, why: str) -> None:
        self.why = why


@pytest.mark.parametrize(
    ("waits", "silent", "why"),
    [
        (9, 9, ""),
        (11, 11, "has confirmed nothing for 10 seconds"),
        (11, 4, ""),
        (59, 4, ""),
        (61, 4, "has confirmed nothing for 60 seconds"),
    ],
)
async def test_a_busy_broker_gets_longer_than_a_silent_one(waits: float, silent: float, why: str) -> None:
    """Its heartbeats show that it lives: to end the link would have it send all again, and some mail come twice."""

    async def nothing(_: Link) -> None: ...

    settings = settings_for("amqp://localhost")
    keeper = Keeper(settings, nothing, lambda _: None, lambda *_: None, nothing, lambda: True, lambda *_: None, 10)
    told = Told(waits, silent)
    assert keeper._stalls(told) is bool(why)  # type: ignore[arg-type]
    assert told.why == why


@pytest.mark.parametrize("then", ["ends", "is put off again", "comes later"])
async def test_what_was_put_off_by_a_process_that_was_killed_comes_once(address: str, then: str) -> None:
    """Its retry was published, and it was not acknowledged: it comes again, and the two are known by their ids."""
    async with opened(address) as dying:
        await dying.publish(b"m")
        dying.consume(5)
        [lease] = await dying.next()
        [loan] = rabbit(dying).loans
        assert loan.ledger is not None
        loan.ledger.held = True  # so no acknowledgement leaves
        await dying.settle(lease, Settlement(then=Retry(b"retried", time.time() + 1.5)))
        if then == "comes later":
            await asyncio.sleep(2.5)
    async with opened(address) as desk:  # without the notes of the one before
        desk.consume(5)
        first = await desk.next()
        again = Retry(b"retried again", time.time() + 1.5) if then == "is put off again" else None
        await desk.settle(first[0], Settlement(then=again))
        if again is not None:
            [second] = await desk.next()
            assert second.body in (b"retried", b"retried again")
            await desk.settle(second)
        await asyncio.sleep(2.5)
        assert desk.leases == []
        figures = await desk.queue.figures()
        assert (figures.ready, figures.waiting) == (0, 0)
