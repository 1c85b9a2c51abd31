"""Nothing is lost when the broker, Mailrace, or both are killed. Full size: `python -m` this."""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import signal
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import pytest

from tests.support.broker import MISSING, Broker, installed
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.publisher import Publisher, drain, queue_message
from tests.support.source import Source

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING), pytest.mark.timeout(300)]

QOS = 200
Victim = Literal["broker", "program", "both"]


class Tally(NamedTuple):
    """What became of it.

    Attributes:
        killed: how often.
        in_flight: deliveries that may have been in memory at the kills: the credit, each time.
        confirmed: messages that the broker has confirmed.
        lost: of those, not delivered.
        doubles: deliveries too many.
        without_result: confirmed ones without a result.
    """

    killed: int
    in_flight: int
    confirmed: int
    lost: int
    doubles: int
    without_result: int


def body(number: int) -> bytes:
    """Every tenth message is not to be sent at once: it waits on the broker for some seconds."""
    text = queue_message(number)
    if number % 10:
        return text
    at = datetime.now(UTC) + timedelta(seconds=1 + number % 50 / 10)
    return text[:-1] + f', "nextattempt": {{"time": "{at:%Y-%m-%d %H:%M:%S}"}}}}'.encode()


async def kill_now_and_then(
    broker: Broker, program: Program, mailbox: Mailbox, publisher: Publisher, victim: Victim, kills: int
) -> None:
    """SIGKILL, and a restart, each time another part of the messages has been delivered."""
    publishing = asyncio.create_task(publisher.run())
    for number in range(1, kills + 1):
        due = publisher.total * number // (kills + 2)
        while mailbox.total < due:  # noqa: ASYNC110 - it counts on a thread
            await asyncio.sleep(0.005)
        if victim in ("broker", "both"):
            broker.kill()
        if victim in ("program", "both"):
            program.kill()
        await asyncio.sleep(0.5)
        if victim in ("broker", "both"):
            await asyncio.to_thread(broker.start)
        if victim in ("program", "both"):
            await asyncio.to_thread(program.start)
    await publishing


def survive(folder: pathlib.Path, victim: Victim, messages: int, kills: int) -> Tally:
    """Run it until everything that was confirmed has arrived, or nothing more comes."""
    with (
        Broker() as broker,
        Mailbox() as mailbox,
        Program(
            folder,
            rabbitmq_address=broker.address,
            rabbitmq_qos=QOS,
            delivery_sink=f"127.0.0.1:{mailbox.port}",
        ) as program,
    ):
        publisher = Publisher(broker.address, messages, body=body)
        asyncio.run(kill_now_and_then(broker, program, mailbox, publisher, victim, kills))
        wanted, last, since = {str(number) for number in publisher.confirmed}, -1, time.monotonic()
        while not wanted <= mailbox.accepted.keys() and time.monotonic() - since < 30:
            if mailbox.total != last:
                last, since = mailbox.total, time.monotonic()
            time.sleep(0.1)
        time.sleep(1)
        assert program.stop() == 0, program.output[-3000:]
        results = {json.loads(body)["number"] for body in asyncio.run(drain(broker.address, "results"))}
    lost = wanted - mailbox.accepted.keys()
    doubles = mailbox.total - len(mailbox.accepted)
    return Tally(kills, kills * QOS, len(wanted), len(lost), doubles, len(publisher.confirmed - results))


@pytest.mark.parametrize(("victim", "kills"), [("broker", 2), ("program", 1), ("both", 1)])
def test_every_message_arrives_though_somebody_is_killed(tmp_path: pathlib.Path, victim: Victim, kills: int) -> None:
    """With a result each; and no more doubles than messages were in memory at the kills.

    Also where both die at once: the broker has forgotten acknowledgements, but what was settled is noted on disk.
    """
    tally = survive(tmp_path, victim, messages=1000, kills=kills)
    assert (tally.lost, tally.without_result) == (0, 0)
    assert tally.doubles <= tally.in_flight


def suspend(folder: pathlib.Path, seconds: float) -> str:
    """SIGSTOP the broker while mail comes in; returns what intake said meanwhile. It recovers by itself."""
    with (
        Broker() as broker,
        Mailbox() as mailbox,
        Program(folder, rabbitmq_address=broker.address, delivery_sink=f"127.0.0.1:{mailbox.port}") as program,
    ):
        broker.signal(signal.SIGSTOP)
        said = asyncio.run(refusal(program.smtp_port, seconds))
        broker.signal(signal.SIGCONT)
        source, end = Source(program.smtp_port, 50), time.monotonic() + 60
        asyncio.run(asyncio.wait_for(until_confirmed(source, 10), 60))
        while not {str(n) for n in source.confirmed} <= mailbox.accepted.keys() and time.monotonic() < end:
            time.sleep(0.1)
        assert {str(n) for n in source.confirmed} <= mailbox.accepted.keys()
        assert program.stop() == 0
    return said


async def refusal(port: int, seconds: float) -> str:
    """Offer one message, and after that wait until the time is over; returns the answer to its final dot."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = (b"EHLO a", b"MAIL FROM:<a@b.example>", b"RCPT TO:<b@c.example>", b"DATA", b"Subject: 1\r\n\r\ntext\r\n.")
    await reader.readline()
    for line in lines:
        writer.write(line + b"\r\n")
        while (answer := await reader.readline())[3:4] == b"-":
            pass
    writer.close()
    await asyncio.sleep(max(0.0, begin + seconds - time.monotonic()))
    return answer.decode()


async def until_confirmed(source: Source, wanted: int) -> None:
    """Send until so many have been answered 250."""
    while len(source.confirmed) < wanted:
        source.total += 50
        await source.run()


def test_a_suspended_broker_makes_intake_say_451_and_is_taken_up_again(tmp_path: pathlib.Path) -> None:
    """kill -STOP is a broker that does not answer, on connections that live."""
    assert suspend(tmp_path, seconds=13).startswith("451")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--stop", type=float, default=30)
    asked = parser.parse_args()
    for who in ("broker", "program", "both"):
        with tempfile.TemporaryDirectory() as name:
            print(who, "killed:", survive(pathlib.Path(name), who, asked.messages, asked.kills), flush=True)
    with tempfile.TemporaryDirectory() as name:
        print(f"broker suspended for {asked.stop:g} s: intake said", suspend(pathlib.Path(name), asked.stop).strip())
