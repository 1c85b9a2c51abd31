"""RabbitMQ's outbox -> smtp-sink, results published and everything acknowledged: Mailrace against a bare script.

The peer is `bare`: aio-pika and aiosmtplib, on uvloop too, and nothing else. Both read 4 KB mails to one domain from a
private node, send over CONNECTIONS connections, publish one persistent result for each, confirmed, and acknowledge. In
turn, each round with empty queues and a new process. Two cases: "flowing", in which FLOWING messages are on their way
at once, so that the outbox stays short; and "backlog", an outbox that is full at the start, measured from the first
result to the last. What counts is the ratio. Needs Debian's postfix and rabbitmq-server.

    python -m tests.bench.broker [--messages 10000] [--rounds 5] [--only flowing,backlog]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import aiormq
import msgspec
import psutil
from pamqp import commands

from tests.bench.relay import Sink, processor_time
from tests.bench.table import Row, markdown
from tests.support.broker import Broker
from tests.support.program import ROOT, Program

CONNECTIONS, BODY, FLOWING, WARM = 20, 4096, 400, 1000
PATIENCE = 300.0
PERSISTENT = commands.Basic.Properties(delivery_mode=2, content_type="application/json")
MAIL = msgspec.json.encode(
    {
        "envelope": "from@sender.example",
        "recipient": "you@receiver.example",
        "mime": "Subject: hello\r\n\r\n" + ("x" * 76 + "\r\n") * (BODY // 78),
    }
)


class Figures(msgspec.Struct, frozen=True):
    """One round: messages a second, CPU seconds for 1,000 messages of the sender, and of the broker."""

    rate: float
    cpu: float
    broker: float


# -- who sends -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mailrace(folder: pathlib.Path, address: str, sink: int) -> Iterator[int]:
    """The whole program, with its delivery log and its console; only without a second result in `success`."""
    options = {"rabbitmq_address": address, "rabbitmq_success": "", "delivery_sink": f"127.0.0.1:{sink}"}
    with Program(folder, ip_maxconnections=CONNECTIONS, **options) as program:
        assert program.process is not None
        yield program.process.pid


@contextlib.contextmanager
def bare(folder: pathlib.Path, address: str, sink: int) -> Iterator[int]:
    """The script."""
    command = [sys.executable, "-m", "tests.bench.bare", address, str(sink), str(CONNECTIONS)]
    with (folder / "terminal").open("wb") as terminal:
        process = subprocess.Popen(command, cwd=ROOT, stdout=terminal, stderr=terminal)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


SENDERS: dict[str, Callable[[pathlib.Path, str, int], contextlib.AbstractContextManager[int]]] = {
    "mailrace": mailrace,
    "bare": bare,
}

# -- rounds ----------------------------------------------------------------------------------------------------


class Desk:
    """Fills the outbox, and counts the results."""

    def __init__(self, channel: aiormq.abc.AbstractChannel) -> None:
        self._channel, self._published = channel, 0

    async def empty(self) -> None:
        """Have both queues, with nothing in them."""
        for queue in ("outbox", "results"):
            await self._channel.queue_declare(queue, durable=True)
            await self._channel.queue_purge(queue)

    async def depth(self, queue: str = "results") -> int:
        """Messages that are ready in a queue."""
        return (await self._channel.queue_declare(queue, passive=True)).message_count or 0

    async def publish(self, count: int) -> None:
        """So many more, persistent and confirmed."""
        self._published += count
        publications = (
            self._channel.basic_publish(MAIL, routing_key="outbox", properties=PERSISTENT) for _ in range(count)
        )
        await asyncio.gather(*publications)

    async def until(self, results: int, flowing: int = 0) -> int:
        """Wait for so many results, with `flowing` messages on their way meanwhile; returns how many there are."""
        async with asyncio.timeout(PATIENCE):
            while (done := await self.depth()) < results:
                room = min(results, done + flowing) - self._published
                await (self.publish(room) if room > 0 else asyncio.sleep(0.005))
        return done


async def one_round(name: str, case: str, node: Broker, sink: Sink, messages: int) -> Figures:
    """Start the sender, and wait for the results."""
    connection = await aiormq.connect(node.address)
    desk = Desk(await connection.channel())
    await desk.empty()
    flowing, warm = (FLOWING, WARM) if case == "flowing" else (0, 1)
    if not flowing:
        for _ in range(0, messages, 500):
            await desk.publish(500)
    with (
        tempfile.TemporaryDirectory(prefix="broker-") as folder,
        SENDERS[name](pathlib.Path(folder), node.address, sink.port) as pid,
    ):
        sender, erlang = psutil.Process(pid), psutil.Process(int((node.folder / "pid").read_text()))
        base = await desk.until(warm, flowing)
        begin, cpu, broker = time.perf_counter(), processor_time(sender), processor_time(erlang)
        count = await desk.until(messages, flowing) - base
        took = time.perf_counter() - begin
        cpu, broker = processor_time(sender) - cpu, processor_time(erlang) - broker
        await asyncio.sleep(0.2)
    left = await desk.depth("outbox")  # with the sender gone, what it had not acknowledged is here again
    await connection.close()
    if left:
        sys.exit(f"{name}: {left} messages were not acknowledged")
    return Figures(count / took, cpu / count * 1000, broker / count * 1000)


def run(case: str, messages: int, rounds: int) -> dict[str, list[Figures]]:
    """All rounds of each; they take turns, and who is first changes."""
    found: dict[str, list[Figures]] = {name: [] for name in SENDERS}
    sink = Sink()
    try:
        with Broker() as node:
            for number in range(rounds):
                for name in sorted(SENDERS, reverse=bool(number % 2)):
                    found[name].append(asyncio.run(one_round(name, case, node, sink, messages)))
    finally:
        sink.process.terminate()
    return found


CASES = {"flowing": "flowing", "backlog": "from a full outbox"}


def rows(messages: int = 10_000, rounds: int = 5, cases: tuple[str, ...] = tuple(CASES)) -> list[Row]:
    """For the table: medians, and the median of the rounds' ratios."""
    table = []
    for case in cases:
        found = run(case, messages, rounds)
        ratio = statistics.median(one.rate / peer.rate for one, peer in zip(*found.values(), strict=True))
        what = f"RabbitMQ to smtp-sink, 4 KB, {CONNECTIONS} connections, results confirmed, {CASES[case]}"
        table.append(Row(f"{what}: Mailrace", _figure(found["mailrace"])))
        table.append(Row(f"{what}: a bare script", _figure(found["bare"]), f"Mailrace is {ratio:.2f} times as fast"))
    return table


def _figure(rounds: list[Figures]) -> str:
    rate, cpu, broker = (statistics.median(getattr(one, name) for one in rounds) for name in ("rate", "cpu", "broker"))
    return f"{rate:.0f}/s, {cpu:.2f} s CPU for 1,000, the broker {broker:.2f} s"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(CASES))
    asked = parser.parse_args()
    print(markdown(rows(asked.messages, asked.rounds, tuple(asked.only.split(",")))))
