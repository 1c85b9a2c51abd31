"""K1, K3, K6, K13, S2. The whole program among receivers that say odd things: each message has its attempts, its
result and its notice, and nobody pays for another's fault."""

from __future__ import annotations

import contextlib
import json
import resource
import smtplib
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from pipeline.demo.nameserver import NameServer
from tests.support.api import TOKEN, Api
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.receiver import Cut, Receiver
from tests.support.waiting import until

pytestmark = pytest.mark.system

GREETING = "220 müller.test".encode("latin-1") + b"\r\n"
SENDER = "me@notices.example"


def wants_a_certificate() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


RECEIVERS: dict[str, dict[str, Any]] = {
    "notices.example": {},
    "refuses.example": {"script": {"greeting": GREETING, "RCPT": b"550 5.1.1 unbekannt \xfc\x1b\r\n"}},
    "defers.example": {"script": {"greeting": GREETING, "RCPT": b"451 4.3.0 sp\xe4ter\r\n"}},
    "takes.example": {"script": {"greeting": GREETING}},
    "cut.example": {"script": {".": Cut(b"250 2.0.0 o")}},
    "tls.example": {"tls": wants_a_certificate()},
    "five.example": {"script": {"MAIL": ([None] * 5 + ["421 4.7.0 enough"]) * 20}},
    "smart.example": {"extensions": ("AUTH PLAIN",)},
}


class Scene:
    """The program, and its receivers by domain."""

    def __init__(self, program: Program, receivers: dict[str, Receiver]) -> None:
        self.program, self.receivers = program, receivers

    def send(self, recipient: str, *fields: str) -> None:
        """One mail that asks for a notice, with these x-mq fields."""
        source = "\r\n".join((*fields, f"From: {SENDER}", "Subject: x", "", "body", ""))
        with smtplib.SMTP("127.0.0.1", self.program.smtp_port, timeout=30) as smtp:
            smtp.sendmail(SENDER, recipient, source, rcpt_options=["NOTIFY=FAILURE"])

    def attempts(self, recipient: str) -> list[dict[str, Any]]:
        """From the delivery log."""
        path = self.program.folder / "var" / "logs" / "send.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["recipient"] == recipient]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Loop() as loop, contextlib.ExitStack() as stack:
        names, receivers, port = NameServer(), {}, 0
        loop.run(names.start())
        for number, (domain, options) in enumerate(RECEIVERS.items()):
            receivers[domain] = receiver = Receiver(host=f"127.4.0.{number + 1}", port=port, **options)
            loop.run(receiver.__aenter__())
            port = receiver.port
            names.add(domain, "A", receiver.host)
        program = Program(
            tmp_path_factory.mktemp("program"),
            dns_server=f"{names.address}:{names.port}",
            delivery_port=port,
            retry_interval="1",
            max_attempts=2,
            api_token=TOKEN,
        )
        yield Scene(stack.enter_context(program), receivers)
        for receiver in receivers.values():
            loop.run(receiver.__aexit__())


@pytest.mark.parametrize(("domain", "code", "count"), [("refuses.example", 550, 1), ("defers.example", 451, 2)])
def test_a_latin_1_greeting_gets_around_nothing(scene: Scene, domain: str, code: int, count: int) -> None:
    """K1. `max-attempts` holds, and the sender gets one notice."""
    recipient, notices = f"you@{domain}", scene.receivers["notices.example"].messages
    scene.send(recipient)
    until(lambda: any(recipient.encode() in mail.data for mail in notices))
    attempts = scene.attempts(recipient)
    assert [(line["code"], line["attempt"]) for line in attempts] == [(code, n + 1) for n in range(count)]
    assert sum(recipient.encode() in mail.data for mail in notices) == 1
    assert all(line["description"].isprintable() for line in attempts)


@pytest.mark.parametrize("domain", ["takes.example", "cut.example", "tls.example"])
def test_what_was_taken_is_delivered_once(scene: Scene, domain: str) -> None:
    """K1, K3, K6. At the first attempt."""
    scene.send(f"you@{domain}")
    until(lambda: bool(scene.attempts(f"you@{domain}")))
    assert [(line["result"], line["attempt"]) for line in scene.attempts(f"you@{domain}")] == [("accepted", 1)]


def test_five_a_connection_cost_no_retry(scene: Scene) -> None:
    """K3. Twelve mails, one after another, all at the first attempt."""
    for count in range(12):
        scene.send("you@five.example")
        until(lambda count=count: len(scene.attempts("you@five.example")) > count)  # type: ignore[misc]
    ends = {(line["result"], line["attempt"]) for line in scene.attempts("you@five.example")}
    assert ends == {("accepted", 1)} and len(scene.receivers["five.example"].messages) == 12


def test_a_smarthost_without_tls_gets_no_password_and_no_port_blames_the_receiver(scene: Scene) -> None:
    """K3, S2. The message waits and says why; a dead port of the same address holds up nobody."""
    smart, healthy = scene.receivers["smart.example"], scene.receivers["takes.example"]
    fields = [f"x-mq-smarthost-hostname: {smart.host}", f"x-mq-smarthost-port: {smart.port}"]
    scene.send("a@far.example", *fields, "x-mq-smarthost-username: joe", "x-mq-smarthost-password: geheim")
    scene.send("b@far.example", f"x-mq-smarthost-hostname: {healthy.host}", "x-mq-smarthost-port: 1")
    until(lambda: all(scene.attempts(f"{one}@far.example") for one in "ab"))
    assert "STARTTLS" in scene.attempts("a@far.example")[0]["description"]
    assert b"AUTH" not in smart.raw and b"MAIL" not in smart.raw
    scene.send("after@takes.example")
    until(lambda: bool(scene.attempts("after@takes.example")))
    assert scene.attempts("after@takes.example")[0]["result"] == "accepted"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux sets limits of another process")
def test_without_descriptors_mail_waits_and_no_receiver_is_blamed(scene: Scene) -> None:
    """K13. It is said as a fault, is no attempt, and goes when there are some again."""
    assert scene.program.process is not None
    pid, api = scene.program.process.pid, Api(scene.program)
    late = "late@cut.example"  # no connection stays open there
    scene.send("early@cut.example")
    until(lambda: bool(scene.attempts("early@cut.example")))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with smtplib.SMTP("127.0.0.1", scene.program.smtp_port, timeout=30) as smtp:
        api.get("status")  # its connection stays open
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, before[1]))  # what is open stays so
        try:
            smtp.sendmail(SENDER, late, "Subject: x\r\n\r\nbody\r\n")
            until(lambda: "Too many open files" in scene.program.output)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert any("put off" in line for line in api.get("status")["faults"])
    until(lambda: bool(scene.attempts(late)))
    assert [(line["result"], line["attempt"]) for line in scene.attempts(late)] == [("accepted", 1)]
    assert not any("put off" in line for line in api.get("status")["faults"])
