"""What arrives is what was sent, and it is never more than one message."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.deliveries.outcome import Next
from operators.mail.message import Dsn, Message
from operators.mail.source import source_of
from operators.mail.wire import normalise
from pipeline.smtp.client.connection import CHUNK
from tests.support.receiver import Receiver
from tests.support.sender import SOURCE, Sender, to, until

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"\xe9", b"text", b"MAIL FROM:<a@b>", b"DATA"]), max_size=30
).map(b"".join)


async def arrives(source: bytes, extensions: tuple[str, ...] = ("PIPELINING",)) -> None:
    async with Receiver(extensions=extensions) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send(source)).result == "accepted"
        assert (await sender.send(SOURCE)).result == "accepted"
        assert [mail.data for mail in receiver.messages] == [normalise(source), SOURCE]
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n", bytes(receiver.raw))


@settings(max_examples=40, deadline=None)
@given(PIECES.filter(bool))
def test_any_body_arrives_as_it_was_sent(source: bytes) -> None:
    """Dots at every place, 8-bit, line ends of every kind, with and without a last one."""
    asyncio.run(arrives(source))


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\r.\r\r", b"\r\n.\r", b"\r\n.\n", b"\n\n.\r\n", b"\r\n.\r\n"]
)
async def test_no_end_of_data_in_a_body_makes_a_second_message(end: bytes) -> None:
    """SMTP smuggling, outward (CVE-2023-51764 and kin)."""
    await arrives(b"Subject: one\r\n\r\nbody" + end + b"MAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nDATA\r\nsmuggled" + end)


@pytest.mark.parametrize("source", [b"a\r\n\0.\r\nb\r\n", b"a\0b"])
async def test_a_nul_is_refused(source: bytes) -> None:
    """Receivers that drop it would see a final dot where there is none."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(source)
        assert (outcome.state, outcome.result, outcome.next) == ("process", "invalid", Next.FAIL)
        assert receiver.connections == 0


@pytest.mark.parametrize("around", range(-3, 4))
async def test_a_large_body_arrives_whatever_lies_on_a_boundary(around: int) -> None:
    """CRLF, dots and bare line ends just where one piece ends and the next begins."""
    for middle in (b"\r\n.\r\n", b"\n.\n", b"\r\r\r", b".\r\n..\r\n"):
        await arrives(b"x" * (CHUNK - around) + middle + b"y" * CHUNK)


@pytest.mark.parametrize("length", [998, 999, 1_000_000])
async def test_a_long_line_is_not_wrapped(length: int) -> None:
    """It would break the signature."""
    await arrives(b"Subject: x\r\n\r\n." + b"x" * length)


async def test_eight_bit_content_is_declared_where_that_is_offered_and_sent_in_any_case() -> None:
    """RFC 6152; it is never recoded, since it has been signed."""
    source = "Subject: x\r\n\r\ngrün\r\n".encode()
    for extensions, declared in ((("8BITMIME",), True), ((), False)):
        async with Receiver(extensions=extensions) as receiver, Sender(to(receiver)) as sender:
            assert (await sender.send(source)).result == "accepted"
            assert receiver.messages[0].data == source
            assert ("BODY=8BITMIME" in receiver.messages[0].mail) is declared


async def test_the_size_is_said_and_kept() -> None:
    """RFC 1870: what is too large for the receiver is not tried."""
    async with Receiver(extensions=("SIZE 100",)) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send(SOURCE)).result == "accepted"
        assert f"SIZE={len(SOURCE)}" in receiver.messages[0].mail
        outcome = await sender.send(SOURCE * 10)
        assert (outcome.state, outcome.code, outcome.status, outcome.next) == ("mailfrom", 552, "5.3.4", Next.FAIL)
        assert not outcome.attempted
        assert (await sender.send(SOURCE)).messages == 2


async def test_a_receiver_that_stops_reading_times_out() -> None:
    """RFC 5321 4.5.3.2.5, with no more of the message copied than the transport holds."""
    async with Receiver(read_data=False) as receiver, Sender(to(receiver), 0.002) as sender:
        outcome = await sender.send(b"x" * 9_000_000)
        assert (outcome.state, outcome.result, outcome.next) == ("message", "timeout", Next.RETRY)
        assert outcome.sent_data < 9_000_000 and "duplicate" not in outcome.description


@pytest.mark.parametrize(
    ("answer", "result", "code", "next"),
    [
        ("552 5.3.4 enough", "error", 552, Next.FAIL),
        ("421 4.3.2 bye", "error", 421, Next.RETRY),
        ("250 taken", "invalid", 250, Next.RETRY),
    ],
)
async def test_an_answer_in_the_middle_of_the_message_ends_it(answer, result, code, next) -> None:
    """A receiver may have seen enough, but cannot have taken it; the connection cannot go on after that."""
    async with Receiver({"DATA": [b"354 go ahead\r\n"]}, read_data=False) as receiver, Sender(to(receiver)) as sender:
        sending = asyncio.create_task(sender.send(b"x" * 9_000_000))
        await until(lambda: receiver.raw.endswith(b"x"))
        await receiver.say(f"{answer}\r\n")
        outcome = await sending
        assert (outcome.state, outcome.result, outcome.code, outcome.next) == ("message", result, code, next)
        assert sender.kinds()[-1] == "Disconnected"


@pytest.mark.parametrize("bad", ["a@b\r\nRCPT TO:<c@d>", "a b@c.d", "a\0@b.c", "<a@b.c>", "nobody"])
async def test_an_address_that_is_more_than_an_address_is_refused(bad: str) -> None:
    """Nothing of a message may become a command."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        for outcome in (await sender.send(recipient=bad), await sender.send(envelope=bad)):
            assert (outcome.state, outcome.result, outcome.next) == ("process", "invalid", Next.FAIL)
        assert receiver.connections == 0


async def test_the_null_sender_is_sent_as_such() -> None:
    """RFC 5321 4.5.5."""
    async with Receiver(extensions=()) as receiver, Sender(to(receiver)) as sender:
        await sender.send(envelope=None)
        assert receiver.messages[0].mail == "MAIL FROM:<>"


async def test_an_international_address_needs_smtputf8() -> None:
    """RFC 6531 3.2: without it the message is not tried, and the connection stays."""
    async with Receiver(extensions=()) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(recipient="jürgen@example.com")
        assert (outcome.state, outcome.code, outcome.status, outcome.next) == ("mailfrom", 553, "5.6.7", Next.FAIL)
        await sender.send(recipient="someone@bücher.example")
        assert receiver.messages[0].rcpt == "RCPT TO:<someone@xn--bcher-kva.example>"
    async with Receiver(extensions=("SMTPUTF8",)) as receiver, Sender(to(receiver)) as sender:
        await sender.send(recipient="jürgen@bücher.example")
        assert receiver.messages[0].rcpt == "RCPT TO:<jürgen@bücher.example>"
        assert receiver.messages[0].mail.endswith(" SMTPUTF8")


UTF8 = "Subject: Grüße\r\n\r\nx\r\n".encode()
LATER = "A: 1\r\n\r\nGrüße\r\n".encode()


async def test_a_header_in_utf8_goes_to_receivers_with_smtputf8_only() -> None:
    """K6: the property `smtputf8` says that it is one (RFC 6531 3.2), beside an envelope of ASCII, too."""
    async with Receiver(extensions=("8BITMIME",)) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(UTF8, smtputf8=True)
        assert (outcome.state, outcome.code, outcome.status, outcome.next) == ("mailfrom", 553, "5.6.7", Next.FAIL)
        assert "header" in outcome.description
        for source, properties in ((SOURCE, {"smtputf8": True}), (LATER, {"smtputf8": True}), (UTF8, {})):
            assert (await sender.send(source, **properties)).result == "accepted"
    async with Receiver(extensions=("SMTPUTF8", "8BITMIME")) as receiver, Sender(to(receiver)) as sender:
        for source, properties in ((UTF8, {"smtputf8": True}), (SOURCE, {"smtputf8": True}), (UTF8, {})):
            await sender.send(source, **properties)
        assert [mail.mail.endswith(" SMTPUTF8") for mail in receiver.messages] == [True, False, False]


async def test_an_address_in_utf8_that_we_wrote_needs_smtputf8() -> None:
    """K6: a local part cannot be encoded; all else that we compose is ASCII, and goes everywhere."""
    mime = {"from": "Jürgen <jürgen@b.example>", "subject": "Grüße", "text": "Grüße"}
    ascii_ = {**mime, "from": "Jürgen <a@bücher.example>"}
    change = {"replace": {"From": "jürgen@b.example"}}
    async with Receiver(extensions=("8BITMIME",)) as receiver, Sender(to(receiver)) as sender:
        for properties in ({"mime": mime}, {"mime": "A: 1\r\n\r\n", "headers": change}):
            outcome = await sender.send(source_of(Message(**properties)), **properties)
            assert (outcome.code, outcome.status) == (553, "5.6.7")
        source = source_of(Message(mime=ascii_))
        assert source.isascii()
        assert (await sender.send(source, mime=ascii_)).result == "accepted"


async def test_dsn_wishes_are_passed_on_where_offered() -> None:
    """RFC 3461 4; what cannot be written is left out, and nothing of it becomes a command."""
    wishes = Dsn(notify="failure,delay", ret="hdrs", envid="id 1\r\nX", orcpt="rfc822;a+b@c.d")
    async with Receiver(extensions=("DSN",)) as receiver, Sender(to(receiver)) as sender:
        await sender.send(dsn=wishes)
        assert receiver.messages[0].mail.endswith("> RET=HDRS ENVID=id+201+0D+0AX")
        assert receiver.messages[0].rcpt.endswith("> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb@c.d")
        await sender.send(dsn=Dsn(notify="NEVER\r\nX", ret="x", orcpt="a b;c"))
        assert receiver.messages[1].mail.endswith(">") and receiver.messages[1].rcpt.endswith(">")
    async with Receiver(extensions=()) as receiver, Sender(to(receiver)) as sender:
        await sender.send(dsn=wishes)
        assert receiver.messages[0].mail.endswith(">") and receiver.messages[0].rcpt.endswith(">")
