"""A million mails of 2 KB in the queue: time to start, resident memory while mail to 10,000 domains flows.

python -m tests.bench.bounded [--messages 10000 --size 1000000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import tempfile
import time

import msgspec

from pipeline.queues.contract import Body, LargeBody, NewContent
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.segments import APART
from tests.bench.table import Row, markdown
from tests.support.mailbox import Mailbox
from tests.support.program import Program

DOMAINS, MB = 10_000, 2**20


def body(number: int, size: int = 2048) -> Body:
    """One queued message; a large one has its content apart, as intake hands it in."""
    head, text = f"Subject: {number}\r\nX-Number: {number}\r\n\r\n", ("x" * 76 + "\r\n") * (size // 78)
    large = size >= APART
    json = msgspec.json.encode(
        {
            "recipient": f"user@d{number % DOMAINS}.example",
            "envelope": "from@sender.example",
            "mime": head if large else head + text,
            "message-id": f"bench-{number}",
        }
    )
    return LargeBody(json, NewContent(text.encode(), len(text), True, dots=False)) if large else json


async def fill(path: pathlib.Path, messages: int, size: int = 2048, first: int = 0) -> None:
    """Queue so many messages, numbered from `first` on."""
    group = max(1, min(2000, 16 * MB // size))
    queue = EmbeddedQueue(path)
    await queue.start()
    loop = asyncio.get_running_loop()
    for begin in range(first, first + messages, group):
        confirmed: asyncio.Future[Exception | None] = loop.create_future()
        bodies = [("outbox", body(number, size)) for number in range(begin, min(begin + group, first + messages))]
        queue.publish(bodies, confirmed.set_result)
        if (error := await confirmed) is not None:
            raise error
    await queue.close()


def rows(messages: int = 1_000_000, seconds: float = 60.0, size: int = 2048) -> list[Row]:
    """For the table: time to start, and resident memory."""
    with tempfile.TemporaryDirectory() as name, Mailbox() as mailbox:
        folder = pathlib.Path(name)
        program = Program(folder, delivery_sink=f"127.0.0.1:{mailbox.port}", ip_maxconnections=0)
        (folder / "var").mkdir()
        asyncio.run(fill(folder / "var" / "queue.db", messages, size))
        begin = time.monotonic()
        with program:
            started, most = time.monotonic() - begin, 0
            while (elapsed := time.monotonic() - begin - started) < seconds and mailbox.total < messages:
                most = max(most, program.resident())
                time.sleep(0.2)
            sent = mailbox.total
        queued = f"{messages:,} mails of {size // 1000:,} KB queued"
        flowing = f"{queued}, flowing to {DOMAINS:,} domains"
        return [
            Row(f"start with {queued}", f"{started:.1f} s", f"{started / 5:.0%} of 5 s"),
            Row(
                f"resident memory, {flowing}",
                f"{most / MB:.0f} MB at {sent / elapsed:.0f}/s",
                f"{most / MB / 300:.0%} of 300 MB",
            ),
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", type=int, default=2048, help="octets of each")
    asked = parser.parse_args()
    print(markdown(rows(asked.messages, asked.seconds, asked.size)))
