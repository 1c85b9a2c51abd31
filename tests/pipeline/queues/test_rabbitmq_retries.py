"""Many messages with many retry delays over few queues, on a real broker. Full size: `python -m` this."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from typing import NamedTuple

import pytest

from operators.deliveries.delivery import Lease
from operators.deliveries.settlement import Retry, Settlement
from pipeline.queues.rabbitmq.delays import STEPS
from pipeline.queues.rabbitmq.names import QueueNames
from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue
from pipeline.queues.rabbitmq.settling import put_off
from tests.support.broker import Broker, settings_for

MOST_QUEUES = 32
BATCH, OUTSTANDING = 500, 500


class Seen(NamedTuple):
    """What became of the retries.

    Attributes:
        late: seconds that each came after its time, by its delay in seconds.
        queues: delay queues that the broker has.
        doubles: those that came more than once.
        steps: queues that a message was in, on average.
    """

    late: dict[float, list[float]]
    queues: int
    doubles: int
    steps: float


async def retry(broker: Broker, address: str, messages: int, delays: list[float]) -> Seen:
    """Have each message lent, put off by its delay, and lent again."""
    queue = RabbitQueue(settings_for(address))
    await queue.start()
    come, due, late, doubles = asyncio.Event(), dict[int, float](), defaultdict[float, list[float]](list), 0

    def confirmed(error: Exception | None) -> None:
        assert error is None

    def take(lease: Lease) -> None:
        nonlocal doubles
        number, now = int(lease.body), time.time()
        delay = delays[number % len(delays)]
        if number not in due:
            due[number] = now + delay
            queue.settle(lease, Settlement(then=Retry(lease.body, now + delay)), confirmed)
            return
        late[delay].append(now - due[number])
        queue.settle(lease, Settlement(), confirmed)
        doubles = sum(map(len, late.values())) - messages
        if doubles >= 0:
            come.set()

    queue.consume(OUTSTANDING).subscribe(take)
    for first in range(0, messages, BATCH):
        answer: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        bodies = [("outbox", b"%d" % number) for number in range(first, min(first + BATCH, messages))]
        queue.publish(bodies, answer.set_result)
        assert await answer is None
    async with asyncio.timeout(max(delays) * 1.1 + 60 + messages / 200):
        await come.wait()
    vhost = address.rpartition("/")[2]
    names = broker.control("list_queues", "-p", vhost.replace("%2F", "/"), "name").split()
    steps = queue.sender.published / messages - 1
    await queue.close()
    return Seen(late, sum(name.startswith("outbox.delay.") for name in names), doubles, steps)


def test_many_delays_share_few_queues_and_each_is_kept() -> None:
    """50,000 with 200 delays from a second to two days: in virtual time, where a queue's TTL is exact."""
    names, used, now = QueueNames(settings_for("amqp://localhost/")), set(), 1_800_000_000.0
    for number in range(50_000):
        delay = 172_800 ** (number % 200 / 199) * (1 + number / 10_000_000)  # with a little jitter
        mail, at = put_off(names, b"", now, now + delay, now), now
        while mail.queue != names.outbox:
            used.add(mail.queue)
            at += names.arguments(mail.queue)["x-message-ttl"] / 1000
            mail = put_off(names, b"", now, mail.due, at, mail.slack)
        assert 0 <= at - (now + delay) + 0.001 <= max(0.1 * delay, STEPS[0] / 1000)
    assert len(used) <= MOST_QUEUES


@pytest.mark.system
async def test_none_comes_early_and_none_twice_over_few_queues(node: Broker, address: str) -> None:
    """200 different delays on a real broker, which says itself what queues it has."""
    seen = await retry(node, address, 1000, [2 + number / 100 for number in range(200)])
    assert min(late for all_ in seen.late.values() for late in all_) > -0.05
    assert (seen.queues <= MOST_QUEUES, seen.doubles) == (True, 0)


@pytest.mark.system
async def test_a_clock_that_is_wrong_for_a_moment_keeps_nothing_back(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K14: what is due while it is an hour behind waits in short steps, until it is right or that hour is over."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.rabbitmq.BRIEF", 0.5)
    wrong, came = 0.0, asyncio.Event()
    queue = RabbitQueue(settings_for(address), clock=lambda: time.time() - wrong)
    await queue.start()
    queue.consume(10).subscribe(lambda lease: came.set())
    queue.publish([("outbox", b"{}")], lambda error: None, delay=1)
    await asyncio.sleep(0.7)
    wrong = 3600.0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(came.wait(), 1.5)
    wrong = 0.0
    await asyncio.wait_for(came.wait(), 20)
    await queue.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--delays", type=int, default=200)
    parser.add_argument("--shortest", type=float, default=30, help="seconds")
    parser.add_argument("--longest", type=float, default=230, help="seconds")
    asked = parser.parse_args()
    step = (asked.longest - asked.shortest) / (asked.delays - 1)
    with Broker() as running:
        delays = [asked.shortest + number * step for number in range(asked.delays)]
        seen = asyncio.run(retry(running, running.address, asked.messages, delays))
    parts = sorted(late / delay for delay, all_ in seen.late.items() for late in all_)
    shares = {f"{share:.0%}": f"{parts[int(share * (len(parts) - 1))]:.2%}" for share in (0, 0.01, 0.5, 0.9, 0.99, 1)}
    print(f"{len(parts):,} retries with {len(seen.late)} delays from {asked.shortest:g} to {asked.longest:g} s:")
    print(f"{seen.queues} delay queues, {seen.doubles} doubles, {seen.steps:.2f} steps each on average")
    print("late, as part of the delay, by share of the messages:", shares)
