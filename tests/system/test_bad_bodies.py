"""Bodies on the outbox that are no messages: refused with the reason, once, and nobody else is held up.

With bodies of 200 MB, and the default configuration: `python -m` this.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import json
import pathlib
import tempfile
import time
from typing import Any, NamedTuple

import aiormq
import pytest
from pamqp import commands

from pipeline.queues.rabbitmq.delays import STEPS
from tests.support.broker import MISSING, installed, shared
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.publisher import depth, drain, queue_message

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING)]

MAXSIZE = 1_000_000  # smtp-maxsize in the test; a body is JSON, and may be twice as large and 16 MB
LARGE, MANY = 20_000_000, 8  # bytes of a large body; how many of them come
PATIENCE = 30.0
PACKED = gzip.compress(bytes(20_000_000))  # 20 kB
DEEP = b'{"recipient": "a@b.example", "own": ' + b"[" * 900 + b"]" * 900 + b"}"


class Bad(NamedTuple):
    """A body, its content-encoding, and how the reason begins."""

    body: bytes
    reason: str
    encoding: str | None = None


BAD = {
    "empty": Bad(b"", "body: not JSON"),
    "text": Bad(b"hello", "body: not JSON"),
    "cut off": Bad(b'{"recipient": "a@b.example"', "body: not JSON"),
    "no UTF-8": Bad(b'{"recipient": "\xff\xfe"}', "body: not JSON"),
    "list": Bad(b'["a@b.example"]', "body: not a JSON object but list"),
    "nested, but it can be read": Bad(DEEP, "body: nested more than 100 levels deep"),
    "nested deeper": Bad(b"[" * 100_000, "body: not JSON: maximum recursion depth exceeded"),
    "no gzip": Bad(b"\x1f\x8bhello", "body: not JSON", "gzip"),
    "bomb": Bad(PACKED * 50, "body of 20000000 bytes: at most 18000000 are taken", "gzip"),
    "bomb that lies": Bad((PACKED * 50)[:-4] + bytes(4), "body of 18000001 bytes: at most 18000000 are taken", "gzip"),
}


class Seen(NamedTuple):
    """What was refused, (error, body) each; numbers delivered; what is left; bytes of memory before, at most, after."""

    refused: list[dict[str, Any]]
    delivered: dict[str, int]
    left: int
    memory: tuple[int, int, int]


async def publish(address: str, bad: list[Bad]) -> None:
    """Publish them, persistent, with a good message after each: its number is its place from 0."""
    connection = await aiormq.connect(f"{address}?heartbeat=0")
    channel = await connection.channel()
    await channel.queue_declare("outbox", durable=True)
    for number, one in enumerate(bad):
        for body, encoding in ((one.body, one.encoding), (queue_message(number), None)):
            properties = commands.Basic.Properties(delivery_mode=2, content_encoding=encoding)
            await channel.basic_publish(body, routing_key="outbox", properties=properties)
    await connection.close()


def most_resident(program: Program) -> int:
    """The most resident memory since `forget_most`, bytes."""
    assert program.process is not None
    status = pathlib.Path(f"/proc/{program.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_most(program: Program) -> None:
    assert program.process is not None
    pathlib.Path(f"/proc/{program.process.pid}/clear_refs").write_text("5")


def go_through(folder: pathlib.Path, bad: list[Bad], **options: object) -> Seen:
    """Let the program have them, until all of them are refused and all good ones delivered, or PATIENCE is over."""
    address = shared().fresh()
    with (
        Mailbox() as mailbox,
        Program(folder, rabbitmq_address=address, delivery_sink=f"127.0.0.1:{mailbox.port}", **options) as program,
    ):
        before = program.resident()
        forget_most(program)
        asyncio.run(publish(address, bad))
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = asyncio.run(depth(address, "failure", "outbox"))
            if found["failure"] >= len(bad) and len(mailbox.accepted) >= len(bad) and not found["outbox"]:
                break
            time.sleep(0.1)
        most, after = most_resident(program), program.resident()
        for _ in range(50):  # what it has freed goes back little by little
            time.sleep(0.1)
            after = min(after, program.resident())
        memory = (before, most, after)
        assert "queue-lost" not in program.output
        assert program.stop() == 0, program.output[-3000:]
        delays = [f"outbox.delay.{ttl}" for ttl in STEPS]
        left = sum(asyncio.run(depth(address, "outbox", *delays)).values())
        refused = [json.loads(body) for body in asyncio.run(drain(address, "failure"))]
    return Seen(refused, dict(mailbox.accepted), left, memory)


def tells_of(refused: dict[str, Any], bad: Bad) -> bool:
    """With the reason, and as much of the body as is quoted."""
    quoted = base64.b64decode(refused["body"])
    whole = quoted == bad.body[: len(quoted)] if bad.reason.startswith("body: ") else len(quoted) == 1_000_000
    return bool(refused["error"].startswith(bad.reason)) and whole


def test_bodies_that_are_no_messages_are_refused_once(tmp_path: pathlib.Path) -> None:
    """To the failure queue, as no refused queue is set, with the reason and the body; others are delivered.

    Large ones and bombs, one after another, take the memory of one of them, and little of it stays.
    """
    large = Bad(b'{"recipient": "a@b.example", "mime": "' + b"x" * LARGE + b'"}', "body of 20000040 bytes: at most")
    bad = [*BAD.values(), *[large] * MANY]
    seen = go_through(tmp_path, bad, smtp_maxsize=MAXSIZE)
    assert seen.delivered == {str(number): 1 for number in range(len(bad))}
    assert seen.left == 0
    assert len(seen.refused) == len(bad)
    for one in bad:  # not in their order: a size that the broker never took yet goes over a channel of its own
        seen.refused.remove(next(refused for refused in seen.refused if tells_of(refused, one)))
    before, most, after = seen.memory
    assert most - before < MANY / 2 * LARGE, (
        f"{(most - before) // 10**6} MB more for {MANY} bodies of {LARGE // 10**6} MB"
    )
    assert after - before < 2 * LARGE


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=200_000_000, help="bytes of a body")
    parser.add_argument("--many", type=int, default=6)
    asked = parser.parse_args()
    huge = Bad(b'{"recipient": "a@b.example", "mime": "' + b"x" * asked.size + b'"}', "")
    for name, body in (
        ("large", huge),
        ("bomb of 1 GB in 1 MB", BAD["bomb"]),
        ("bomb that lies", BAD["bomb that lies"]),
    ):
        with tempfile.TemporaryDirectory() as place:
            begin = time.monotonic()
            came = go_through(pathlib.Path(place), [body] * asked.many)
            megabytes = [number // 10**6 for number in came.memory]
            print(f"{asked.many} x {name}: {len(came.refused)} refused, {len(came.delivered)} others delivered")
            print(f"  left on the outbox {came.left}; resident MB before, most, after {megabytes}")
            print(f"  {time.monotonic() - begin:.1f} s in all; {came.refused[0]['error'] if came.refused else ''}")
