"""Strangers at the console's ports, beside mail that goes on, an operator who is logged in, and Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest
import trustme
import websockets

from gui.access.connections import EACH, HEADER
from gui.web.protocol import FIELDS, LONGEST
from tests.support.api import TOKEN
from tests.support.mailbox import Mailbox
from tests.support.program import Program, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.system
PASSWORD = "secret of the tests"
START = b"GET /login HTTP/1.1\r\nHost: localhost\r\n"


class Attacked:
    """A running program and its users.

    Attributes:
        operator: who is logged in.
    """

    def __init__(self, program: Program, mailbox: Mailbox, secure: int) -> None:
        self.program, self.mailbox, self.secure = program, mailbox, secure
        self.url = f"http://127.0.0.1:{program.www_port}"
        # As users have them: each request on a connection of its own.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.operator = httpx.Client(base_url=f"https://127.0.0.1:{secure}", verify=False, limits=limits, timeout=20)
        assert self.operator.post("/login", data={"password": PASSWORD}).status_code == 303
        token = {"Authorization": f"Bearer {TOKEN}"}
        self.prometheus = httpx.Client(
            base_url=f"https://127.0.0.1:{secure}", verify=False, limits=limits, timeout=20, headers=token
        )
        assert program.process is not None
        self.process = psutil.Process(program.process.pid)

    def works(self) -> None:
        """A mail is delivered, the operator sees a page, Prometheus its figures, a watcher that all is well."""
        before = self.mailbox.total
        with smtplib.SMTP("127.0.0.1", self.program.smtp_port, timeout=20) as smtp:
            smtp.sendmail("me@example.org", "you@fine.example", "Subject: Hi\r\n\r\nHello\r\n")
        assert self.operator.get("/settings").status_code == 200
        assert self.prometheus.get("/metrics").status_code == 200
        assert httpx.get(f"https://127.0.0.1:{self.secure}/healthz", verify=False, timeout=20).text == "ok\n"
        end = time.monotonic() + 30
        while self.mailbox.total == before and time.monotonic() < end:
            time.sleep(0.02)
        assert self.mailbox.total > before

    def connections(self) -> int:
        """Open ones at the console's ports."""
        ports = (self.program.www_port, self.secure)
        return sum(
            connection.laddr.port in ports and connection.status == psutil.CONN_ESTABLISHED
            for connection in self.process.net_connections("tcp")
        )


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """A program with a plain and a secure port, whose mail goes to a mailbox."""
    folder, secure = tmp_path_factory.mktemp("attacked"), free_port()
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    with Mailbox("127.0.0.1") as mailbox:
        program = Program(
            folder,
            www_password=PASSWORD,
            api_token=TOKEN,
            www_secure_port=secure,
            www_certificate=folder / "both.pem",
            www_privatekey=folder / "both.pem",
            delivery_sink=f"127.0.0.1:{mailbox.port}",
        )
        with program:
            yield Attacked(program, mailbox, secure)


@contextlib.contextmanager
def many(port: int, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that send this and then nothing."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection(("127.0.0.1", port), 20))
            opened[-1].settimeout(20)
            with contextlib.suppress(OSError):
                opened[-1].sendall(sent)
        yield opened
    finally:
        for one in opened:
            one.close()


def answer(port: int, sent: bytes) -> bytes:
    """The first line of the answer to these octets."""
    with many(port, 1) as (client,), contextlib.suppress(ConnectionResetError):
        with contextlib.suppress(OSError):
            client.sendall(sent)
        return client.recv(4096).partition(b"\r\n")[0]
    return b"closed"


ATTACKS = {
    "nothing": b"",
    "half a header": START + b"X-A: ",
    "half a body": b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
    "half a chunk": b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc",
    "half a websocket": b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "pipelined": (START + b"\r\n") * 200,
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_flood_of_unfinished_requests_displaces_itself(attacked: Attacked, attack: str, secure: bool) -> None:
    """From one address at most EACH stay; everybody else works (S1, K13)."""
    port = attacked.secure if secure else attacked.program.www_port
    with many(port, 300, ATTACKS[attack]):
        attacked.works()
        if not secure:  # `works` comes by the other port; each takes its connections in turn
            assert answer(port, START + b"\r\n")
        until(lambda: attacked.connections() <= EACH + 10, "too many stay", HEADER / 2)


def test_unfinished_requests_end(attacked: Attacked) -> None:
    """After HEADER seconds, also where an octet comes now and then; all kinds at once (S1)."""
    ports = (attacked.program.www_port, attacked.secure)
    with contextlib.ExitStack() as stack:
        held = [
            client for sent in ATTACKS.values() for port in ports for client in stack.enter_context(many(port, 3, sent))
        ]
        slow = stack.enter_context(many(ports[0], 5, START))

        def gone() -> bool:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.sendall(b"X-Slow: 1\r\n")
            return all(map(closed, [*held, *slow]))

        until(gone, "some requests did not end", HEADER + 5, every=0.3)


def closed(client: socket.socket) -> bool:
    """Whether the other side has closed it; what it sent is read."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


BOMBS = {
    "a cookie of backslashes": START + b'Cookie: mailrace_session="' + b"\\" * 30_000 + b'"\r\n\r\n',
    "a cookie of pairs": START + b"Cookie: " + b"a=b; " * 6_000 + b"\r\n\r\n",
    "quoted pairs": START + b"Cookie: " + b'a="\\073\\042"; ' * 2_000 + b"\r\n\r\n",
    "query parameters": b"GET /login?" + b"a&" * 15_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "percents": b"GET /" + b"%25" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "slashes": b"GET /" + b"/." * 15_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "ranges": b"GET /static/console.js HTTP/1.1\r\nHost: x\r\nRange: bytes=" + b"0-1," * 7_000 + b"\r\n\r\n",
    "accepted kinds": START + b"Accept: " + b"a/b;q=0.1," * 3_000 + b"\r\n\r\n",
    "tokens": b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a" * 30_000 + b"\r\n\r\n",
    "proxies": START + b"X-Forwarded-For: " + b"1.1.1.1," * 3_500 + b"\r\n\r\n",
    "a form": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n" + b"a=%25&" * 666 + b"a=%2",
    "multipart": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=" + b"-" * 20_000 +
                 b"\r\nContent-Length: 4000\r\n\r\n" + b"-" * 4_000,
    "chunks": b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 5_000,
    "trailers": b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 9_000,
}  # fmt: skip
SHARE = 0.5  # seconds of the processor: the worst of them take some 10 s where they are parsed in quadratic time


@pytest.mark.parametrize("bomb", BOMBS)
def test_nothing_that_fits_takes_long_to_parse(attacked: Attacked, bomb: str) -> None:
    """Measured by the processor's time of the whole program, which nobody else on the machine takes (S1)."""
    before = sum(attacked.process.cpu_times()[:2])
    assert answer(attacked.program.www_port, BOMBS[bomb])
    assert sum(attacked.process.cpu_times()[:2]) - before < SHARE


def test_headers_are_bounded(attacked: Attacked) -> None:
    """In octets and in number; the answer says so (S1)."""
    port = attacked.program.www_port
    assert answer(port, START + b"X-A: " + b"a" * (2 * LONGEST) + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert answer(port, START + b"X-A: b\r\n" * (FIELDS + 1) + b"\r\n").startswith(b"HTTP/1.1 400")
    assert answer(port, b"GET /" + b"a" * (2 * LONGEST) + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 431")


def test_megabytes_of_headers_take_no_memory(attacked: Attacked) -> None:
    """They are not read (S1)."""
    before = attacked.program.resident()
    with many(attacked.program.www_port, 100, START + b"X-A: " + b"a" * 1_000_000):
        attacked.works()
        assert attacked.program.resident() - before < 30_000_000


async def test_a_socket_may_not_act_after_the_logout(attacked: Attacked) -> None:
    """What it says is not heard, and it is closed soon; another session goes on (S3)."""
    with httpx.Client(base_url=f"https://127.0.0.1:{attacked.secure}", verify=False) as browser:
        await asyncio.to_thread(browser.post, "/login", data={"password": PASSWORD})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        where = f"wss://127.0.0.1:{attacked.secure}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        async with websockets.connect(where, additional_headers={"Cookie": cookie}, ssl=trust) as page:
            assert str(await page.recv()).startswith("0{")
            await page.send("40")
            assert str(await page.recv()).startswith("40")
            await asyncio.to_thread(browser.post, "/logout")
            await page.send("41")  # socket.io's good-bye, which is answered by a close at once
            with pytest.raises(websockets.ConnectionClosed):
                async with asyncio.timeout(15):
                    while True:
                        await page.recv()
    assert attacked.operator.get("/settings").status_code == 200


def test_nothing_is_written_of_all_this_but_a_line_a_minute(attacked: Attacked) -> None:
    """No traceback, and no line for each connection (S1)."""
    assert "Traceback" not in attacked.program.output
    assert len(attacked.program.output) < 20_000
    metrics = attacked.prometheus.get("/metrics").text
    assert 'mailrace_console_closed_total{why="displaced"}' in metrics


def test_the_operator_still_works(attacked: Attacked, tmp_path: pathlib.Path) -> None:
    """After everything."""
    attacked.works()


def test_a_logout_lasts_over_a_restart(tmp_path: pathlib.Path) -> None:
    """SIGKILL too; the other session lasts as well (S3)."""
    program = Program(tmp_path, www_password=PASSWORD, smtp_port=free_port())
    ask: Callable[[dict[str, str]], int]

    def ask(cookies: dict[str, str]) -> int:
        return httpx.get(f"http://127.0.0.1:{program.www_port}/queue", cookies=cookies).status_code

    url = f"http://127.0.0.1:{program.www_port}"
    program.smtp_port = int(str(program.options["smtp_port"]))
    with program:
        ended, lasting = (
            dict(httpx.post(f"{url}/login", data={"password": PASSWORD}).cookies.items()) for _ in range(2)
        )
        assert httpx.post(f"{url}/logout", cookies=ended).status_code == 303
        program.kill()
    with program:
        assert (ask(ended), ask(lasting)) == (303, 200)
