"""What was accepted is never refused for its size afterwards (K12)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.results import BRIEF, WHOLE, tried
from operators.mail.message import Message, from_properties, mime_properties
from operators.stages.decode import decode
from pipeline.queues import GATHERED, JSON_GROWTH, largest_body
from pipeline.spool.sendmail import ARGUMENTS, Origin, UnusableSubmission, compose, parse, read_message
from settings import ConfigurationErrors, Settings, load
from tests.pipeline.intake.harness import House

BROKER = "--rabbitmq-address=amqp://localhost"
LATER = Outcome(state="message", result="error", next=Next.RETRY, code=451, description="x" * 500, until=0.0)

# One octet in the message, up to six in JSON (RFC 8259 7).
WORST = {
    "escape": b"\x1b",
    "quote": b'"',
    "backslash": b"\\",
    "lines": b"\r\n",
    "latin-1": b"\xe4",
    "utf-8": "ä".encode(),
}


def settings(folder: Path, *more: str) -> Settings:
    return load([f"--data-dir={folder}", "--smtp-maxsize=1MB", *more], system_file=None)


def taken(body: bytes, most: int) -> Delivery:
    seen: list[Delivery] = []
    rx.of(Lease(1, body)).pipe(decode(most, lambda: 0.0)).subscribe(seen.append)
    return seen[0]


@pytest.mark.parametrize("content", WORST.values(), ids=WORST)
async def test_what_was_answered_250_is_taken_from_the_queue(house: House, tmp_path: Path, content: bytes) -> None:
    """K12: the largest message, of octets that JSON writes in six; from either queue, and octet for octet."""
    await house.open(smtp_maxsize="1MB", long_lines="pass")
    source = b"Subject: x\r\n\r\n" + content * (900_000 // len(content)) + b"\r\n"
    assert (await (await house.call()).mail(source + b".\r\n")).startswith("250")
    (queued,) = house.queued()
    body = msgspec.json.encode(queued)
    for keys in ([], [BROKER]):
        delivery = taken(body, largest_body(settings(tmp_path, *keys)))
        assert delivery.outcome is None
        assert delivery.message.source().endswith(source)


@pytest.mark.parametrize("content", WORST.values(), ids=WORST)
def test_what_send_took_is_taken_from_the_queue(tmp_path: Path, content: bytes) -> None:
    """K12: line ends count as they are queued, and the command line is told within bounds."""
    domain = ".".join(["x" * 60] * 3)
    arguments = ["-i", "b@example.net", *(f"user{number}@{domain}.example" for number in range(100))]
    assert len(" ".join(arguments)) > ARGUMENTS
    request, origin = parse(arguments), Origin("joe", "mx.example", 0.0)
    source = read_message(io.BytesIO(b"\n" + content * (900_000 // len(content))), request.ignore_dot, 1_000_000)
    bodies = compose(source, request, origin, "id", x_mq=True)
    assert max(map(len, bodies)) < 1_000_000 * JSON_GROWTH
    assert taken(bodies[0], largest_body(settings(tmp_path, BROKER))).outcome is None


def test_send_counts_line_ends_as_they_are_queued() -> None:
    """K12: a line feed becomes two octets; what is too large then is refused at once."""
    with pytest.raises(UnusableSubmission, match="larger than smtp-maxsize"):
        read_message(io.BytesIO(b"\n" * 600_000), ignore_dot=True, most=1_000_000)


def test_a_message_that_is_tried_for_weeks_stays_small() -> None:
    """K12: it grows by its own attempts; how many they were is never forgotten."""
    message: Any = from_properties({"recipient": "b@example.net", "mime": "x"})
    for _ in range(3 * WHOLE):
        message = Message(properties=tried(message, LATER, 0.0), results=tried(message, LATER, 0.0)["results"])
    assert message.attempts == 3 * WHOLE
    assert set(message.results[0]) <= set(BRIEF)
    assert all("description" in one for one in message.results[-WHOLE:])
    brief = len(msgspec.json.encode(message.results[0]))
    assert 100_000 * brief + WHOLE * 10_000 < GATHERED


def test_the_embedded_queue_refuses_nothing_for_its_size(tmp_path: Path) -> None:
    """K12: smtp-maxsize may be lowered while large messages wait; who put them there was us."""
    body = msgspec.json.encode({"recipient": "b@example.net", "mime": "x" * 5_000_000})
    assert taken(body, largest_body(settings(tmp_path, "--smtp-maxsize=1000"))).outcome is None


@given(st.binary(min_size=1).map(lambda octets: octets * (70_000 // len(octets) + 1)))
def test_the_json_of_a_large_message_is_at_most_a_third_larger(source: bytes) -> None:
    """K12: whatever it is made of; and it comes back octet for octet."""
    properties = mime_properties(source)
    assert len(msgspec.json.encode(properties)) <= len(source) * 4 / 3 + 100
    assert from_properties({"recipient": "b@example.net", **properties}).source() == source


def test_a_limit_that_the_queue_cannot_hold_is_refused_at_the_start(tmp_path: Path) -> None:
    """K12: what we cannot honour is refused before mail moves."""
    with pytest.raises(ConfigurationErrors) as raised:
        settings(tmp_path, "--smtp-maxsize=2GB")
    assert raised.value.lines == (
        "smtp-maxsize: '2000000000' (command line): must be at most 500MB: the queue stores no larger message",
    )
