"""Never an open relay: the classic tricks, with and without login."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.pipeline.intake.harness import Caller, House
from tests.pipeline.intake.test_smtp_auth import plain

BAD = "553 5.1.3 An address is local@domain, of at most 64 and 255 octets"
SYNTAX = "501 5.5.4 Syntax: RCPT TO:<address> [parameters]"
ROUTED = "550 5.7.1 No mail is routed through an address of ours"
LOGIN = "530 5.7.0 Log in first"
SOURCE = "553 5.1.3 Source routes are not taken"
OK = "250 2.1.5 Recipient ok"

# Path, reply without login, reply with login.
TRICKS = [
    ("<a@ext.example>", LOGIN, OK),
    ("<info@local.example>", OK, OK),
    ("<INFO@LOCAL.EXAMPLE>", OK, OK),
    ("<a%ext.example@local.example>", ROUTED, ROUTED),
    ("<ext.example!a@local.example>", ROUTED, ROUTED),
    ("<@local.example:a@ext.example>", SOURCE, SOURCE),
    ("<@local.example,@b.example:a@ext.example>", SOURCE, SOURCE),
    ('<"a@ext.example"@local.example>', ROUTED, ROUTED),
    ('<"a%ext.example"@local.example>', ROUTED, ROUTED),
    ("<a@ext.example@local.example>", BAD, BAD),
    ("<a@local.example@ext.example>", BAD, BAD),
    ("<info@local.example.ext.example>", LOGIN, OK),
    ("<info@[127.0.0.1]>", LOGIN, OK),
    ("<a%ext.example>", BAD, BAD),
    ("<ext.example!a>", BAD, BAD),
    ("<a>", BAD, BAD),
    ("<@local.example>", SOURCE, SOURCE),
    ('<"a@ext.example">', BAD, BAD),
    ("<info@local.example,a@ext.example>", BAD, BAD),
    ("<info@local.example><a@ext.example>", SYNTAX, SYNTAX),
    ("a@ext.example", LOGIN, OK),
    ("info@local.example", OK, OK),
    ("a%ext.example@local.example", ROUTED, ROUTED),
    ("@local.example:a@ext.example", SOURCE, SOURCE),
    (
        "info@local.example a@ext.example",
        "501 5.5.4 Parameters are NAME or NAME=value",
        "501 5.5.4 Parameters are NAME or NAME=value",
    ),
    ("<a@ext.example\0@local.example>", None, None),
]


def is_local(recipient: str) -> bool:
    return recipient.lower().endswith("@local.example")


@pytest.fixture
async def logged_in(house: House, certificate: Path, trusted: ssl.SSLContext) -> Caller:
    await house.open(
        is_local=is_local, rabbitmq_local="local", smtp_auth="hardcoded://joe:secret",
        smtp_certificate=certificate, smtp_secure_port=0,
    )  # fmt: skip
    caller = await house.call(port=1, tls=trusted)
    assert (await caller.say(plain("joe", "secret"))).startswith("235")
    return caller


@pytest.mark.parametrize(("path", "without", "logged"), TRICKS)
async def test_relay_tricks(
    house: House, logged_in: Caller, path: str, without: str | None, logged: str | None
) -> None:
    """Without login only a plain local address is taken; with it, no address that hides another one."""
    stranger = await house.call()
    for caller, reply in ((stranger, without), (logged_in, logged)):
        await caller.say("MAIL FROM:<a@ext.example>")
        answer = await caller.say(f"RCPT TO:{path}")
        assert answer == reply if reply else answer.startswith("500")


async def test_mail_to_a_local_address_goes_to_the_local_queue_and_nowhere_else(
    house: House, logged_in: Caller
) -> None:
    """The exception for local addresses does not relay."""
    stranger = await house.call()
    await stranger.says("MAIL FROM:<x@ext.example>", "RCPT TO:<a@ext.example>", "RCPT TO:<info@local.example>")
    assert [answer[:3] for answer in await stranger.says("DATA", "x\r\n.")] == ["354", "250"]
    assert [message["recipient"] for message in house.queued("local")] == ["info@local.example"]
    assert not house.queued()


async def test_a_failed_login_is_no_login(house: House, logged_in: Caller, trusted: ssl.SSLContext) -> None:
    """Nor is one that was broken off."""
    caller = await house.call(port=1, tls=trusted)
    await caller.says(plain("joe", "wrong"), "AUTH PLAIN", "*", "MAIL FROM:<a@ext.example>")
    assert await caller.say("RCPT TO:<b@ext.example>") == LOGIN


async def test_without_a_queue_for_them_there_are_no_local_addresses(house: House) -> None:
    """What is not set is off."""
    await house.open(is_local=is_local)
    caller = await house.call()
    assert (await caller.mail(b"x\r\n.\r\n", "info@local.example")).startswith("250")
    assert [message["recipient"] for message in house.queued()] == ["info@local.example"]


async def test_clients_out_of_range_are_turned_away_at_the_greeting(house: House) -> None:
    """smtp-range; 554 and closed (RFC 5321 3.1)."""
    await house.open(smtp_range="192.0.2.0/24;::1/128")
    caller = await house.call(greet=False)
    assert await caller.rest() == b"554 5.7.1 127.0.0.1 may not send here\r\n"
