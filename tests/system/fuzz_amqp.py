"""Odd AMQP deliveries, thousands of them, drawn from a seed: bodies, and properties that no client library sets.

    python -m tests.system.fuzz --only amqp

Each one that the broker takes must be accounted for: it has a result, is refused with its body, or waits for its time.
The program must not end, write no traceback, stay ready, and need no more memory; good mail among them is delivered.
`cases` draws the deliveries; `run` has a real broker, the real program and a receiver go through them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import pathlib
import random
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.queues.rabbitmq.delays import STEPS
from tests.support.amqp import FLAGS, Reconnecting, nested, properties, reconnecting, short, sized, table
from tests.support.broker import shared
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.publisher import depth, queue_message
from tests.system.progress import Progress

PATIENCE = 60.0  # seconds in which nothing changes
GOOD = 10  # each so manieth is a good message, without any properties
TIMES = (0, 1, -1, 2**31, 2**32, 1_700_000_000_000, 1_700_000_000_000_000, 2**63 - 1, -(2**63), 253402300800)
TEXTS = (
    b"",
    b"a",
    b"\xff",
    b"\xc3",
    "ü".encode("latin-1"),
    "ü€😀".encode(),
    b"\0",
    b"\r\nBcc: x",
    b"x" * 255,
    b"gzip",
    b"GZIP",
)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1e308, "", "x", "\ud800", "\0", "a@b\r\nRCPT TO:<x@y>", [], [None], {}, {"": None},
    {"time": "2020-01-01 00:00:00"}, {"time": "9999-99-99"}, ["127.0.0.1"], ["x"], "2020-01-01 00:00:00", "ü" * 300,
    {"from": "a@b.example", "to": "c@d.example", "subject": "ü", "text": "t"},
    {"domain": "d", "selector": "s", "key": "k"},
    [{"state": "x"}] * 200, "x" * 100_000, {"hostname": "127.0.0.1", "port": 1},
)  # fmt: skip
NAMES = (
    "recipient", "envelope", "mime", "mime-encoding", "message-id", "received", "keepmime", "data", "ips", "pool",
    "nextattempt", "maxdelivertime", "maxattempts", "retries", "dkim", "dsn", "smarthost", "tags", "headers",
    "priority", "security", "results", "own",
)  # fmt: skip


class Case(NamedTuple):
    """A delivery: the properties as they stand on the wire, the body, the size that the header claims.

    `good`: the number of a message that is to be delivered.
    """

    header: bytes
    body: bytes
    size: int | None = None
    good: str = ""


class Tally(NamedTuple):
    """What became of them.

    Attributes:
        taken: that the broker took.
        good: of those, good ones without any property.
        delivered: of the good ones, delivered.
        found: results, refused ones and those that wait.
        tracebacks: in the program's log.
        memory: resident bytes after a fifth, and in the end.
        ready: what /readyz said in the end.
    """

    taken: int
    good: int
    delivered: int
    found: dict[str, int]
    tracebacks: int
    memory: tuple[int, int]
    ready: str


def cases(count: int, seed: int) -> Iterator[Case]:
    """So many deliveries; the same ones for the same seed."""
    chance = random.Random(seed)
    for number in range(count):
        if number % GOOD == 0:
            yield Case(b"\0\0", queue_message(number, size=200), good=str(number))
            continue
        body = _body(chance, number)
        size = chance.choice((1, 2**31, 2**64 - 1)) if chance.random() < 0.01 else None
        yield Case(drawn_header(chance), body, size)


def drawn_header(chance: random.Random) -> bytes:
    """All of the properties, some, bytes that are none, or more flags than there are."""
    kind = chance.random()
    if kind < 0.05:
        return chance.randbytes(chance.randrange(2, 300))
    names = [name.replace("-", "_") for name in FLAGS if chance.random() < 0.4]
    header = properties(**{name: _property(chance, name) for name in names})
    if kind < 0.10:
        return header[: chance.randrange(2, len(header) + 1)]
    return bytes([header[0], header[1] | 1]) + header[2:] if kind < 0.12 else header


def _property(chance: random.Random, name: str) -> bytes:
    if name == "headers":
        return table(*[(chance.choice(TEXTS), _value(chance)) for _ in range(chance.randrange(5))])
    if name == "timestamp":
        return struct.pack(">q", chance.choice(TIMES))
    if name in ("delivery_mode", "priority"):
        return bytes([chance.choice((1, 2, 2, 2))]) if name == "delivery_mode" else bytes([chance.randrange(256)])
    if name == "expiration" or name == "user_id":  # the broker checks these itself, mostly
        return short(chance.choice((b"60000", b"100000"))) if name == "expiration" else short(b"guest")
    text = chance.choice(TEXTS)
    return short(text if name != "content_encoding" or chance.random() < 0.3 else b"")


def _value(chance: random.Random) -> bytes:
    """A header's value, of any type."""
    number = struct.pack(">q", chance.choice(TIMES))
    return chance.choice(
        (
            b"t" + number[:1], b"b" + number[:1], b"B\xff", b"s\xff\xff", b"I" + number[:4], b"i" + number[:4],
            b"l" + number, b"f" + struct.pack(">f", 1.5), b"d" + struct.pack(">d", 1e300), b"D\x05" + number[:4], b"V",
            b"T" + number, b"S" + sized(chance.choice(TEXTS)), b"x" + sized(chance.choice(TEXTS)),
            b"A" + sized(b"V" * chance.randrange(9)), nested(chance.choice((1, 3, 900, 2000))), chance.randbytes(6),
        )
    )  # fmt: skip


def _body(chance: random.Random, number: int) -> bytes:
    body = queue_message(number, size=chance.choice((0, 100, 5000)))
    kind = chance.random()
    if kind < 0.5:
        message = json.loads(body)
        message |= {chance.choice(NAMES): chance.choice(VALUES) for _ in range(chance.randrange(1, 4))}
        return json.dumps(message).encode(errors="surrogatepass")
    if kind < 0.6:
        return body[: chance.randrange(len(body))]
    if kind < 0.7:
        at = chance.randrange(len(body))
        return body[:at] + chance.randbytes(chance.randrange(1, 20)) + body[at:]
    if kind < 0.75:
        return gzip.compress(body)[: chance.choice((10, 100, 10_000))]
    if kind < 0.8:
        return b'{"own":' * chance.choice((50, 500, 50_000)) + b"1"
    return body if kind < 0.95 else chance.randbytes(chance.choice((0, 1, 300, 200_000)))


def run(folder: pathlib.Path, count: int, seed: int, progress: Progress | None = None) -> Tally:
    """Go through them."""
    address = shared().fresh()
    progress = progress or Progress()
    with (
        Mailbox() as mailbox,
        Program(
            folder,
            rabbitmq_address=address,
            rabbitmq_refused="refused",
            delivery_sink=f"127.0.0.1:{mailbox.port}",
            delivery_timeout_factor=0.1,
        ) as program,
        reconnecting(address) as publisher,
    ):
        drawn = list(cases(count, seed))
        part = max(1, count // 5)
        taken = _publish(publisher, drawn[:part], progress)
        _wait(address, len(taken), progress)
        early = program.resident()
        taken += _publish(publisher, drawn[part:], progress)
        found = _wait(address, len(taken), progress)
        progress("looking at what came of them, and stopping")
        good = [case.good for case in taken if case.good]
        delivered = sum(number in mailbox.accepted for number in good)
        memory, ready = (early, program.resident()), _ready(program)
        assert program.stop() == 0, program.output[-2000:]
        tracebacks = program.output.count("Traceback")
        return Tally(len(taken), len(good), delivered, found, tracebacks, memory, ready)


def _publish(publisher: Reconnecting, drawn: list[Case], progress: Progress) -> list[Case]:
    taken = []
    for number, case in enumerate(drawn):
        progress(f"publishing: {number} of {len(drawn)}, {len(taken)} taken")
        if not publisher.publish(b"outbox", case.header, case.body, case.size):
            taken.append(case)
    return taken


def _wait(address: str, wanted: int, progress: Progress) -> dict[str, int]:
    """Until so many are accounted for, or nothing changes any more; how many, by what became of them."""
    queues = ["results", "refused", "outbox", *(f"outbox.delay.{step}" for step in STEPS)]
    found: dict[str, int] = {}
    last, since = {"": 0}, time.monotonic()
    while time.monotonic() - since < PATIENCE:
        counts = asyncio.run(depth(address, *queues))
        waiting = sum(counts[name] for name in queues[3:])
        found = {"results": counts["results"], "refused": counts["refused"], "waiting": waiting}
        progress(f"waiting: {found}, {wanted} wanted")
        if sum(found.values()) >= wanted and not counts["outbox"]:
            break
        if found != last:
            last, since = found, time.monotonic()
        time.sleep(0.2)
    return found


def _ready(program: Program) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{program.www_port}/readyz", timeout=20) as answer:
            return answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.read().decode().strip()
