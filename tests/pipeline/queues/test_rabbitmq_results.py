"""Where results go: queues that may be written and nothing else, full ones, missing ones, and brokers with a limit."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.queues.contract import Settlement, TooLarge
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
