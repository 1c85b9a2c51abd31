"""The attacks of the attacker's hour, one function each: what they give is lines of its table."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import smtplib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httpx
import psutil

from tests.bench.strangers import offer
from tests.pipeline.intake.test_open_relay import TRICKS
from tests.pipeline.intake.test_strangers import STEERING
from tests.support.program import Program
from tests.support.source import Source
from tests.support.strangers import scene
from tests.system.attacked import SECRET, USER, AttackedProgram, Figure
from tests.system.smtp_dialogues import FALSE_ENDS
from tests.system.test_console_attacked import ATTACKS, BOMBS, SHARE

Attack = Callable[[AttackedProgram], list[Figure]]
SMUGGLED = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@x.example>\r\nDATA\r\nX-Number: smuggled\r\n\r\nx\r\n"
HALVES = {
    "nothing": b"", "half a greeting": b"EHL", "half a command": b"EHLO x\r\nMAIL FROM:<a@b",
    "half a message": b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<i@local.example>\r\nDATA\r\nSubject: x\r\n\r\nhalf",
    "half a handshake": b"EHLO x\r\nSTARTTLS\r\n",
}  # fmt: skip
HELD = 150  # connections of each attack
BEARABLE = 10.0  # seconds for a mail and a page, beside an attack, on a machine that does other work too


def relay(target: AttackedProgram) -> list[Figure]:
    """Every way to write a recipient, with a login and without: only a plain local address is taken from a stranger."""
    wrong = []
    for path, *replies in TRICKS:
        for who, reply in zip((False, True), replies, strict=True):
            with target.smtp(user=USER if who else "", password=SECRET) as session:
                session.docmd("MAIL FROM:<a@ext.example>")
                session.send(f"RCPT TO:{path}\r\n")
                code, text = session.getreply()
                said = f"{code} {text.decode()}"
            if (said != reply) if reply else (code != 500):
                wrong.append(f"{'a user' if who else 'a stranger'}: {path}: {said}")
    what = f"relay matrix: {len(TRICKS)} ways to write a recipient, with and without a login"
    return [Figure(what, "; ".join(wrong[:3]) or "each as it should be", "no stranger's mail leaves", not wrong)]


def smuggling(target: AttackedProgram) -> list[Figure]:
    """False ends, from outside and on the way out: one message each, and no bare CR or LF leaves."""
    before = target.settled()
    with target.smtp(user=USER, password=SECRET) as session:
        taken = sum(_smuggle(session, end) for end in FALSE_ENDS)
    inwards, smuggled = target.settled() - before, target.mailbox.accepted["smuggled"]
    mime = [
        f"Subject: x\n\ntext{end.decode('latin-1')}{SMUGGLED.decode()}.\r\n" for end in FALSE_ENDS if b"\0" not in end
    ]
    with target.token() as client:
        for text in mime:
            body = {"recipient": "you@fine.example", "envelope": "a@ours.example", "mime": text}
            answer = client.post("/api/v1/messages", json=body)
            assert answer.status_code < 300, answer.text
    outwards = target.settled() - before - inwards
    bare = [m for m in target.mailbox.messages if b"\n" in m.replace(b"\r\n", b"") or b"\r" in m.replace(b"\r\n", b"")]
    return [
        Figure(f"{len(FALSE_ENDS)} false ends of a message, in", f"{taken} taken, {inwards} delivered",
               "one for one, none smuggled", taken == inwards and not smuggled),
        Figure(f"{len(mime)} false ends of a message, out", f"{outwards} delivered, {len(bare)} with a bare CR or LF",
               "one for one, none", outwards == len(mime) and not bare),
    ]  # fmt: skip


def _smuggle(session: smtplib.SMTP, end: bytes) -> int:
    """1 where the message was taken, 0 where it was refused; the session goes on in step either way."""
    for line in ("MAIL FROM:<a@ours.example>", "RCPT TO:<you@fine.example>", "DATA"):
        session.docmd(line)
    session.send(b"X-Number: first\r\n\r\ntext" + end + SMUGGLED + b".\r\n")
    code, _ = session.getreply()
    assert session.docmd("NOOP")[1] == b"2.0.0 Still here"
    return int(code == 250)


def steering(target: AttackedProgram) -> list[Figure]:
    """x-mq fields of a stranger: they go without effect; those of a user have one."""
    before, from_elsewhere = target.settled(), target.mailbox.peers["127.0.0.77"]
    with target.smtp() as session:
        fields = STEERING.decode() + "x-mq-ip: 127.0.0.77\r\nx-mq-maxattempts: 0\r\n"
        session.sendmail("a@ext.example", "info@local.example", fields + "X-Number: steered\r\n\r\nx\r\n")
    came = target.settled() - before
    steered = target.mailbox.peers["127.0.0.77"] - from_elsewhere
    left = sum(b"x-mq" in message.lower() for message in target.mailbox.messages)
    figure = f"{came} delivered, {steered} steered, {left} with the fields"
    return [Figure("a stranger's x-mq fields", figure, "1, 0, 0", (came, steered, left) == (1, 0, 0))]


def halves(target: AttackedProgram) -> list[Figure]:
    """Half requests and slow bytes on every port: mail and pages beside them."""
    found = []
    for name, port in target.ports.items():
        sent, secure = (HALVES if name.startswith("SMTP") else ATTACKS), name in ("SMTPS", "HTTPS")
        worst = 0.0
        with target.operator() as operator:
            for octets in sent.values():
                with _held(port, HELD, octets, target.trust if secure else None):
                    begin = time.monotonic()
                    target.sends()
                    assert operator.get("/settings").status_code == 200
                    worst = max(worst, time.monotonic() - begin)
        what = f"{name}: {HELD} connections with half a request and slow bytes, {len(sent)} kinds"
        found.append(Figure(what, f"a mail and a page in {worst:.2f} s", f"{BEARABLE:.0f} s", worst < BEARABLE))
    return found


@contextlib.contextmanager
def _held(port: int, count: int, octets: bytes, trust: ssl.SSLContext | None) -> Iterator[None]:
    """Connections that send this, and then an octet now and then; every third of a secure port speaks TLS."""
    opened, over = [], threading.Event()
    for number in range(count):
        with contextlib.suppress(OSError):
            client = socket.create_connection(
                ("127.0.0.1", port), 20, source_address=(f"127.66.0.{number % 20 + 1}", 0)
            )
            opened.append(client)
            if trust is not None and number % 3 == 0 and number < 30:
                opened[-1] = client = trust.wrap_socket(client, server_hostname="localhost")
            client.sendall(octets)
            client.setblocking(False)

    def crawl() -> None:
        while not over.wait(0.3):
            for client in opened:
                with contextlib.suppress(OSError, ValueError):
                    client.send(b"x")

    crawler = threading.Thread(target=crawl)
    crawler.start()
    try:
        yield
    finally:
        over.set()
        crawler.join()
        for client in opened:
            client.close()


def bombs(target: AttackedProgram) -> list[Figure]:
    """Hostile cookies and headers, over HTTP and HTTPS: what the worst takes of the processor."""
    worst, which = 0.0, ""
    for name, octets in BOMBS.items():
        for secure in (False, True):
            before = target.burnt()
            with socket.create_connection(
                ("127.0.0.1", target.https_port if secure else target.program.www_port), 30
            ) as raw:
                client = target.trust.wrap_socket(raw, server_hostname="localhost") if secure else raw
                with contextlib.suppress(OSError):
                    client.sendall(octets)
                    client.recv(100)
            if (burnt := target.burnt() - before) > worst:
                worst, which = burnt, name
    what = f"{len(BOMBS)} hostile cookies, headers and bodies, over HTTP and HTTPS"
    return [Figure(what, f"{worst:.2f} s of the processor at most ({which})", f"{SHARE} s", worst < SHARE)]


def sessions(target: AttackedProgram) -> list[Figure]:
    """After the logout a session is none, and a revoked token is none; others go on."""
    with target.operator() as operator, target.operator() as other, target.token() as api:
        cookies = dict(operator.cookies.items())
        made = api.post("/api/v1/tokens", json={"name": f"t{time.time_ns()}"}).json()
        assert operator.get("/settings").status_code == 200
        operator.post("/logout")
        with target.browser() as thief, target.token(made["secret"]) as program:
            logged_out = thief.get("/settings", cookies=cookies).status_code
            valid = program.get("/api/v1/lanes").status_code
            api.delete(f"/api/v1/tokens/{made['token']['id']}")
            revoked = program.get("/api/v1/lanes").status_code
        goes_on = other.get("/settings").status_code
    return [
        Figure("a cookie after its logout; another session", f"{logged_out}; {goes_on}", "303; 200",
               (logged_out, goes_on) == (303, 200)),
        Figure("a token before and after it is revoked", f"{valid}, {revoked}", "200, 401",
               (valid, revoked) == (200, 401)),
    ]  # fmt: skip


def new_password(_: AttackedProgram) -> list[Figure]:
    """A session, after a restart with the same password and after one with another; of a program of its own."""
    answers, cookies = [], dict[str, str]()
    with tempfile.TemporaryDirectory() as name:
        for password in ("one of the tests, long", "one of the tests, long", "another of the tests"):
            with Program(pathlib.Path(name), www_password=password) as program:
                with httpx.Client(base_url=f"http://127.0.0.1:{program.www_port}") as client:
                    if not cookies:
                        client.post("/login", data={"password": password})
                        cookies = dict(client.cookies.items())
                with httpx.Client(base_url=f"http://127.0.0.1:{program.www_port}") as thief:
                    answers.append(thief.get("/settings", cookies=cookies).status_code)
                program.stop()
    figure = ", ".join(map(str, answers))
    what = "a session; after a restart; after a new password"
    return [Figure(what, figure, "200, 200, 303", answers == [200, 200, 303])]


def hanging(count: int, seconds: float, rate: int = 40) -> list[Figure]:
    """Receivers that take the connection and say nothing, beside a healthy one: what it gets of what is taken for it.

    Less is offered to a busy machine, so shares are compared, not rates; and what a mail costs, whoever it is for.
    """
    alone, beside = (_healthy(strangers, rate, seconds) for strangers in (0, count))
    what = f"a healthy receiver beside {count} that hang: delivered of what was taken in {seconds:.0f} s, and 2 s later"
    figure = (
        f"{beside.delivered} of {beside.taken}, {beside.cost:.2f} ms of the processor a mail; "
        f"alone {alone.delivered} of {alone.taken}, {alone.cost:.2f} ms"
    )
    share_beside, share_alone = (one.delivered / max(1, one.taken) for one in (beside, alone))
    return [Figure(what, figure, "95 % of its share alone", bool(beside.taken) and share_beside >= 0.95 * share_alone)]


class Healthy(NamedTuple):
    """Of the healthy receiver's mail: what was delivered, what was taken; milliseconds of the processor a mail."""

    delivered: int
    taken: int
    cost: float


def _healthy(strangers: int, rate: int, seconds: float) -> Healthy:
    """Those that hang have theirs already, and more comes for them meanwhile."""
    with tempfile.TemporaryDirectory() as name, scene(pathlib.Path(name), hanging=strangers) as stage:
        port, domains = stage.program.smtp_port, tuple(f"h{number}.example" for number in range(strangers))
        assert stage.program.process is not None
        process = psutil.Process(stage.program.process.pid)

        async def run() -> list[int]:
            offers = [offer(port, ("healthy.example",), rate, seconds, 0)]
            if strangers:
                offers.append(offer(port, domains, rate, seconds, 20_000_000))
            return await asyncio.gather(*offers)

        if strangers:
            asyncio.run(Source(port, strangers, 5, 2048, lambda n: domains[n % strangers], 10_000_000).run())
            time.sleep(3)
        before = sum(process.cpu_times()[:2])
        taken = asyncio.run(run())
        time.sleep(2)
        cost = 1000 * (sum(process.cpu_times()[:2]) - before) / max(1, sum(taken))
        return Healthy(stage.mailbox.total, taken[0], cost)
