"""What every queue must do with messages that wait for a time."""

from __future__ import annotations

from pipeline.queues.contract import Retry, Settlement
from tests.pipeline.queues.desk import Desk, bodies


async def test_a_retry_comes_with_its_new_body_and_not_before_its_time(desk: Desk) -> None:
    """It holds no credit while it waits."""
    await desk.publish(b"first")
    desk.consume(1)
    [lease] = await desk.next()
    await desk.settle(lease, Settlement(then=Retry(b"second", desk.now + 60)))
    assert desk.queue.free == 1
    desk.pass_time(59)
    await desk.nothing_more()
    desk.pass_time(2)
    [again] = await desk.next()
    assert (again.body, again.queued) == (b"second", lease.queued)


async def test_a_retry_whose_time_has_passed_comes_at_once(desk: Desk) -> None:
    """Also one that names no sensible time."""
    await desk.publish(*bodies(2))
    desk.consume()
    first, second = await desk.next(2)
    await desk.settle(first, Settlement(then=Retry(b"a", desk.now - 5)))
    await desk.settle(second, Settlement(then=Retry(b"b", -1.0)))
    assert {lease.body for lease in await desk.next(2)} == {b"a", b"b"}


async def test_retries_come_in_the_order_of_their_times(desk: Desk) -> None:
    """Whoever was put back first."""
    await desk.publish(*bodies(3))
    desk.consume()
    for lease, delay in zip(await desk.next(3), (30, 10, 20), strict=True):
        await desk.settle(lease, Settlement(then=Retry(b"%d" % delay, desk.now + delay)))
    desk.pass_time(60)
    assert [lease.body for lease in await desk.next(3)] == [b"10", b"20", b"30"]


async def test_a_delayed_publication_waits(desk: Desk) -> None:
    """`delay` holds for all of its messages."""
    desk.consume()
    await desk.publish(*bodies(2), delay=30)
    await desk.nothing_more()
    assert (await desk.queue.figures()).waiting == 2
    desk.pass_time(31)
    assert [lease.body for lease in await desk.next(2)] == bodies(2)
