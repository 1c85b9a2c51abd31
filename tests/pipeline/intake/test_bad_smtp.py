"""Bad input, and the one clear line that it gets."""

from __future__ import annotations

import pytest

from tests.pipeline.intake.harness import House

# What is sent after EHLO, and the reply to the last line of it.
COMMANDS = [
    ("XYZZY", "500 5.5.1 The command is not known"),
    ("", "500 5.5.1 The command is not known"),
    (b"NOOP\nRSET", "500 5.5.2 A command ends in CRLF, and holds no other CR, LF or NUL"),
    (b"NOOP\rRSET", "500 5.5.2 A command ends in CRLF, and holds no other CR, LF or NUL"),
    (b"NO\0OP", "500 5.5.2 A command ends in CRLF, and holds no other CR, LF or NUL"),
    (b"MAIL FROM:<\xff@example.org>", "500 5.5.2 A command is ASCII or UTF-8"),
    ("NOOP " + "x" * 5000, "500 5.5.2 The line is too long"),
    ("NOOP " + "x" * 100_000, "500 5.5.2 The line is too long"),
    ("RCPT TO:<b@example.net>", "503 5.5.1 MAIL comes first"),
    ("DATA", "503 5.5.1 MAIL and RCPT come first"),
    ("STARTTLS", "454 4.7.0 There is no TLS here"),
    ("STARTTLS now", "501 5.5.4 STARTTLS takes no parameter"),
    ("AUTH PLAIN AGEAYg==", "503 5.5.1 AUTH is not possible now"),
    ("MAIL a@example.org", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
    ("MAIL FROM:", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
    ("MAIL FROM:<a@example.org", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
    ("MAIL FROM:a@example.org>", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
    ("MAIL FROM:SIZE=10", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("MAIL TO:<a@example.org>", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
    ("MAIL FROM:<a@example.org>SIZE=1", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
    ("MAIL FROM:<a>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("MAIL FROM:<a@b@example.org>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    (f"MAIL FROM:<{'a' * 65}@example.org>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("MAIL FROM:<@x.example:>", "553 5.1.3 Source routes are not taken"),
    ("MAIL FROM:<jürgen@example.org>", "553 5.6.7 An address that is not ASCII needs SMTPUTF8 at MAIL"),
    ("MAIL FROM:<a@example.org> SIZE=many", "501 5.5.4 SIZE is a number of octets"),
    ("MAIL FROM:<a@example.org> SIZE=100000001", "552 5.3.4 The message is larger than 100000000 octets"),
    ("MAIL FROM:<a@example.org> SIZE=1 SIZE=2", "501 5.5.4 A parameter is given twice"),
    ("MAIL FROM:<a@example.org> =x", "501 5.5.4 Parameters are NAME or NAME=value"),
    ("MAIL FROM:<a@example.org> BODY=BINARYMIME", "501 5.5.4 BODY is 7BIT or 8BITMIME"),
    ("MAIL FROM:<a@example.org> SMTPUTF8=1", "501 5.5.4 SMTPUTF8 takes no value"),
    ("MAIL FROM:<a@example.org> RET=ALL", "501 5.5.4 RET is FULL or HDRS"),
    ("MAIL FROM:<a@example.org> ENVID=a+zz", "501 5.5.4 ENVID is xtext of at most 100 characters"),
    ("MAIL FROM:<a@example.org> ENVID=a+0D+0Ab", "501 5.5.4 ENVID holds a character that is not printable ASCII"),
    ("MAIL FROM:<a@example.org> FOO=bar", "555 5.5.4 FOO is not a parameter we know"),
]

# The same after MAIL.
RECIPIENTS = [
    ("MAIL FROM:<a@example.org>", "503 5.5.1 There is a sender already"),
    ("DATA", "503 5.5.1 MAIL and RCPT come first"),
    ("RCPT b@example.net", "501 5.5.4 Syntax: RCPT TO:<address> [parameters]"),
    ("RCPT TO:<>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("RCPT TO:<postmaster>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("RCPT TO:<b @example.net>", "501 5.5.4 Syntax: RCPT TO:<address> [parameters]"),
    ("RCPT TO:<b@-example.net>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("RCPT TO:<b@[999.1.1.1]>", "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"),
    ("RCPT TO:<b@example.net> NOTIFY=NEVER,DELAY", "501 5.5.4 NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY"),
    ("RCPT TO:<b@example.net> ORCPT=b@example.net", "501 5.5.4 ORCPT is type;address"),
    ("RCPT TO:<b@example.net> SIZE=1", "555 5.5.4 SIZE is not a parameter we know"),
]

# Content, and the reply to it.
CONTENTS = [
    (b"Subject: x\r\n\r\na\0b\r\n.\r\n", "554 5.6.0 The message holds a NUL octet, which mail may not (RFC 5322)"),
    (
        b"Received: x\r\n" * 101 + b"\r\n.\r\n",
        "554 5.4.6 More than 100 Received fields: the message goes in a circle",
    ),
    (
        b"x-mq-maxattempts: many\r\n\r\n.\r\n",
        "554 5.6.0 x-mq-maxattempts: allowed is a number up to 1000000, 0 for no limit",
    ),
]


@pytest.mark.parametrize(("line", "reply"), COMMANDS)
async def test_a_bad_command_gets_one_clear_line(house: House, line: str | bytes, reply: str) -> None:
    """What is wrong, and what is allowed; with an enhanced status code."""
    await house.open()
    if isinstance(line, bytes) and b"\n" in line:
        line += b"\n"
    caller = await house.call()
    assert await caller.say(line) == reply


@pytest.mark.parametrize(("line", "reply"), RECIPIENTS)
async def test_a_bad_command_after_mail_leaves_the_transaction_unharmed(house: House, line: str, reply: str) -> None:
    """The next recipient goes through."""
    await house.open()
    caller = await house.call()
    await caller.say("MAIL FROM:<a@example.org>")
    assert await caller.say(line) == reply
    replies = await caller.says("RCPT TO:<c@example.net>", "DATA", "x\r\n.")
    assert [answer[:3] for answer in replies] == ["250", "354", "250"]
    assert [message["recipient"] for message in house.queued()] == ["c@example.net"]


@pytest.mark.parametrize(("content", "reply"), CONTENTS)
async def test_bad_content_is_refused_and_the_next_message_taken(house: House, content: bytes, reply: str) -> None:
    """The transaction is over, the connection unharmed."""
    await house.open()
    caller = await house.call()
    assert await caller.mail(content) == reply
    assert (await caller.mail(b"x\r\n.\r\n")).startswith("250")
    assert len(house.queued()) == 1


async def test_too_many_errors_end_the_session(house: House) -> None:
    """Twenty are answered."""
    await house.open()
    caller = await house.call()
    replies = await caller.says(*["XYZZY"] * 21)
    assert replies[-2:] == ["500 5.5.1 The command is not known", "421 4.7.0 Too many errors"]
    assert await caller.rest() == b""


async def test_mail_before_ehlo_is_refused(house: House) -> None:
    """RFC 5321 4.1.4."""
    await house.open()
    caller = await house.call(greet=False)
    await caller.reply()
    assert await caller.say("MAIL FROM:<a@example.org>") == "503 5.5.1 EHLO comes first"
