"""What lies elsewhere: the message store, and files on web servers."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import ipaddress
import json
import pathlib
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import settings
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message, decode
from operators.mail.source import source_of
from pipeline.sources.downloads import is_public
from pipeline.sources.gathering import Gathering
from tests.support.program import free_port, listens
from tests.support.waiting import until

MIME = b"From: a@b.example\r\nSubject: kept elsewhere\r\n\r\nhello\r\n"


class Web(http.server.BaseHTTPRequestHandler):
    """A web server with files, redirects and mistakes."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """One file."""
        type(self).asked.append(self.path)
        code = int(self.path[1:4]) if self.path[1:4].isdigit() else 200
        body = b"x" * 5000 if "large" in self.path else MIME if "mail" in self.path else b"%PDF-1.4"
        self.send_response(code)
        if code == 302:
            self.send_header("Location", self.path.partition("=")[2])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """Its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def gathered(body: dict[str, Any], *options: str) -> tuple[Message | Outcome, list[str]]:
    """What becomes of a message, and what was said."""
    told: list[str] = []

    async def run() -> Message | Outcome:
        loop = asyncio.get_running_loop()
        configured = settings.load([f"--{option}" for option in options], {}, None)

        def said(kind: str, text: str) -> None:
            told.append(text)

        gathering = Gathering(configured, lambda work, _: loop.create_task(work), lambda: 1000.0, loop.time, said)
        found: asyncio.Future[Message | Outcome] = loop.create_future()
        gathering(decode(json.dumps({"recipient": "a@b.example", "envelope": "", **body}).encode()), found.set_result)
        try:
            return await found
        finally:
            await gathering.close()

    return asyncio.run(run()), told


def sent(body: dict[str, Any], *options: str) -> bytes:
    """The mail that is made."""
    found, _ = gathered(body, *options)
    assert isinstance(found, Message), found
    return source_of(found)


def ended(body: dict[str, Any], *options: str) -> Outcome:
    """How it ends instead."""
    found, _ = gathered(body, *options)
    assert isinstance(found, Outcome), found
    return found


def with_file(url: str, **more: str) -> dict[str, Any]:
    """A message with a file from there."""
    return {"mime": {"from": "a@b.example", "text": "t", "attachments": [{"url": url, **more}]}}


def test_a_message_is_read_from_a_folder(tmp_path: pathlib.Path) -> None:
    """By its key, in nested folders or not, compressed or not."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "abc").write_bytes(MIME)
    (tmp_path / "flat").write_bytes(gzip.compress(MIME))
    assert sent({"key": "abc"}, f"storage-address=directory://{tmp_path}?depth=2") == MIME
    assert sent({"key": "flat"}, f"storage-address=dir://{tmp_path}?depth=2") == MIME


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "..", "a/b", "", "x\0y", "not-there"])
def test_a_key_that_is_no_file_of_the_folder_is_given_up(tmp_path: pathlib.Path, key: str) -> None:
    """storage/error: a key never leaves the folder."""
    (tmp_path / "secret").write_text("s")
    store = tmp_path / "store"
    (store / "a").mkdir(parents=True)
    (store / "a" / "b").write_text("s")
    end = ended({"key": key}, f"storage-address=dir://{store}")
    assert (end.state, end.result, end.next) == ("storage", "error", Next.FAIL)


def test_a_message_is_read_from_a_table(tmp_path: pathlib.Path) -> None:
    """The one that has a key and a value; one that is too large is given up unread."""
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("CREATE TABLE messages (`key` TEXT PRIMARY KEY, value BLOB)")
        database.execute("INSERT INTO messages VALUES ('k', ?), ('large', ?)", (MIME, b"x" * 5000))
    store = f"storage-address=sqlite://{tmp_path}/s.db"
    assert sent({"key": "k"}, store) == MIME
    assert ended({"key": "none"}, store).next is Next.FAIL
    assert "larger than smtp-maxsize" in ended({"key": "large"}, store, "smtp-maxsize=4000").description


def test_a_message_is_read_from_a_web_server(web: int) -> None:
    """At the address with the key behind it; what it does not have is given up."""
    assert sent({"key": "mail/1"}, f"storage-address=http://127.0.0.1:{web}/") == MIME
    assert Web.asked[-1] == "/mail%2F1"
    assert ended({"key": "404"}, f"storage-address=http://127.0.0.1:{web}").next is Next.FAIL
    assert ended({"key": "500"}, f"storage-address=http://127.0.0.1:{web}").next is Next.RETRY


def test_a_store_that_does_not_answer_is_tried_again_and_said(tmp_path: pathlib.Path) -> None:
    """Not given up, and not an error of the receiver."""
    found, told = gathered({"key": "k"}, f"storage-address=dir://{tmp_path}/gone", "storage-reschedule=60")
    assert isinstance(found, Outcome)
    assert (found.state, found.next, found.until) == ("storage", Next.RETRY, 1060.0)
    assert len(told) == 1 and "no such folder" in told[0]


def test_without_a_store_a_key_is_given_up() -> None:
    """storage/error, never an empty mail."""
    end = ended({"key": "k"})
    assert (end.state, end.result, end.next) == ("storage", "error", Next.FAIL)
    assert "there is no message store to have 'k' from" in end.description


def test_a_file_is_fetched_and_attached(web: int) -> None:
    """With the name and type of its address, where the message has none; fetched once for all messages of a moment."""
    here = "download-whitelist=127.0.0.0/8"
    mail = sent(with_file(f"http://127.0.0.1:{web}/a%20b.pdf"), here)
    assert b"Content-Type: application/pdf" in mail and b'filename="a b.pdf"' in mail and b"JVBERi0xLjQ=" in mail
    assert b"brochure.doc" in sent(with_file(f"http://127.0.0.1:{web}/302=/a.pdf", name="brochure.doc"), here)


@pytest.mark.skipif(shutil.which("microsocks") is None, reason="microsocks is not installed")
def test_a_file_is_fetched_through_a_socks_proxy(web: int) -> None:
    """`socks://` as MailerQ writes it; where it does not answer, the message is tried again."""
    port = free_port()
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(port)]
    proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    options = (f"proxy-server=socks://127.0.0.1:{port}", "download-whitelist=127.0.0.1")
    try:
        until(lambda: listens(port))
        assert b"JVBERi0xLjQ=" in sent(with_file(f"http://127.0.0.1:{web}/c.pdf"), *options)
    finally:
        proxy.kill()
        proxy.wait()
    end = ended(with_file(f"http://127.0.0.1:{web}/d.pdf"), *options)
    assert (end.state, end.result, end.next) == ("responsive", "error", Next.RETRY)


@pytest.mark.parametrize(("url", "options", "why", "next"), [
    ("http://127.0.0.1:{port}/a", [], "is no public address", Next.FAIL),
    ("http://localhost:{port}/a", [], "is no public address", Next.FAIL),
    ("http://[::1]:{port}/a", [], "is no public address", Next.FAIL),
    ("http://2130706433/a", [], "is no public address", Next.FAIL),
    ("http://127.0.0.1:{port}/a", ["download-whitelist=127.0.0.1:1"], "is no public address", Next.FAIL),
    ("http://127.0.0.1:{port}/302=http://127.0.0.2/", ["download-whitelist=127.0.0.1"], "no public address", Next.FAIL),
    ("http://127.0.0.1:{port}/302=file:///etc/passwd", ["download-whitelist=127.0.0.1"], "is no http://", Next.FAIL),
    ("file:///etc/passwd", [], "is no http://", Next.FAIL),
    ("gopher://x.example/", [], "is no http://", Next.FAIL),
    ("http://", [], "is no http://", Next.FAIL),
    ("http://127.0.0.1:{port}/404", ["download-whitelist=127.0.0.1"], "answers 404", Next.FAIL),
    ("http://127.0.0.1:{port}/503", ["download-whitelist=127.0.0.1"], "answers 503", Next.RETRY),
    ("http://127.0.0.1:{port}/large", ["download-whitelist=127.0.0.1", "download-maxsize=4kB"], "larger", Next.FAIL),
    ("http://u:secret@127.0.0.1:1/?token=secret", ["download-whitelist=127.0.0.1"], "127.0.0.1:1/", Next.RETRY),
])  # fmt: skip
def test_a_file_that_cannot_be_had_is_responsive_error(
    web: int, url: str, options: list[str], why: str, next: Next
) -> None:
    """Given up where trying again is of no use, else retried; nothing of this machine, and nothing secret is said."""
    end = ended(with_file(url.format(port=web)), *options)
    assert (end.state, end.result, end.next) == ("responsive", "error", next), end
    assert why in end.description and "secret" not in end.description


@pytest.mark.parametrize("ip", [
    "127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1", "fe80::1", "fd00::1",
    "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "192.168.1.1", "255.255.255.255",
])  # fmt: skip
def test_addresses_of_this_machine_and_of_private_nets_are_not_public(ip: str) -> None:
    """In whatever form they are written."""
    assert not is_public(ipaddress.ip_address(ip))


@pytest.mark.parametrize("ip", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(ip: str) -> None:
    """They may be asked."""
    assert is_public(ipaddress.ip_address(ip))
