"""Where results go: queues that may be written and nothing else, full ones, missing ones, and brokers with a limit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pipeline.queues.contract import QueueFull, QueueUnavailable, Settlement, TooLarge
from tests.pipeline.queues.desk import Desk, until
from tests.pipeline.queues.rabbit import channel, opened, rabbit
from tests.pipeline.queues.test_rabbitmq_refused import permit
from tests.support.broker import Broker


async def settled(desk: Desk, *copies: tuple[str, bytes]) -> None:
    """A message is lent, and settled with these copies."""
    await desk.publish(b"m")
    [lease] = await desk.next()
    await desk.settle(lease, Settlement(publish=copies))


async def test_results_go_into_a_queue_that_only_its_owner_may_read(address: str) -> None:
    """K14: exclusive reply queues, which the broker lets nobody else declare or look at."""
    async with opened(address) as desk, channel(address) as other:
        desk.consume()
        name = (await other.queue_declare("", exclusive=True)).queue
        own = (await other.queue_declare("mine", exclusive=True)).queue
        await settled(desk, (name, b"r1"), (own, b"r2"))
        assert name.startswith("amq.gen-")
        assert (await other.basic_get(name, no_ack=True)).body == b"r1"
        assert (await other.basic_get(own, no_ack=True)).body == b"r2"


async def test_results_go_into_queues_of_any_name(address: str, node: Broker) -> None:
    """K14: names that pamqp does not let one declare; also those that are not there yet."""
    vhost = address.rpartition("/")[2]
    async with opened(address, rabbitmq_results="Erg|bnis=ü") as desk:
        desk.consume()
        await settled(desk, ("Erg|bnis=ü", b"r"), ("a|b=c{d}", b"r"), ("Zurück", b"r"))
        assert (await desk.queue.figures()).other == {"Erg|bnis=ü": 1, "a|b=c{d}": 1, "Zurück": 1}
        assert await rabbit(desk).purge("Zurück") == 1
    assert {queue["name"] for queue in node.api("GET", f"queues/{vhost}")} >= {"Erg|bnis=ü", "a|b=c{d}", "Zurück"}


async def test_results_go_into_queues_that_we_may_not_declare(address: str, node: Broker) -> None:
    """K14: with the right to write alone; and with an exchange to which they are not bound."""
    for options in ({}, {"rabbitmq_exchange": "mail"}):
        async with channel(address) as other:
            await other.exchange_declare("mail", exchange_type="direct", durable=True)
            await other.queue_declare("theirs", arguments={"x-max-length": 100})
            await other.queue_declare("results", durable=True, arguments={"x-max-length": 100})
            narrow = permit(node, address, ".*", "outbox.*|inbox|success|failure|retry|mail")
            async with opened(narrow, **options) as desk:
                desk.consume()
                await settled(desk, ("theirs", b"r"), ("results", b"r"))
                for name in ("theirs", "results"):
                    assert (await other.basic_get(name, no_ack=True)).body == b"r"


async def test_a_missing_queue_that_we_may_not_declare_is_one_clear_line(address: str, node: Broker) -> None:
    """K14: said at start where it is configured."""
    narrow = permit(node, address, ".*", "outbox.*|success|failure|retry")
    with pytest.raises(Exception, match=r"^amqp[^\n]*'results'[^\n]*$"):
        async with opened(narrow):
            pass


@pytest.mark.parametrize("most", [20_000, 200_000])
async def test_what_is_too_large_for_the_broker_is_known_and_costs_nothing_else(limited: Broker, most: int) -> None:
    """K12: `TooLarge` the first time too, over a link that lives, and what comes beside it is taken.

    Where a broker takes less than 64 KiB, the first one costs a connection, and the next ones do not.
    """
    limited.control("eval", f"application:set_env(rabbit, max_message_size, {most}).")
    address = limited.fresh()
    async with opened(address) as desk:
        link = rabbit(desk).broker.link
        sizes = [most + 1, most, 10, most // 2, 2 * most, most - 1]
        found = await asyncio.gather(*(desk.publish(b"x" * size) for size in sizes), return_exceptions=True)
        if most > 65_536:
            assert rabbit(desk).broker.link is link
            assert [isinstance(one, TooLarge) for one in found] == [size > most for size in sizes]
        await until(lambda: rabbit(desk).broker.link is not None)
        with pytest.raises(TooLarge, match=f"{most:,}"):
            await desk.publish(b"x" * (most + 1))
        await desk.publish(b"x" * most)


def narrow(node: Broker, address: str, most: int, queue: str = "results") -> None:
    """Let a queue hold so many messages, and reject what comes then."""
    vhost = address.rpartition("/")[2]
    arguments = {"x-max-length": most, "x-overflow": "reject-publish"}
    node.api("PUT", f"queues/{vhost}/{queue}", {"durable": True, "arguments": arguments})


async def take(address: str, queue: str, wanted: int) -> list[bytes]:
    """Take so many off a queue, whenever they come."""
    found: list[bytes] = []
    async with channel(address) as other, asyncio.timeout(60):
        while len(found) < wanted:
            if (message := await other.basic_get(queue, no_ack=True)).delivery_tag is None:
                await asyncio.sleep(0.01)
            else:
                found.append(message.body)
    return found


async def test_an_outbox_that_takes_nothing_is_a_fault_until_it_takes_a_message_again(
    address: str, node: Broker, tmp_path: Path
) -> None:
    """K11: mail is refused meanwhile, so `/readyz` must not send more of it here."""
    narrow(node, address, 1, "outbox")
    async with opened(address, folder=tmp_path) as desk:
        await desk.publish(b"0")
        with pytest.raises(QueueUnavailable):
            await desk.publish(b"1")
        assert "for queue 'outbox' are not taken" in str(rabbit(desk).fault)
        assert not rabbit(desk).troubles
        desk.consume(5)
        [lease] = await desk.next()
        await desk.settle(lease, Settlement())
        await desk.publish(b"2")
        assert rabbit(desk).fault is None


async def test_mail_goes_on_though_its_results_are_not_taken(address: str, node: Broker, tmp_path: Path) -> None:
    """K11: each is acknowledged, its result is held, and comes when there is room; the fault stands till then."""
    narrow(node, address, 3)
    async with opened(address, folder=tmp_path) as desk:
        desk.consume(5)
        queue = rabbit(desk)
        await desk.publish(*[b"%d" % number for number in range(30)])
        for _ in range(30):
            [lease] = await desk.next()
            await desk.settle(lease, Settlement(publish=[("results", b"r" + lease.body), ("success", b"s")]))
        figures = await queue.figures()
        assert (figures.ready, figures.unsettled) == (0, 0)
        assert figures.other == {"results": 3, "success": 30, "results, held here": 27}
        [trouble] = queue.troubles
        assert trouble.startswith("27 results for queue 'results' are held here: ")
        assert queue.fault is None
        assert sorted(await take(address, "results", 30)) == sorted(b"r%d" % number for number in range(30))
        await until(lambda: not queue.troubles)


async def test_held_results_outlive_the_process(address: str, node: Broker, tmp_path: Path) -> None:
    """K11: and another process, which only looks, tells of them."""
    narrow(node, address, 1)
    async with opened(address, folder=tmp_path) as desk:
        desk.consume()
        for number in range(5):
            await settled(desk, ("results", b"%d" % number))
    async with opened(address, folder=tmp_path) as desk:
        assert (await desk.queue.figures()).other == {"results": 1, "results, held here": 4}
    async with opened(address, folder=tmp_path) as desk:
        desk.consume()
        assert sorted(await take(address, "results", 5)) == [b"%d" % number for number in range(5)]
        await until(lambda: not desk.queue.troubles)


async def test_mail_stops_where_too_many_results_are_held(
    address: str, node: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: no more is lent, which is said; what is lent is settled; it goes on by itself."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.held.MOST", 10)
    narrow(node, address, 1)
    async with opened(address, folder=tmp_path) as desk:
        desk.consume(4)
        queue = rabbit(desk)
        await desk.publish(*[b"%d" % number for number in range(60)])
        done = 0

        async def work() -> None:
            nonlocal done
            while done < 60:
                [lease] = await desk.next()
                await desk.settle(lease, Settlement(publish=[("results", lease.body)]))
                done += 1

        working = asyncio.ensure_future(work())
        await until(lambda: "no mail is sent" in (queue.fault or ""))
        assert len(await take(address, "results", 60)) == 60
        await working
        await until(lambda: queue.fault is None and not queue.troubles)


async def test_results_for_a_queue_that_is_gone_are_held(address: str, node: Broker, tmp_path: Path) -> None:
    """K11, K14: with rabbitmq-declare off, until somebody declares it again; a message's own queue is nobody's."""
    async with opened(address):
        pass
    async with opened(address, folder=tmp_path, rabbitmq_declare="false") as desk:
        desk.consume()
        node.api("DELETE", f"queues/{address.rpartition('/')[2]}/results")
        await settled(desk, ("results", b"r"), ("nowhere", b"n"))
        held, dropped = desk.queue.troubles
        assert held.startswith("1 results for queue 'results' are held here")
        assert dropped.startswith("1 results for queue 'nowhere' are dropped: ")
        narrow(node, address, 10)
        assert await take(address, "results", 1) == [b"r"]


async def test_a_result_that_is_too_large_for_the_broker_comes_smaller(limited: Broker, tmp_path: Path) -> None:
    """K12: without its MIME, then without headers; the last attempt is always in it."""
    limited.control("eval", "application:set_env(rabbit, max_message_size, 200000).")
    address = limited.fresh()
    async with opened(address, folder=tmp_path) as desk:
        desk.consume()
        result = {"recipient": "a@b", "mime": "x" * 300_000, "results": [{"code": 250}], "extracted": {"headers": {}}}
        await settled(desk, ("results", json.dumps(result).encode()))
        result["extracted"] = {"headers": {"x": ["y" * 300_000]}}
        await settled(desk, ("results", json.dumps(result).encode()))
        found = [json.loads(body) for body in await take(address, "results", 2)]
        assert [one["results"] for one in found] == [[{"code": 250}]] * 2
        assert [("mime" in one, one["extracted"]) for one in found] == [(False, {"headers": {}}), (False, {})]
        assert not desk.queue.troubles


async def test_a_queue_that_is_full_is_a_fault_for_who_publishes(address: str, node: Broker) -> None:
    """K11: intake answers 452, and it is said."""
    narrow(node, address, 1, "inbox")
    async with opened(address, rabbitmq_inbox="inbox") as desk:
        await desk.publish(b"1", queue="inbox")
        with pytest.raises(QueueFull, match="'inbox'"):
            await desk.publish(b"2", queue="inbox")
        assert "'inbox'" in desk.queue.troubles[0]


async def test_who_may_not_publish_is_told_at_start(address: str, node: Broker) -> None:
    """K11: before any mail moves, which could be delivered and not be settled."""
    narrow = permit(node, address, ".*", write="outbox.*")
    with pytest.raises(QueueUnavailable, match=r"^amqp[^\n]*may not|refused[^\n]*$"):
        async with opened(narrow):
            pass
