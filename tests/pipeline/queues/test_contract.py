"""What every queue must do, whoever keeps it: lend, settle, count. Runs against each implementation in `QUEUES`."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest

from operators.deliveries.delivery import Lease
from pipeline.queues.contract import Park, QueueFigures, Retry, Settlement
from tests.pipeline.queues.desk import LANE, Desk, bodies, park, until


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
    await desk.publish(b"whatever would be confirmed twice has been by now")
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
    await desk.queue.answers()
    figures = await desk.queue.figures()
    assert figures == QueueFigures(ready=3, waiting=2, unsettled=4, parked={LANE: 2}, other={"results": 3})
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
