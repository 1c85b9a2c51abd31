"""What every queue must do, whoever keeps it. Runs against each implementation in conftest's `QUEUES`."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest

from operators.delivery import Lease
from pipeline.queues.contract import Figures, Park, Retry, Settlement
from tests.pipeline.queues.desk import Desk, until

LANE = "127.0.0.1/example.com"


def bodies(number: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(start, start + number)]


async def park(desk: Desk, *wanted: bytes, lane: str = LANE, expires: float | None = None) -> None:
    """Publish these, take them, and park them."""
    await desk.publish(*wanted)
    for lease in await desk.next(len(wanted)):
        await desk.settle(lease, Settlement(then=Park(lane, expires)))


async def test_what_is_published_is_lent_in_order(desk: Desk) -> None:
    """First in, first out, with its time of arrival."""
    desk.consume(100)
    for body in bodies(20):
        await desk.publish(body)
    leases = await desk.next(20)
    assert [lease.body for lease in leases] == bodies(20)
    assert all(lease.queued > 1_600_000_000 and lease.recalled is None and not lease.redelivered for lease in leases)


async def test_what_waited_before_the_consumer_came_is_lent_in_order(desk: Desk) -> None:
    """A backlog comes first, then what arrives meanwhile."""
    await desk.publish(*bodies(250))
    desk.consume(1000)
    await desk.publish(*bodies(250, 250))
    assert [lease.body for lease in await desk.next(500)] == bodies(500)


async def test_any_bytes_come_back_as_they_were(desk: Desk) -> None:
    """A body need not be JSON, nor text."""
    odd = [
        b"",
        b"\x00",
        b"\x00a\x00",
        b"\xff\xfe",
        os.urandom(5000),
        "ä\u2028€".encode(),
        b"'; DROP TABLE messages; --",
    ]
    await desk.publish(*odd)
    desk.consume()
    assert [lease.body for lease in await desk.next(len(odd))] == odd


@pytest.mark.parametrize("backlog", [True, False])
async def test_credit_is_never_exceeded(desk: Desk, backlog: bool) -> None:
    """At most `credit` messages are lent at once, whether they waited or just came."""
    if backlog:
        await desk.publish(*bodies(50))
    desk.consume(7)
    if not backlog:
        for body in bodies(50):
            await desk.publish(body)
    await desk.lent(7)
    await desk.nothing_more()
    assert desk.queue.free == 0


async def test_settling_gives_credit_back(desk: Desk) -> None:
    """One settled, one more lent, until all are done; none twice."""
    most = 0

    async def work() -> None:
        nonlocal most
        for n in range(40):
            await desk.lent(n + 1)
            most = max(most, len(desk.leases) - n)
            await desk.settle(desk.leases[n])

    await desk.publish(*bodies(40))
    desk.consume(5)
    await work()
    await desk.nothing_more()
    assert [lease.body for lease in desk.leases] == bodies(40)
    assert most <= 5
    assert desk.queue.free == 5


async def test_a_settled_message_does_not_come_back(desk: Desk) -> None:
    """Done is done, also for the next consumer."""
    await desk.publish(*bodies(3))
    desk.consume()
    for lease in await desk.next(3):
        await desk.settle(lease)
    assert desk.subscription is not None
    desk.subscription.dispose()
    desk.consume()
    await desk.nothing_more()


async def test_settling_publishes_copies(desk: Desk) -> None:
    """What replaces the message goes to other queues with the same settlement."""
    await desk.publish(*bodies(1))
    desk.consume()
    [lease] = await desk.next()
    await desk.settle(lease, Settlement(publish=[("results", b"r"), ("success", b"s"), ("outbox", b"again")]))
    assert [lease.body for lease in await desk.next()] == [b"again"]
    figures = await desk.queue.figures()
    assert figures.other == {"results": 1, "success": 1}


async def test_other_queues_are_not_lent(desk: Desk) -> None:
    """Only the outbox is read."""
    desk.consume()
    await desk.publish(b"x", queue="results")
    await desk.nothing_more()


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


async def test_what_is_given_back_is_lent_again_first(desk: Desk) -> None:
    """Unchanged, before what waits, and marked as lent before."""
    await desk.publish(*bodies(5))
    desk.consume(1)
    [lease] = await desk.next()
    await desk.settle(lease, Settlement(give_back=True))
    [again] = await desk.next()
    assert (again.body, again.redelivered) == (b'{"n":0}', True)
    await desk.settle(again)
    assert [lease.body for lease in await desk.next()] == [b'{"n":1}']


async def test_the_next_consumer_gets_what_the_last_one_left(desk: Desk) -> None:
    """What was not given out, and what was given back; what is still lent stays lent."""
    await desk.publish(*bodies(5))
    desk.consume(2)
    kept, returned = await desk.next(2)
    assert desk.subscription is not None
    desk.subscription.dispose()
    await desk.settle(returned, Settlement(give_back=True))
    await desk.nothing_more()
    desk.consume(10)
    assert [lease.body for lease in await desk.next(4)] == bodies(4, 1)
    await desk.settle(kept)
    await desk.nothing_more()


async def test_every_call_is_confirmed_exactly_once(desk: Desk) -> None:
    """Publishing and settling, whatever comes together."""
    confirmed: list[int] = []
    desk.consume(1000)
    for n in range(300):
        desk.queue.publish([("outbox", b"%d" % n)], lambda error, n=n: confirmed.append(n))
    leases = await desk.next(300)
    for n, lease in enumerate(leases):
        then = (None, Retry(b"r", 4e9), Park(LANE))[n % 3]
        desk.queue.settle(lease, Settlement(then=then), lambda error, n=n: confirmed.append(1000 + n))
    await until(lambda: len(confirmed) >= 600)
    await asyncio.sleep(0.05)
    assert sorted(confirmed) == [*range(300), *range(1000, 1300)]


async def test_settling_twice_is_an_error_of_the_second(desk: Desk) -> None:
    """A message is settled once."""
    await desk.publish(b"m")
    desk.consume()
    [lease] = await desk.next()
    first = asyncio.create_task(desk.settle(lease))
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="not lent"):
        await desk.settle(lease)
    await first


async def test_the_figures_tell_what_is_there(desk: Desk) -> None:
    """Ready, waiting, unsettled, parked by lane, and every other queue."""
    desk.consume(4)
    await park(desk, *bodies(2))
    await desk.publish(*bodies(2, 20), delay=50)
    await desk.publish(*bodies(7, 30))
    await desk.publish(*bodies(3), queue="results")
    await desk.lent(4)
    figures = await desk.queue.figures()
    assert figures == Figures(ready=3, waiting=2, unsettled=4, parked={LANE: 2}, other={"results": 3})
    desk.pass_time(60)
    figures = await desk.queue.figures()
    assert (figures.ready, figures.waiting) == (5, 0)


async def test_publishing_waits_for_no_consumer(desk: Desk) -> None:
    """Nobody has to read for a message to be safe."""
    await desk.publish(*bodies(10))
    assert (await desk.queue.figures()).ready == 10


async def test_a_backlog_does_not_hold_up_the_loop(desk: Desk) -> None:
    """Between two turns of the loop a hundred messages come at most."""
    await desk.publish(*bodies(1000))
    counts = [0]
    desk.consume(1000)
    while len(desk.leases) < 1000:
        await asyncio.sleep(0)
        counts.append(len(desk.leases))
    assert max(after - before for before, after in itertools.pairwise(counts)) <= 200


async def test_a_consumer_that_fails_on_one_message_gets_the_others(desk: Desk) -> None:
    """The failure is the loop's to report; the queue goes on."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context["exception"]))

    def work(lease: Lease) -> None:
        if lease.body == b'{"n":0}':
            raise RuntimeError("broken")

    desk.consume(10, work)
    await desk.publish(*bodies(3))
    assert [lease.body for lease in await desk.next(3)] == bodies(3)
    assert [str(failure) for failure in failures] == ["broken"]


async def test_what_is_given_back_overtakes_what_is_about_to_be_lent(desk: Desk) -> None:
    """Also what has been taken from the queue already, and waits for the loop's next turn."""
    await desk.publish(*bodies(400))

    def work(lease: Lease) -> None:
        if lease.body == b'{"n":0}' and not lease.redelivered:
            desk.queue.settle(lease, Settlement(give_back=True), lambda error: None)

    desk.consume(1000, work)
    leases = await desk.next(401)
    assert [lease.redelivered for lease in leases].index(True) < 300


async def test_the_order_holds_while_messages_come_and_credit_returns(desk: Desk) -> None:
    """Whether one is lent from memory or from the file, it is lent once, and in its turn."""
    number, most = 0, 2000

    def publish(error: Exception | None = None) -> None:
        nonlocal number
        if number < most:
            number += 1
            desk.queue.publish([("outbox", b"%d" % number)], publish)

    desk.consume(8, lambda lease: desk.queue.settle(lease, Settlement(), lambda error: None))
    for _ in range(20):
        publish()
    leases = await desk.next(most)
    await desk.nothing_more()
    assert [int(lease.body) for lease in leases] == list(range(1, most + 1))
