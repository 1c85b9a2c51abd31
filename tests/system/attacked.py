"""What is attacked: the whole program with all its doors open, a receiver behind it, and those who use it rightly."""

from __future__ import annotations

import base64
import contextlib
import pathlib
import smtplib
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

import argon2
import httpx
import psutil
import trustme

from tests.support.api import TOKEN
from tests.support.mailbox import Mailbox
from tests.support.program import Program, free_port

PASSWORD = "console of the tests"
USER, SECRET = "joe", "right of the tests"
OTHERS = 200  # more users, `u0` and so on


class Figure(NamedTuple):
    """A line of the table: what was measured, the figure, what it may be, whether it is."""

    what: str
    figure: str
    bound: str
    right: bool

    def __str__(self) -> str:
        return f"| {self.what} | {self.figure} | {self.bound} | {'pass' if self.right else 'FAIL'} |"


class AttackedProgram:
    """The program and its users."""

    def __init__(self, program: Program, mailbox: Mailbox, trust: ssl.SSLContext) -> None:
        self.program, self.mailbox, self.trust = program, mailbox, trust
        self.smtps_port, self.https_port = (
            int(str(program.options[f"{name}_secure_port"])) for name in ("smtp", "www")
        )
        assert program.process is not None
        self.process = psutil.Process(program.process.pid)
        self._count = 0

    @property
    def ports(self) -> dict[str, int]:
        """Every door, by its name."""
        program = self.program
        return {
            "SMTP": program.smtp_port, "SMTPS": self.smtps_port, "console": program.www_port, "HTTPS": self.https_port,
        }  # fmt: skip

    def browser(self, **headers: str) -> httpx.Client:
        """A client of the console, with a connection for each request."""
        limits, url = httpx.Limits(max_keepalive_connections=0), f"https://localhost:{self.https_port}"
        return httpx.Client(base_url=url, verify=self.trust, limits=limits, timeout=60, headers=headers)

    @contextlib.contextmanager
    def operator(self) -> Iterator[httpx.Client]:
        """Somebody who is logged in."""
        with self.browser() as client:
            assert client.post("/login", data={"password": PASSWORD}).status_code == 303
            yield client

    def token(self, token: str = TOKEN) -> httpx.Client:
        """A program that has a token."""
        return self.browser(Authorization=f"Bearer {token}")

    def smtp(self, *, user: str = "", password: str = "", address: str = "127.0.0.1") -> smtplib.SMTP:
        """A session on the secure port, logged in where a user is given."""
        session = smtplib.SMTP_SSL(
            "localhost", self.smtps_port, timeout=60, context=self.trust, source_address=(address, 0)
        )
        session.ehlo("client.example")
        if user:
            session.login(user, password)
        return session

    def sends(self) -> float:
        """Send one mail as a user; seconds until it is delivered."""
        self._count += 1
        number, begin = f"own-{self._count}", time.monotonic()
        with self.smtp(user=USER, password=SECRET) as session:
            session.sendmail("joe@ours.example", "you@fine.example", f"X-Number: {number}\r\n\r\nHello\r\n")
        while not self.mailbox.accepted[number]:
            if time.monotonic() - begin > 60:
                raise TimeoutError("a mail of ours was not delivered in 60 s")
            time.sleep(0.02)
        return time.monotonic() - begin

    def settled(self) -> int:
        """How many messages the receiver has, once nothing more comes."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < 1.5:
            if self.mailbox.total != before:
                before, since = self.mailbox.total, time.monotonic()
            time.sleep(0.05)
        return before

    def burnt(self) -> float:
        """Seconds of the processor that the program has used."""
        return sum(self.process.cpu_times()[:2])


def plain(user: str, password: str) -> str:
    """The one line of AUTH PLAIN."""
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


@contextlib.contextmanager
def attacked_program(folder: pathlib.Path) -> Iterator[AttackedProgram]:
    """TLS on every door, users in a file; mail for `local.example` from anybody, the rest from who is logged in."""
    authority = trustme.CA()
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    hasher = argon2.PasswordHasher()
    known = hasher.hash(SECRET)  # of all of them: making one takes as long as guessing one
    lines = [f"{USER}:{known}", *(f"u{number}:{known}" for number in range(OTHERS))]
    (folder / "users").write_text("\n".join(lines) + "\n")
    keys = {
        f"{server}_{key}": folder / "both.pem" for server in ("smtp", "www") for key in ("certificate", "privatekey")
    }
    with Mailbox(keep=True) as mailbox:
        program = Program(
            folder,
            smtp_secure_port=free_port(),
            www_secure_port=free_port(),
            smtp_auth=f"file://{folder / 'users'}",
            www_password=hasher.hash(PASSWORD),
            api_token=TOKEN,
            rabbitmq_local="outbox",
            delivery_sink=f"127.0.0.1:{mailbox.port}",
            **keys,
        )
        with program:
            found = AttackedProgram(program, mailbox, trust)
            answer = found.token().post("/api/v1/locals", json={"type": "wildcard", "pattern": "*@local.example"})
            assert answer.status_code == 201, answer.text
            yield found
