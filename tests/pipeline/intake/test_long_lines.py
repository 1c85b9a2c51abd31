"""A line over 998 octets, at every door: encoded, or refused before 250; nothing is refused after it."""

from __future__ import annotations

import base64
import email
from typing import Any

import msgspec
import pytest

from operators.deliveries.delivery import Delivery, Lease
from operators.mail.long_lines import first_long
from operators.mail.message import from_properties
from operators.stages.compose import made
from pipeline.queues import JSON_GROWTH
from pipeline.smtp.server.refusal import Refusal
from pipeline.spool.sendmail import Origin, compose, parse
from pipeline.views.submit import Submission, Unacceptable
from tests.pipeline.intake.harness import House

LONG = b"." + b"ab=." * 500 + b"\r\n"
SIGNED = b"DKIM-Signature: v=1; d=b.example\r\nSubject: x\r\n\r\n" + LONG
WHY = "line 4 has 2001 octets, at most 998 are allowed (RFC 5322 2.1.1); "
WHY += "the message is signed (DKIM-Signature), which encoding would break"


def stuffed(content: bytes) -> bytes:
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def content_of(queued: dict[str, Any]) -> bytes:
    """What a reader sees of the queued message, whose lines are short."""
    source = from_properties(queued).source()
    assert first_long(source) < 0
    return bytes(email.message_from_bytes(source).get_payload(decode=True))


@pytest.mark.parametrize("more", [0, 40_000, 900_000, 3_000_000])
async def test_a_message_of_any_size_is_encoded_at_intake(house: House, more: int) -> None:
    """In memory, apart in a segment, and over the disk: where dots begin lines after it, too."""
    await house.open()
    body = LONG + b"short\r\n" * (more // 7) + b"..\r\n" + LONG
    assert (await (await house.call()).mail(stuffed(b"Subject: x\r\n\r\n" + body))).startswith("250")
    assert content_of(house.queued()[0]) == body


@pytest.mark.parametrize("around", range(-2, 3))
async def test_a_megabyte_without_a_line_end_is_encoded_wherever_it_is_cut(house: House, around: int) -> None:
    """The line ends just where one piece ends and the next begins."""
    await house.open()
    body = b"x" * (1_048_576 + around) + b"\r\n" + b"y" * 998 + b"\r\n"
    assert (await (await house.call()).mail(stuffed(b"Subject: x\r\n\r\n" + body))).startswith("250")
    assert content_of(house.queued()[0]) == body


@pytest.mark.parametrize("more", [0, 3_000_000])
async def test_what_is_signed_is_refused_with_the_line(house: House, more: int) -> None:
    """RFC 5321 4.5.3.1.6; the session goes on, and nothing is queued."""
    await house.open()
    caller = await house.call()
    answer = await caller.mail(stuffed(SIGNED + b"short\r\n" * (more // 7)))
    assert answer == f"550 5.6.0 L{WHY[1:]}"
    assert not house.queued()
    assert (await caller.mail(b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n.\r\n")).startswith("250")


@pytest.mark.parametrize("more", [0, 3_000_000])
async def test_the_key_refuses_all_of_them_or_passes_them_on(house: House, more: int) -> None:
    """998 octets are allowed, as ever."""
    await house.open(long_lines="refuse")
    caller = await house.call()
    fine = b"Subject: x\r\n\r\n" + b"short\r\n" * (more // 7) + b"x" * 998 + b"\r\n"
    assert (await caller.mail(fine + b".\r\n")).startswith("250")
    assert (await caller.mail(fine + b"x" * 999 + b"\r\n.\r\n")).startswith("550 5.6.0 Line ")


async def test_an_application_is_told_and_its_message_encoded(house: House) -> None:
    """Over the API: 422 with the line, or queued with short lines, its other properties as they were."""
    await house.open()
    submission = Submission(house.queue, "outbox", "mx1", 10_000_000, lambda event: None)
    signed = {"recipient": "b@example.net", "mime": SIGNED.decode()}
    with pytest.raises(Unacceptable) as error:
        await submission.submit([signed])
    assert [(one.field, one.message) for one in error.value.mistakes] == [("mime", WHY)]
    plain = b"Subject: x\r\n\r\n" + LONG
    coded = {"mime": base64.b64encode(plain).decode(), "mime-encoding": "base64"}
    for mime in ({"mime": plain.decode()}, coded):
        await submission.submit([{"recipient": "b@example.net", "campaign": 7, **mime}])
    for queued in house.queued():
        assert content_of(queued) == LONG
        assert queued["campaign"] == 7


@pytest.mark.parametrize("octet", [b"\x1b", b'"', b"\\", "ä".encode(), b"\xe4", "ä\r\n".encode(), b"=\r\n"])
def test_what_is_handed_in_on_this_machine_is_encoded_within_the_bounds_of_the_queue(octet: bytes) -> None:
    """By `mailrace send` and the spool directory; encoding makes no message too large for the queue."""
    request, origin = parse(["-i", "b@example.net"]), Origin("joe", "mx.example", 0.0)
    with pytest.raises(Refusal, match="Line 4 has 2001"):
        compose(SIGNED, request, origin, "id", x_mq=True)
    body = octet * (900_000 // len(octet)) + b"x" * 999 + b"\r\n"
    (queued,) = compose(b"Subject: x\r\n\r\n" + body, request, origin, "id", x_mq=True)
    assert len(queued) < JSON_GROWTH * len(body)
    assert content_of(msgspec.json.decode(queued)) == body


def test_a_message_on_the_outbox_is_encoded_before_it_is_signed_or_given_up() -> None:
    """But what we took is sent as it is: 250 means 250."""

    def composed(**properties: Any) -> Delivery:
        message = from_properties({"recipient": "b@example.net", **properties})
        return made(Delivery(lease=Lease(id=1, body=b""), message=message, taken=0.0), message, "encode")

    plain = (b"Subject: x\r\n\r\n" + LONG).decode()
    assert first_long(composed(mime=plain).source) < 0
    outcome = composed(mime=SIGNED.decode()).outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.description) == ("process", "invalid", f"mime: {WHY}")
    taken = composed(mime=SIGNED.decode(), connection={"ip": "127.0.0.1"})
    assert taken.outcome is None
    assert taken.source == SIGNED
    assert first_long(composed(mime=plain, connection={"ip": "127.0.0.1"}).source) < 0
    grown = composed(mime="Subject: x\n\n{$long}\n", data={"long": "y" * 2000}, spool={"file": "m"})
    assert first_long(grown.source) < 0
