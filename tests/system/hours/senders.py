"""The senders: programs that people send mail with, each in a thread, each message with an id of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import shutil
import smtplib
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.support import node
from tests.support.amqp import RawPublisher, properties, short
from tests.support.api import TOKEN
from tests.system.hours.ledger import Ledger
from tests.system.hours.receivers import END, HOSTS, PICKY, WELL

PATIENCE = 60.0  # seconds for one message
FROM = "from@sender.example"
FAILURES = (OSError, smtplib.SMTPException, httpx.HTTPError, subprocess.SubprocessError)


@dataclass
class Doors:
    """Where mail can be handed in.

    Attributes:
        smtp, www: the ports.
        command: `mailrace send` with its configuration.
        broker: its address; empty: there is none.
        folder: for files of senders that want one.
        pace: 1 is the ordinary pace; 0.5 is half of it.
        node: the packages of npm are here.
    """

    smtp: int
    www: int
    command: list[str]
    folder: pathlib.Path
    broker: str = ""
    pace: float = 1.0
    node: bool = False


def mail(id: str, to: str, size: int = 2000) -> bytes:
    """A message as anybody writes it."""
    body = "x" * 76 + "\r\n"
    head = f"From: {FROM}\r\nTo: {to}\r\nSubject: {id}\r\nX-Number: {id}\r\n\r\n"
    return head.encode() + body.encode() * (size // 78) + END + b"\r\n"


class Session:
    """Python's smtplib, over one connection while that lasts."""

    def __init__(self, doors: Doors) -> None:
        self.port = doors.smtp
        self.client: smtplib.SMTP | None = None

    def __call__(self, to: str, text: bytes) -> None:
        try:
            if self.client is None:
                self.client = smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE)
            self.client.sendmail(FROM, [to], text)
        except BaseException:
            if self.client is not None:
                self.client.close()
            self.client = None
            raise


class Rest:
    """`POST /api/v1/messages`."""

    def __init__(self, doors: Doors) -> None:
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{doors.www}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )

    def __call__(self, to: str, text: bytes) -> None:
        message = {"envelope": FROM, "recipient": to, "mime": text.decode()}
        self.client.post("/messages", json=message).raise_for_status()


class Amqp:
    """Publishes to the outbox, with confirms."""

    def __init__(self, doors: Doors) -> None:
        self.address = doors.broker
        self.life: contextlib.ExitStack | None = None

    def __call__(self, to: str, text: bytes) -> None:
        try:
            if self.life is None:
                self.life = contextlib.ExitStack()
                self.publisher = self.life.enter_context(RawPublisher(self.address))
            body = json.dumps({"envelope": FROM, "recipient": to, "mime": text.decode()}).encode()
            header = properties(delivery_mode=b"\x02", message_id=short(to.encode()))
            self.publisher.publish(b"outbox", header, body)
        except BaseException:
            if self.life is not None:
                self.life.close()
            self.life = None
            raise


def program(*command: str) -> Callable[[str, bytes], None]:
    """One that takes a message on standard input; `{to}` is its recipient."""

    def send(to: str, text: bytes) -> None:
        words = [word.replace("{to}", to) for word in command]
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
        )
        if done.returncode:
            raise OSError(
                f"ended with {done.returncode}: {(done.stderr or done.stdout).decode(errors='replace')[-90:]}"
            )

    return send


def smtp_source(doors: Doors) -> Callable[[str, bytes], None]:
    """Postfix's, which wants its message in a file with bare line feeds."""
    file, at = doors.folder / "source", f"127.0.0.1:{doors.smtp}"
    send = program("smtp-source", "-f", FROM, "-t", "{to}", "-F", str(file), at)

    def written(to: str, text: bytes) -> None:
        file.write_bytes(text.replace(b"\r\n", b"\n"))
        send(to, b"")

    return written


def senders(doors: Doors) -> dict[str, tuple[float, Callable[[str, bytes], None]]]:
    """By name: seconds between two messages, and what sends one. Those that are installed."""
    server, port = f"127.0.0.1:{doors.smtp}", str(doors.smtp)
    curl = ("curl", "-sS", f"smtp://{server}", "--mail-from", FROM, "--mail-rcpt", "{to}", "-T", "-")
    swaks = ("swaks", "--server", server, "--from", FROM, "--to", "{to}", "--data", "-", "--hide-all")
    found: dict[str, tuple[float, Callable[[str, bytes], None]]] = {
        "smtplib": (0.15, Session(doors)),
        "rest": (0.7, Rest(doors)),
        "command": (6.0, program(*doors.command, "-f", FROM, "{to}")),
    }
    if shutil.which("curl"):
        found["curl"] = (1.0, program(*curl))
    if shutil.which("swaks"):
        found["swaks"] = (2.0, program(*swaks))
    if shutil.which("smtp-source"):
        found["smtp-source"] = (1.0, smtp_source(doors))
    if doors.node:
        found["nodemailer"] = (3.0, program("node", str(node.FOLDER / "send.js"), port, FROM, "{to}"))
    if doors.broker:
        found["amqp"] = (0.3, Amqp(doors))
    return found


def with_node() -> bool:
    """Fetches the packages of npm where it can; before /etc/resolv.conf is the program's."""
    with contextlib.suppress(node.Missing, subprocess.TimeoutExpired):
        return bool(node.modules())
    return False


@dataclass
class Mail:
    """All senders at work; a context manager. `paused` while set: they wait."""

    ledger: Ledger
    doors: Doors
    seed: int
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Mail:
        for name, (pause, send) in senders(self.doors).items():
            thread = threading.Thread(target=self._run, args=(name, pause / self.doors.pace, send), daemon=True)
            thread.start()
            self.threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more, and what was begun is known."""
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE + 5)

    def _run(self, name: str, pause: float, send: Callable[[str, bytes], None]) -> None:
        dice, domains = random.Random(f"{self.seed} {name}"), list(HOSTS)
        while not self.over.wait(dice.uniform(0.5, 1.5) * pause):
            offer(self.ledger, name, dice.choice([WELL, *domains]), send, dice.choice((300, 2000, 20_000)))


def offer(ledger: Ledger, sender: str, domain: str, send: Callable[[str, bytes], None], size: int = 500) -> str | None:
    """One message; its id, where it was confirmed."""
    id = ledger.offer(sender)
    to = f"{id}@{domain}"
    if domain == PICKY:
        ledger.hopeless.add(id)
    try:
        send(to, mail(id, to, size))
    except FAILURES as error:
        ledger.refuse(sender, f"{type(error).__name__}: {error}")
        return None
    ledger.accept(id)
    return id
