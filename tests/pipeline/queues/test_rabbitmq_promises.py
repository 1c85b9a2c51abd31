"""Whoever publishes is answered, whatever becomes of the connection."""

from __future__ import annotations

import pytest

from pipeline.queues.contract import Park, Settlement
from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue
from tests.pipeline.queues.desk import Desk, until
from tests.support.broker import settings_for

LANES = 20


@pytest.mark.filterwarnings("ignore:coroutine")
async def test_a_connection_that_ends_while_queues_are_declared_leaves_no_message_lent(address: str) -> None:
    """Also where the declaring tasks never go on, as those that wait for a broker that is gone may not."""
    queue = RabbitQueue(settings_for(address), linger=0.1)
    await queue.start()
    desk = Desk(queue, None)
    desk.consume()
    await desk.publish(*[b"%d" % number for number in range(LANES)])
    answers: list[Exception | None] = []
    for lease in await desk.next(LANES):
        queue.settle(lease, Settlement(then=Park(f"lane{lease.body.decode()}")), answers.append)
    link = queue.broker.link
    assert link is not None
    declaring = list(link._tasks)
    link.end("the test ends it")
    for task in declaring:
        task.cancel()
    await until(lambda: len(answers) == LANES)
    assert answers == [None] * LANES
    assert sum(queue.parked().values()) == LANES
    await queue.close()
