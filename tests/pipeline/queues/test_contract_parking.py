"""What every queue must do with parked messages."""

from __future__ import annotations

import asyncio

from pipeline.queues.contract import Park, Settlement
from tests.pipeline.queues.desk import LANE, Desk, bodies, park


async def test_parked_messages_come_by_recall_oldest_first(desk: Desk) -> None:
    """As many as asked for; the others stay."""
    desk.consume()
    await park(desk, *bodies(10))
    await desk.nothing_more()
    assert dict(desk.queue.parked()) == {LANE: 10}
    desk.queue.recall(LANE, 4)
    leases = await desk.next(4)
    assert [lease.body for lease in leases] == bodies(4)
    assert {lease.recalled for lease in leases} == {LANE}
    assert dict(desk.queue.parked()) == {LANE: 6}
    await desk.nothing_more()


async def test_recalls_add_up(desk: Desk) -> None:
    """Two calls for two are a call for four."""
    desk.consume()
    await park(desk, *bodies(5))
    desk.queue.recall(LANE, 2)
    desk.queue.recall(LANE, 2)
    assert [lease.body for lease in await desk.next(4)] == bodies(4)
    await desk.nothing_more()


async def test_a_recalled_message_that_is_parked_again_keeps_its_place(desk: Desk) -> None:
    """Otherwise the oldest would wait longest."""
    desk.consume()
    await park(desk, *bodies(4))
    desk.queue.recall(LANE, 2)
    for lease in reversed(await desk.next(2)):
        await desk.settle(lease, Settlement(then=Park(LANE)))
    desk.queue.recall(LANE, 4)
    assert [lease.body for lease in await desk.next(4)] == bodies(4)


async def test_a_recall_of_more_than_there_is_lapses(desk: Desk) -> None:
    """It does not call in what is parked later."""
    desk.consume()
    await park(desk, *bodies(1))
    desk.queue.recall(LANE, 10)
    desk.queue.recall("127.0.0.1/nobody.example", 10)
    await desk.next()
    await desk.publish(*bodies(1, 5))
    [lease] = await desk.next()
    await desk.settle(lease, Settlement(then=Park(LANE)))
    await desk.nothing_more()
    assert dict(desk.queue.parked()) == {LANE: 1}


async def test_recalled_messages_keep_to_the_credit(desk: Desk) -> None:
    """And come as it returns."""
    desk.consume(10)
    await park(desk, *bodies(10))
    desk.queue.recall(LANE, 10)
    await desk.lent(10)
    assert desk.queue.free == 0
    for lease in desk.leases[:10]:
        await desk.settle(lease, Settlement(then=Park(LANE)))
    desk.leases.clear()
    await desk.publish(*bodies(8, 100))
    await desk.lent(8)
    desk.queue.recall(LANE, 5)
    await desk.lent(10)
    await desk.nothing_more()
    for lease in desk.leases[:3]:
        await desk.settle(lease)
    await desk.lent(13)
    assert [lease.body for lease in desk.leases if lease.recalled] == bodies(5)


async def test_recalls_and_fresh_messages_share_the_credit(desk: Desk) -> None:
    """Neither backlog starves the other: of the next lent, about half are each."""
    desk.consume(20)
    for start in range(0, 60, 20):
        await park(desk, *bodies(20, start))
    await desk.publish(*bodies(200, 1000))
    desk.queue.recall(LANE, 60)
    for n in range(80):
        await desk.lent(n + 1)
        await desk.settle(desk.leases[n])
    recalled = sum(lease.recalled is not None for lease in desk.leases[20:80])
    assert 15 <= recalled <= 45


async def test_lanes_share_their_half(desk: Desk) -> None:
    """One lane with much does not hold up one with little."""
    desk.consume(10)
    for start in range(0, 50, 10):
        await park(desk, *bodies(10, start), lane="big")
    await park(desk, *bodies(3, 100), lane="small")
    desk.queue.recall("big", 50)
    desk.queue.recall("small", 3)
    for n in range(20):
        await desk.lent(n + 1)
        await desk.settle(desk.leases[n])
    assert sum(lease.recalled == "small" for lease in desk.leases) == 3


async def test_parked_messages_come_when_they_expire(desk: Desk) -> None:
    """Without a recall, so that they can be given up in time."""
    desk.consume()
    await park(desk, b"mortal", expires=desk.now + 100)
    await park(desk, b"eternal")
    await desk.nothing_more()
    desk.pass_time(101)
    [lease] = await desk.next()
    assert (lease.body, lease.recalled) == (b"mortal", LANE)
    await desk.nothing_more()
    await desk.settle(lease)
    assert dict(desk.queue.parked()) == {LANE: 1}


async def test_an_expired_message_that_is_recalled_too_is_lent_once(desk: Desk) -> None:
    """Both ways lead to the same message."""
    desk.consume(1)
    await park(desk, b"m", expires=desk.now + 10)
    await desk.publish(b"blocks")
    [blocks] = await desk.next()
    desk.queue.recall(LANE, 1)
    desk.pass_time(20)
    await asyncio.sleep(0.05)
    await desk.settle(blocks)
    [lease] = await desk.next()
    await desk.settle(lease)
    await desk.nothing_more()
    assert lease.body == b"m"
