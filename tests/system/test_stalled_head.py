"""A domain that takes nothing has the head of RabbitMQ's outbox: what stands behind it leaves all the same.

The domain hangs (its server accepts connections and never answers), or is paused, or may have one message a minute.
`python -m tests.system.test_stalled_head` is the full size: the rate of those behind against the same messages alone,
in the same run, and Mailrace's resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import socket
import tempfile
import time
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, NamedTuple

import aiormq
import pytest
from pamqp import commands

from pipeline.demo.nameserver import NameServer
from tests.support.api import TOKEN, Api
from tests.support.broker import MISSING, installed, shared
from tests.support.loop import Loop
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.publisher import queue_message

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING), pytest.mark.timeout(200)]

HEALTHY, HANGS = "127.3.1.1", "127.3.1.2"
TROUBLES, OTHERS = ("hangs", "paused", "limited"), 10
BATCH, MB = 500, 2**20


class Seen(NamedTuple):
    """Messages a second of those behind from the first to the last, seconds until the first, resident bytes."""

    rate: float
    first: float
    before: int
    most: int


async def fill(address: str, troubles: Sequence[str], stalled: int, behind: int) -> None:
    """The outbox: so many to the domains that take nothing, and then so many to others; each in turn."""
    connection = await aiormq.connect(address)
    channel = await connection.channel()
    await channel.queue_declare("outbox", durable=True)

    def publication(number: int) -> Awaitable[object]:
        name = troubles[number % len(troubles)] if number < stalled else f"other{number % OTHERS}"
        body, persistent = queue_message(number, f"{name}.example"), commands.Basic.Properties(delivery_mode=2)
        return channel.basic_publish(body, routing_key="outbox", properties=persistent)

    for first in range(0, stalled + behind, BATCH):
        await asyncio.gather(*map(publication, range(first, min(first + BATCH, stalled + behind))))
    await connection.close()


@contextlib.contextmanager
def receivers() -> Iterator[tuple[Mailbox, str]]:
    """One that is well and one that hangs, on one port; and the address of the name server that knows them."""
    with Mailbox(HEALTHY) as mailbox, Loop() as loop, socket.create_server((HANGS, mailbox.port), backlog=1000):
        names = NameServer()
        loop.run(names.start())
        for trouble in TROUBLES:
            names.add(f"{trouble}.example", "A", HANGS if trouble == "hangs" else HEALTHY)
        for number in range(OTHERS):
            names.add(f"other{number}.example", "A", HEALTHY)
        yield mailbox, f"{names.address}:{names.port}"


def run(
    folder: pathlib.Path, troubles: Sequence[str], stalled: int, behind: int, patience: float, qos: int = 1000
) -> Seen:
    """Fill the outbox, and wait until all of those behind have arrived."""
    broker_address = shared().fresh()
    with receivers() as (mailbox, server):
        options: dict[str, Any] = {"rabbitmq_address": broker_address, "rabbitmq_qos": qos, "dns_server": server}
        program = Program(folder, delivery_port=mailbox.port, api_token=TOKEN, **options)
        with program:  # the rules are there before the mail is
            Api(program).create("pauses", domain="paused.example")
            Api(program).create("throttles", domain="limited.example", domain_messages=1)
            assert program.stop() == 0
        asyncio.run(fill(broker_address, troubles, stalled, behind))
        with program:
            begin, before, most = time.monotonic(), program.resident(), 0
            while sum(int(number) >= stalled for number in list(mailbox.accepted)) < behind:
                assert time.monotonic() < begin + patience, f"{mailbox.total} of {behind} arrived"
                most = max(most, program.resident())
                time.sleep(0.05)
        moments = mailbox.moments[-behind:]
        assert mailbox.total <= behind + 1 + (moments[-1] - begin) / 60  # of the limited domain, one a minute
        return Seen((behind - 1) / (moments[-1] - moments[0]), moments[0] - begin, before, most)


def test_the_mail_behind_domains_that_take_nothing_arrives(tmp_path: pathlib.Path) -> None:
    """Though they have the head of the outbox, and many times the credit; and nobody gets anything twice."""
    run(tmp_path, TROUBLES, stalled=1000, behind=100, patience=100, qos=50)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stalled", type=int, default=100_000)
    parser.add_argument("--behind", type=int, default=1000)
    asked = parser.parse_args()
    for trouble in ("", *TROUBLES):
        with tempfile.TemporaryDirectory() as name:
            seen = run(pathlib.Path(name), [trouble], asked.stalled if trouble else 0, asked.behind, 900)
        print(
            f"behind {asked.stalled:,} ({trouble})" if trouble else "alone",
            f"{seen.rate:.0f}/s, the first after {seen.first:.1f} s",
            f"memory {seen.before / MB:.0f} MB at the start, {seen.most / MB:.0f} MB at most",
            sep=": ",
            flush=True,
        )
