"""Webhooks, posted to a real server on this machine."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from pipeline.alerts import hooks
from pipeline.alerts.hooks import Hooks, NotPosted
from pipeline.alerts.states import AlertNotice
from pipeline.alerts.words import mailed, posted, signature
from settings import load


class Server:
    """Answers each request with the same octets, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer, self.got = b"HTTP/1.1 204 No Content\r\n\r\n", b""
        self.silent = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line.split(b":") for line in head.lower().split(b"\r\n")]
        length = next(int(line[1]) for line in lines if line[0] == b"content-length")
        self.got = head + await reader.readexactly(length)
        if self.silent:
            await reader.read()
        writer.write(self.answer)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    """A server and its address."""
    handler = Server()
    running = await asyncio.start_server(handler, "127.0.0.1", 0)
    yield handler, f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/T0KEN?key=T0KEN"
    running.close()


def poster(*options: str) -> Hooks:
    """With these keys."""
    return Hooks(load(["--alert-whitelist", "127.0.0.1", *options], system_file=None))


async def refusal(address: str, hook: Hooks | None = None) -> NotPosted:
    """Why it is not taken; without what is secret of the address."""
    with pytest.raises(NotPosted) as caught:
        await (hook or poster()).post(address, b"{}", {})
    assert "T0KEN" not in str(caught.value)
    return caught.value


async def test_a_notice_is_posted_whole_and_signed(server: tuple[Server, str]) -> None:
    """Whoever has the secret can check that it is ours."""
    handler, address = server
    await poster().post(address, b'{"a":1}', {"X-Mailrace-Signature": signature("s3", b'{"a":1}')})
    head, _, body = handler.got.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /T0KEN?key=T0KEN HTTP/1.1") and body == b'{"a":1}'
    assert f"x-mailrace-signature: sha256={hmac.digest(b's3', body, 'sha256').hex()}".encode() in head.lower()


@pytest.mark.parametrize(
    ("answer", "again", "wait"),
    [
        (b"500 x\r\n", True, 0),
        (b"503 x\r\nRetry-After: 90\r\n", True, 90),
        (b"429 x\r\nRetry-After: 99999\r\n", True, 600),
        (b"429 x\r\nRetry-After: soon\r\n", True, 0),
        (b"404 x\r\n", False, 0),
        (b"410 x\r\n", False, 0),
        (b"408 x\r\n", True, 0),
    ],
)
async def test_an_answer_says_whether_to_try_again(
    server: tuple[Server, str], answer: bytes, again: bool, wait: float
) -> None:
    """5xx, 408, 425 and 429 pass; how long a server asks to wait is bounded."""
    handler, address = server
    handler.answer = b"HTTP/1.1 " + answer + b"\r\n"
    why = await refusal(address)
    assert (why.again, why.wait, answer[:3].decode() in str(why)) == (again, wait, True)


async def test_no_redirect_is_followed(server: tuple[Server, str]) -> None:
    """It could lead to where only this machine reaches."""
    handler, address = server
    handler.answer = f"HTTP/1.1 302 x\r\nLocation: {address}\r\n\r\n".encode()
    why = await refusal(address)
    assert "no redirect is followed" in str(why) and not why.again


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "localhost"]
)
async def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    """Unless `alert-whitelist` has them; also where a name leads there."""
    hook = Hooks(load([], system_file=None))
    why = await refusal(f"http://{host}/T0KEN", hook)
    assert "alert-whitelist" in str(why) and not why.again


async def test_a_server_that_says_nothing_is_left(server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In time, and is tried again."""
    monkeypatch.setattr(hooks, "PATIENCE", 0.05)
    handler, address = server
    handler.silent = True
    why = await refusal(address)
    assert "does not answer" in str(why) and why.again


async def test_what_is_no_http_a_closed_port_and_a_name_that_is_none(server: tuple[Server, str]) -> None:
    """Each is one line, and may pass."""
    handler, address = server
    handler.answer = b"220 smtp ready\r\n"
    found = [
        await refusal(address),
        await refusal("http://127.0.0.1:1/T0KEN"),
        await refusal("http://no.invalid/T0KEN"),
    ]
    assert all(why.again and "\n" not in str(why) for why in found)
    assert "no.invalid cannot be looked up" in str(found[2])


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "xn--\u2028", "[::1", "a:b:c"])
async def test_a_host_that_is_none_is_not_tried_again(host: str) -> None:
    """It will not become one."""
    assert not (await refusal(f"http://{host}/T0KEN")).again


async def test_a_certificate_must_be_right() -> None:
    """Of the name that the rule has, by an authority that is trusted."""
    ca = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(theirs)
    handler = Server()
    running = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=theirs)
    address = f"https://127.0.0.1:{running.sockets[0].getsockname()[1]}/T0KEN"
    why = await refusal(address)
    assert "certificate" in str(why).lower() and why.again
    ca.configure_trust(ours)
    await Hooks(load(["--alert-whitelist", "127.0.0.1"], system_file=None), ours).post(address, b"{}", {})
    assert handler.got.endswith(b"{}")
    running.close()


@pytest.mark.parametrize(("proxy", "why"), [("socks://127.0.0.1:1", "hooks.example"), ("ftp://x:1", "download-proxy")])
async def test_a_proxy_is_the_one_that_files_come_through(proxy: str, why: str) -> None:
    """In the same forms; one that cannot be used is said."""
    assert why in str(await refusal("http://hooks.example/T0KEN", poster("--download-proxy", proxy)))


NOTICE = AlertNotice(
    id="1-2", time=60, rule=1, name="Ünder", watch="flood", kind="ended", subject="a/b", text="<@all> & co\n2", since=0
)


def test_a_text_for_slack_mentions_nobody() -> None:
    """Its three signs are escaped."""
    body = posted(NOTICE, "mx1", "https://c.example", "slack").decode()
    assert "ENDED mx1: Ünder: &lt;@all&gt; &amp; co" in body and "<https://c.example/alerts|console>" in body


def test_a_mail_is_automatic_and_has_one_header() -> None:
    """No answers, no bounces (RFC 3834); nothing from outside ends a line of the header."""
    mail = mailed(NOTICE, "mx1", "mailrace@c.example", "ops@c.example", "")
    head = mail["mime"].partition("\r\n\r\n")[0]
    assert mail["envelope"] == "" and "Auto-Submitted: auto-generated" in head
    assert all(len(line) <= 78 and line.isascii() for line in head.split("\r\n"))
    assert head.count("\r\nSubject: ") == 1 and "\n2" not in head.replace("\r\n ", "")
