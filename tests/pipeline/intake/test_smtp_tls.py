"""STARTTLS, the secure port, and what may be said over each."""

from __future__ import annotations

import gc
import ssl
from pathlib import Path

import pytest

from settings import StartError
from tests.pipeline.intake.harness import House

MAIL = b"Subject: hello\r\n\r\nworld\r\n.\r\n"


async def test_mail_over_starttls_says_so(house: House, certificate: Path, trusted: ssl.SSLContext) -> None:
    """The trace field has ESMTPS, the message `secure`."""
    await house.open(smtp_certificate=certificate)
    caller = await house.call()
    await caller.starttls(trusted)
    assert "STARTTLS" not in await caller.say("EHLO client.example")
    assert (await caller.mail(MAIL)).startswith("250")
    (message,) = house.queued()
    assert message["connection"]["secure"] is True
    assert "with ESMTPS id" in message["mime"]


async def test_the_secure_port_speaks_tls_from_the_first_byte(
    house: House, certificate: Path, trusted: ssl.SSLContext
) -> None:
    """RFC 8314 3.3."""
    await house.open(smtp_certificate=certificate, smtp_secure_port=0)
    caller = await house.call(port=1, tls=trusted)
    assert (await caller.mail(MAIL)).startswith("250")
    assert house.queued()[0]["connection"]["secure"] is True
    assert await caller.say("STARTTLS") == "503 5.5.1 TLS is on already"


async def test_what_was_sent_along_with_starttls_is_forgotten(
    house: House, certificate: Path, trusted: ssl.SSLContext
) -> None:
    """Command injection (nostarttls.secvuln.info): the tail of the segment is never answered."""
    await house.open(smtp_certificate=certificate)
    caller = await house.call()
    caller.send(b"STARTTLS\r\nRSET\r\nNOOP\r\n")
    assert (await caller.reply()).startswith("220")
    await caller.writer.start_tls(trusted, server_hostname="localhost")
    assert (await caller.say("EHLO client.example")).startswith("250-mx.example.com\n")


async def test_what_was_said_before_starttls_is_forgotten(
    house: House, certificate: Path, trusted: ssl.SSLContext
) -> None:
    """RFC 3207 4.2: greeting and transaction begin anew."""
    await house.open(smtp_certificate=certificate)
    caller = await house.call()
    await caller.say("MAIL FROM:<a@example.org>")
    await caller.starttls(trusted)
    assert await caller.say("RCPT TO:<b@example.net>") == "503 5.5.1 MAIL comes first"
    assert await caller.say("MAIL FROM:<a@example.org>") == "503 5.5.1 EHLO comes first"


async def test_a_failed_handshake_ends_the_session_and_leaves_nothing(house: House, certificate: Path) -> None:
    """The connection is not counted any longer, and the next one is served."""
    intake = await house.open(smtp_certificate=certificate)
    caller = await house.call()
    await caller.say("STARTTLS")
    caller.send(b"this is no handshake\r\n\r\n")
    await caller.rest()
    await house.until(lambda: intake.connections == 0)
    assert (await (await house.call()).mail(MAIL)).startswith("250")


async def test_a_tls_session_that_has_ended_is_free_at_once(
    house: House, certificate: Path, trusted: ssl.SSLContext
) -> None:
    """Its buffers are 256 KB; waiting for the collector of garbage, 300 ended sessions kept 80 MB."""
    intake = await house.open(smtp_certificate=certificate)
    gc.collect()
    gc.disable()
    try:
        caller = await house.call()
        await caller.starttls(trusted)
        await caller.say("EHLO client.example")
        both = _handshakes()
        caller.writer.close()
        await house.until(lambda: not intake.connections)
        await house.until(lambda: _handshakes() <= both - 1)  # that of the client is still held here
    finally:
        gc.enable()


def _handshakes() -> int:
    """TLS protocols that are in memory."""
    return sum(type(one).__name__ == "SSLProtocol" for one in gc.get_objects())


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"smtp_certificate": "/nowhere.pem"}, "smtp-certificate: /nowhere.pem: No such file or directory"),
        (
            {"smtp_ip": "192.0.2.1"},
            "smtp-port: 192.0.2.1 port 0 cannot be opened: the address is not one of this machine's",
        ),
        ({"smtp_auth": "file:///nowhere"}, "smtp-auth: /nowhere: No such file or directory"),
    ],
)
async def test_what_cannot_be_opened_is_one_line(house: House, keys: dict[str, object], line: str) -> None:
    """Exit code 1 and a line, no traceback."""
    with pytest.raises(StartError) as raised:
        await house.open(**keys)
    assert raised.value.line == line


async def test_a_port_that_is_taken_is_one_line(house: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It names key, address and port; ports that were opened already are closed again."""
    intake = await house.open()
    port = intake.addresses[0][1]
    other = House(tmp_path_factory.mktemp("other"))
    with pytest.raises(StartError, match=f"^smtp-port: 127.0.0.1 port {port} is taken by another program$"):
        await other.open(smtp_port=f"0,{port}")
    assert other.intake.addresses == []
    await other.close()


async def test_a_key_of_another_certificate_is_one_line(
    house: House, certificate: Path, tmp_path: Path, authority
) -> None:
    """Found at the start, not at the first client."""
    key = tmp_path / "other.key"
    authority.issue_cert("other.example").private_key_pem.write_to_path(str(key))
    with pytest.raises(StartError, match="the key does not belong to it"):
        await house.open(smtp_certificate=certificate, smtp_privatekey=key)
