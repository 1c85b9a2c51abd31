"""SMTP smuggling: only CRLF.CRLF ends a message, and no bare CR or LF gets through (smtpsmuggling.com)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.head import line_ends
from pipeline.smtp.server.content import plain
from pipeline.smtp.server.protocol import MailData, ServerProtocol
from pipeline.smtp.server.refusal import Refusal
from tests.pipeline.intake.harness import House

FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r\n\r.\r\n",
    b"\r\r\n.\r\r\n",
]


@pytest.mark.parametrize("end", FALSE_ENDS)
async def test_a_bare_cr_or_lf_is_no_end_of_data(house: House, end: bytes) -> None:
    """One message; what was to be smuggled is part of it, with every line end CRLF."""
    await house.open()
    caller = await house.call()
    smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nx\r\n"
    answer = await caller.mail(b"Subject: x\r\n\r\nfirst" + end + smuggled + b".\r\n")
    assert answer.startswith("250")
    assert await caller.say("NOOP") == "250 2.0.0 Still here"
    (message,) = house.queued()
    assert message["recipient"] == "b@example.net"
    assert "MAIL FROM:<evil@example.org>" in message["mime"]
    assert message["mime"].replace("\r\n", "").count("\n") == 0
    assert message["mime"].replace("\r\n", "").count("\r") == 0


async def test_nul_before_the_dot_is_refused_not_repaired(house: House) -> None:
    """CR LF NUL . CR LF: the whole message is refused."""
    await house.open()
    caller = await house.call()
    assert (await caller.mail(b"x\r\n\0.\r\nMAIL FROM:<c@example.org>\r\n.\r\n")).startswith("554 5.6.0")
    assert not house.queued()


def test_dots_are_unstuffed_only_at_real_line_starts() -> None:
    """RFC 5321 4.5.2: after a bare LF a dot is content."""
    assert line_ends(plain(b"..a\r\n..\r\n...\r\nb..c\r\n")) == b".a\r\n.\r\n..\r\nb..c\r\n"
    assert line_ends(plain(b"a\n..b\r\n")) == b"a\r\n..b\r\n"
    assert line_ends(plain(b"a\r..b\r\n")) == b"a\r\n..b\r\n"


def test_nul_is_refused() -> None:
    """RFC 5322 4."""
    with pytest.raises(Refusal, match=r"554 5\.6\.0"):
        plain(b"a\0b\r\n")


@given(st.binary().filter(lambda octets: b"\0" not in octets))
def test_what_is_cleaned_has_no_bare_line_end(raw: bytes) -> None:
    """Whatever comes in."""
    rest = line_ends(plain(raw)).replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest


@given(
    st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"a.", b"x" * 100])),
    st.lists(st.integers(1, 40), min_size=1),
    st.binary(max_size=20),
)
def test_a_message_arrives_octet_for_octet_however_it_is_cut(lines: list[bytes], cuts: list[int], after: bytes) -> None:
    """Dots at the start, at the end, at every buffer boundary; what follows the end stays for the next command."""
    content = b"".join(line + b"\r\n" for line in lines)
    wire = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n" + after

    session = ServerProtocol()
    session.receive(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    while session.next_event():
        session.accept(b"250")
    whole, turn = None, 0
    while whole is None:
        size = cuts[turn % len(cuts)]
        session.receive(wire[:size])
        wire, turn = wire[size:], turn + 1
        while whole is None and isinstance(event := session.next_event(), MailData):
            whole = event.whole
    assert line_ends(plain(whole)) == content
    assert session.forget() + wire == after


@pytest.mark.parametrize("length", [998, 999, 1_000_000])
async def test_long_lines_are_kept_as_they_are(house: House, length: int) -> None:
    """With `long-lines: pass`: rewrapping would break signatures."""
    await house.open(long_lines="pass")
    line = b"y" * length
    assert (await (await house.call()).mail(b"\r\n" + line + b"\r\n.\r\n")).startswith("250")
    assert house.queued()[0]["mime"].endswith("\r\n\r\n" + line.decode() + "\r\n")
