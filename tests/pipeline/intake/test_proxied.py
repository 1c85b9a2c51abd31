"""Load balancers in front of the SMTP server: PROXY headers of `smtp-proxy`, by hand and by a real HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import socket
import ssl
import struct
from pathlib import Path

import pytest

from operators.deliveries.events import Rejected
from tests.pipeline.intake.harness import Caller, House
from tests.support.program import free_port

MAIL = b"Subject: hello\r\n\r\nworld\r\n.\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
OPEN = "0.0.0.0/0;::/0"


def second(source: str, there: str, more: bytes = b"", command: int = 0x21) -> bytes:
    """A header of version 2."""
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(there)
    body = one.packed + other.packed + struct.pack("!HH", 5000, 25) + more
    return SIGNATURE + bytes((command, 0x11 if one.version == 4 else 0x21)) + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize(("header", "client"), [
    (b"PROXY TCP4 192.0.2.9 198.51.100.1 5000 25\r\n", "192.0.2.9"),
    (b"PROXY TCP6 2001:db8::9 2001:db8::1 5000 25\r\n", "2001:db8::9"),
    (b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:198.51.100.1 5000 25\r\n", "192.0.2.9"),
    (second("192.0.2.9", "198.51.100.1"), "192.0.2.9"),
    (second("2001:db8::9", "2001:db8::1", b"\x04\x00\x03abc"), "2001:db8::9"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"),
    (second("192.0.2.9", "198.51.100.1", command=0x20), "127.0.0.1"),
])  # fmt: skip
async def test_a_client_behind_a_proxy_has_its_own_address(house: House, header: bytes, client: str) -> None:
    """In Received, in `connection`, wherever it is looked at; a health check is the proxy itself."""
    await house.open(smtp_proxy="127.0.0.0/8", smtp_range=OPEN)
    caller = await house.call(greet=False)
    for piece in (header[:3], header[3:14], header[14:] + b"EHLO client.example\r\n"):
        caller.send(piece)
        await asyncio.sleep(0)
    assert (await caller.reply()).startswith("220") and (await caller.reply()).startswith("250")
    assert (await caller.mail(MAIL)).startswith("250")
    (message,) = house.queued()
    assert message["connection"]["remote-ip"] == client
    assert client in message["mime"].partition("\r\n")[0]


@pytest.mark.parametrize("octets", [
    b"EHLO client.example\r\n", b"PROXY TCP4 a b c d\r\n", b"PROXY TCP4 192.0.2.9 198.51.100.1 99999 25\r\n",
    b"PROXY " + b"x" * 200, SIGNATURE + b"\x11\x11\x00\x0c" + b"x" * 12, SIGNATURE + b"\x21\x11\xff\xff",
    SIGNATURE + b"\x21\x11\x00\x04abcd", b"GET / HTTP/1.1\r\n\r\n",
])  # fmt: skip
async def test_what_a_proxy_sends_without_a_header_is_turned_away(house: House, octets: bytes) -> None:
    """Nothing is read as mail, or anybody behind it would pass for the proxy; it is reported."""
    await house.open(smtp_proxy="127.0.0.1")
    caller = await house.call(greet=False)
    caller.send(octets)
    with contextlib.suppress(ConnectionResetError):  # what it sent was not read
        assert await caller.rest() == b""
    await house.until(lambda: bool(house.told(Rejected)))
    (rejected,) = house.told(Rejected)
    assert rejected.remote_ip == "127.0.0.1" and "PROXY" in rejected.reason


async def test_a_header_of_anybody_else_is_no_command(house: House) -> None:
    """Else each client could choose its address."""
    await house.open(smtp_proxy="192.0.2.1")
    caller = await house.call(greet=False)
    assert (await caller.reply()).startswith("220")
    assert (await caller.say("PROXY TCP4 192.0.2.9 198.51.100.1 5000 25"))[:1] in "45"
    assert await caller.rest() == b""


async def test_who_may_connect_is_asked_of_the_client_behind_the_proxy(house: House) -> None:
    """Not of the proxy."""
    await house.open(smtp_proxy="127.0.0.1", smtp_range="192.0.2.0/24")
    one, other = await house.call(greet=False), await house.call(greet=False)
    one.send(b"PROXY TCP4 192.0.2.9 198.51.100.1 5000 25\r\n")
    other.send(b"PROXY TCP4 198.51.100.9 198.51.100.1 5000 25\r\n")
    assert (await one.reply()).startswith("220")
    assert (await other.reply())[:1] in "45"


async def test_tls_follows_the_header(house: House, certificate: Path, trusted: ssl.SSLContext) -> None:
    """On the secure port too, where both may come in one segment."""
    await house.open(smtp_proxy="127.0.0.1", smtp_range=OPEN, smtp_certificate=certificate, smtp_secure_port=0)
    plain = await house.call(greet=False)
    plain.send(b"PROXY TCP4 192.0.2.9 198.51.100.1 5000 25\r\n")
    assert (await plain.reply()).startswith("220") and (await plain.say("EHLO x")).startswith("250")
    await plain.starttls(trusted)
    assert (await plain.say("EHLO x")).startswith("250")
    loop = asyncio.get_running_loop()
    raw = socket.create_connection(house.intake.addresses[1])
    raw.setblocking(False)
    await loop.sock_sendall(raw, second("192.0.2.9", "198.51.100.1"))
    caller = Caller(*await asyncio.open_connection(sock=raw, ssl=trusted, server_hostname="localhost"))
    assert (await caller.reply()).startswith("220") and (await caller.say("EHLO x")).startswith("250")
    assert (await caller.mail(MAIL)).startswith("250")
    caller.writer.close()
    assert house.queued()[0]["connection"] | {"local-port": 25} == {
        "local-ip": "198.51.100.1", "local-port": 25, "remote-ip": "192.0.2.9", "remote-port": 5000, "secure": True,
        "user": "",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
async def test_mail_comes_through_haproxy(house: House, tmp_path: Path, version: str) -> None:
    """Both versions, with HAProxy's own check of the server."""
    await house.open(smtp_proxy="127.0.0.1", smtp_range="127.0.0.9")
    port, config = free_port(), tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"listen mail\n bind 127.0.0.1:{port}\n server there 127.0.0.1:{house.intake.addresses[0][1]} {version} check\n"
    )
    process = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", str(config), stderr=-3, stdout=-3)
    try:
        caller = None
        async with asyncio.timeout(20):
            while caller is None:
                try:
                    caller = Caller(*await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0)))
                except OSError:
                    await asyncio.sleep(0.05)
        assert (await caller.reply()).startswith("220") and (await caller.say("EHLO x")).startswith("250")
        assert (await caller.mail(MAIL)).startswith("250")
        caller.writer.close()
    finally:
        process.kill()
        await process.wait()
    assert house.queued()[0]["connection"]["remote-ip"] == "127.0.0.9"
