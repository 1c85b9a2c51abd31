"""The SMTP dialogue, both ways over real sockets: what is shown, what never is, and what is left out."""

from __future__ import annotations

import asyncio
import base64
import pathlib
import ssl
from collections.abc import AsyncIterator

import pytest
from reactivex.abc import DisposableBase
from reactivex.scheduler import VirtualTimeScheduler

from operators.lanes.limits import Limits
from operators.mail.message import Smarthost
from pipeline.machine.machine import Machine
from pipeline.smtp.watch import (
    BODIES,
    BODY,
    CLIENT,
    IN,
    OUT,
    SERVER,
    Conversation,
    DialogueObserver,
    DialogueWatch,
    Line,
    Only,
    SkippedLines,
)
from settings import load
from tests.pipeline.intake.harness import House
from tests.support.mailbox import Mailbox
from tests.support.receiver import Receiver
from tests.support.sender import Sender, to
from tests.support.source import Source

PASSWORD = "s3cret-word"
ENCODED = base64.b64encode(PASSWORD.encode()).decode()
PLAIN = base64.b64encode(f"\0joe\0{PASSWORD}".encode()).decode()


class Part:
    """Something that has connections."""

    watch: DialogueObserver | None = None


class Ear:
    """A watcher, and what it got."""

    def __init__(self, *parts: object, only: Only | None = None, rate: int = 200) -> None:
        self.scheduler = VirtualTimeScheduler()
        self.dialogue = DialogueWatch(parts, self.scheduler, lambda: 5.0)  # type: ignore[arg-type]
        self.got: list[Line | SkippedLines] = []
        self.subscription = self.listen(only, rate)

    def listen(self, only: Only | None = None, rate: int = 200) -> DisposableBase:
        return self.dialogue.watch(only, rate).subscribe(self.got.append)

    @property
    def lines(self) -> list[Line]:
        return [item for item in self.got if isinstance(item, Line)]

    def said(self) -> list[str]:
        """`C: text` for the client's lines, `S: text` for the server's."""
        return [f"{line.sender[0].upper()}: {line.text}" for line in self.lines]


@pytest.fixture
async def house(tmp_path: pathlib.Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.close()


# -- coming in --------------------------------------------------------------------------------------------------------


async def test_a_dialogue_that_comes_in_is_shown_line_by_line_with_its_body_folded(house: House) -> None:
    """From the greeting on; a body is one line, and can be fetched as its author wrote it."""
    ear = Ear(await house.open())
    caller = await house.call()
    await caller.mail(b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    await caller.say("QUIT")
    said = [text for text in ear.said() if not text.startswith("S: 250-")]
    reply = next(text for text in said if text.startswith("S: 250 2.6.0") or "queued" in text.lower())
    assert said == [
        "S: 220 mx.example.com ESMTP Mailrace",
        "C: EHLO client.example",
        "S: 250 ENHANCEDSTATUSCODES",
        "C: MAIL FROM:<a@example.org>",
        "S: 250 2.1.0 Sender ok",
        "C: RCPT TO:<b@example.net>",
        "S: 250 2.1.5 Recipient ok",
        "C: DATA",
        "S: 354 End with CRLF.CRLF",
        "C: ... 21 bytes ...",
        reply,
        "C: QUIT",
        "S: 221 2.0.0 Bye",
    ]
    body = next(line for line in ear.lines if line.size)
    assert (body.direction, body.mta_ip, body.remote_ip, body.domain) == (IN, "127.0.0.1", "127.0.0.1", "example.net")
    caught = ear.dialogue.caught(body.caught or 0)
    assert caught is not None and (caught.source, caught.size) == (b"Subject: x\r\n\r\n.dot\r\n", 21)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ([f"AUTH PLAIN {PLAIN}"], ["C: AUTH PLAIN ********"]),
        (["AUTH PLAIN", PLAIN], ["C: AUTH PLAIN", "S: 334 ********", "C: ********"]),
        (
            ["auth login", "am9l", ENCODED],
            ["C: auth login", "S: 334 ********", "C: ********", "S: 334 ********", "C: ********"],
        ),
        (["AUTH LOGIN am9l", ENCODED], ["C: AUTH LOGIN ********", "S: 334 ********", "C: ********"]),
        ([f"AUTH {PLAIN}"], ["C: AUTH ********"]),
        ([f"AUTH\tPLAIN {PLAIN}"], ["C: AUTH PLAIN ********"]),
        ([f"XAUTH {PLAIN}"], ["C: ********"]),
    ],
)
async def test_a_client_s_login_is_masked(
    house: House,
    certificate: pathlib.Path,
    trusted: ssl.SSLContext,
    sent: list[str],
    shown: list[str],
) -> None:
    """In one step or several, well-formed or not."""
    intake = await house.open(smtp_certificate=certificate, smtp_secure_port=0, smtp_auth=f"hardcoded://joe:{PASSWORD}")
    ear = Ear(intake)
    caller = await house.call(port=1, tls=trusted)
    ear.got.clear()
    replies = await caller.says(*sent)
    assert ear.said() == [*shown, f"S: {replies[-1]}"]


async def test_a_password_that_is_said_after_a_refused_login_is_masked(house: House) -> None:
    """Some clients send it without waiting for the challenge."""
    ear = Ear(await house.open(smtp_auth=f"hardcoded://joe:{PASSWORD}"))
    caller = await house.call()
    ear.got.clear()
    await caller.says("AUTH LOGIN", "am9l", ENCODED, "NOOP")
    assert [text for text in ear.said() if text.startswith("C")] == [
        "C: AUTH LOGIN",
        "C: ********",
        "C: ********",
        "C: NOOP",
    ]


# -- going out --------------------------------------------------------------------------------------------------------


async def test_a_dialogue_that_goes_out_is_shown_from_greeting_to_quit() -> None:
    """We are the client; pipelined commands are lines of their own, and the connection's lines belong together."""
    async with Receiver() as receiver, Sender(to(receiver), limits=Limits(connection_security="off")) as sender:
        ear = Ear(sender.transport)
        await sender.send(b"Subject: hello\r\n\r\n.dot\r\n")
        await sender.transport.close()
    said = [text for text in ear.said() if not text.startswith("S: 250-")]
    assert said == [
        "S: 220 receiver.test ESMTP",
        "C: EHLO sender.test",
        "S: 250 ENHANCEDSTATUSCODES",
        "C: MAIL FROM:<sender@example.org> SIZE=24",
        "C: RCPT TO:<someone@example.com>",
        "C: DATA",
        "S: 250 2.1.0 sender ok",
        "S: 250 2.1.5 recipient ok",
        "S: 354 go ahead",
        "C: ... 24 bytes ...",
        "S: 250 2.0.0 taken",
        "C: QUIT",
        "S: 221 2.0.0 bye",
    ]
    assert len({line.connection for line in ear.lines}) == 1
    assert {(line.direction, line.remote_ip) for line in ear.lines} == {(OUT, "127.0.0.1")}
    body = next(line for line in ear.lines if line.size)
    caught = ear.dialogue.caught(body.caught or 0)
    assert caught is not None and caught.source == b"Subject: hello\r\n\r\n.dot\r\n"


@pytest.mark.parametrize(
    ("mechanism", "answers", "shown"),
    [
        ("PLAIN", [f"235 {PASSWORD} {PLAIN}"], ["C: AUTH PLAIN ********", "S: 235 ******** ********"]),
        (
            "LOGIN",
            ["334 VXNlcm5hbWU6"],
            [
                *("C: AUTH LOGIN", "S: 334 ********", "C: ********", "S: 334 ********", "C: ********"),
                "S: 535 5.7.8 wrong: ********",
            ],
        ),
        (
            "CRAM-MD5",
            ["334 PDEyM0BhPg=="],
            ["C: AUTH CRAM-MD5", "S: 334 ********", "C: ********", "S: 500 5.5.1 unknown"],
        ),
    ],
)
async def test_our_login_at_a_smarthost_is_masked(mechanism: str, answers: list[str], shown: list[str]) -> None:
    """Whatever the mechanism, and also where the smarthost repeats it in its answer."""
    name = base64.b64encode(b"joe").decode().upper()
    script = {"AUTH": answers, name: ["334 UGFzc3dvcmQ6"], ENCODED.upper(): [f"535 5.7.8 wrong: {ENCODED}"]}
    smarthost = Smarthost(hostname="localhost", username="joe", password=PASSWORD)
    plain = Limits(connection_security="off")
    async with Receiver(script, (f"AUTH {mechanism}",)) as receiver, Sender(to(receiver), limits=plain) as sender:
        ear = Ear(sender.transport)
        await sender.send(smarthost=smarthost)
    said = ear.said()
    begin = said.index(shown[0])
    assert said[begin : begin + len(shown)] == shown
    assert not [text for text in said for secret in (PASSWORD, ENCODED, PLAIN) if secret in text]


async def test_parts_of_a_reply_become_one_line() -> None:
    """A receiver may send it in any pieces."""
    part, ear_conversation = Part(), Conversation(OUT, "127.0.0.1", "192.0.2.1")
    ear = Ear(part)
    assert part.watch is not None
    for octets in (b"250-on", b"e\r\n250 t", b"wo\r\n250 three\r\n"):
        part.watch.line(ear_conversation, SERVER, octets)
    assert ear.said() == ["S: 250-one", "S: 250 two", "S: 250 three"]


# -- watchers ---------------------------------------------------------------------------------------------------------


def talk(part: Part, count: int = 1, conversation: Conversation | None = None, **changes: str) -> Conversation:
    """So many commands of one connection; while nobody watches nothing is told, as a connection would do it."""
    conversation = conversation or Conversation(
        **{"direction": OUT, "mta_ip": "127.0.0.1", "remote_ip": "192.0.2.1", **changes}
    )
    for number in range(count):
        if part.watch is not None:
            part.watch.line(conversation, CLIENT, f"NOOP {number}\r\n".encode())
    return conversation


def test_nothing_is_produced_while_nobody_watches() -> None:
    """From the first subscription to the last disposal."""
    part = Part()
    ear = Ear(part)
    second = ear.listen()
    ear.subscription.dispose()
    assert part.watch is not None
    second.dispose()
    assert part.watch is None
    talk(part)
    assert ear.got == []


def test_a_watcher_gets_so_many_lines_a_second_and_is_told_how_many_it_missed() -> None:
    """Then the next second begins."""
    part = Part()
    ear = Ear(part, rate=3)
    talk(part, 10)
    assert ear.said() == ["C: NOOP 0", "C: NOOP 1", "C: NOOP 2"]
    ear.scheduler.advance_by(1)
    assert ear.got[3:] == [SkippedLines(5.0, 7)]
    talk(part)
    assert len(ear.lines) == 4
    ear.scheduler.advance_by(5)
    assert len(ear.got) == 5


def test_whole_connections_are_shown_and_what_is_left_out_is_marked_where_it_is_missing() -> None:
    """One that has begun goes before another that would begin; the next line of it says what it lacks."""
    part = Part()
    ear = Ear(part, rate=4)
    first = talk(part, 2)
    other = talk(part, 3)
    talk(part, 3, conversation=first)
    assert [line.connection for line in ear.lines] == [first.id] * 4
    ear.scheduler.advance_by(1)
    talk(part, 1, conversation=first)
    talk(part, 1, conversation=other)
    assert [(line.connection, line.missed) for line in ear.lines[4:]] == [(first.id, 1), (other.id, 0)]


@pytest.mark.parametrize(
    "only",
    [
        Only(direction=OUT),
        Only(mta_ip="127.0.0.7"),
        Only(domain="A.Example"),
        Only(domain="a.ex"),
        Only(remote_ip="192.0.2.7"),
    ],
)
def test_a_watcher_gets_what_it_asks_for(only: Only) -> None:
    """What it does not ask for takes none of its room, and is not called skipped."""
    part = Part()
    ear = Ear(part, only=only, rate=2)
    talk(part, 5, direction=IN, mta_ip="127.0.0.1", domain="b.example", remote_ip="192.0.2.1")
    talk(part, 2, direction=OUT, mta_ip="127.0.0.7", domain="a.example", remote_ip="192.0.2.7")
    ear.scheduler.advance_by(1)
    assert len(ear.got) == len(ear.lines) == 2


def test_watchers_have_their_filters_and_rates_for_themselves() -> None:
    """One that is slow takes nothing from another."""
    part = Part()
    ear = Ear(part, rate=1)
    other: list[Line | SkippedLines] = []
    ear.dialogue.watch(rate=5).subscribe(other.append)
    talk(part, 5)
    assert (len(ear.got), len(other)) == (1, 5)


def test_a_watcher_that_fails_is_let_go() -> None:
    """The mail that it watched does not notice, nor do others."""
    part = Part()
    ear = Ear(part)

    def fail(item: object) -> None:
        raise ValueError

    ear.dialogue.lines.subscribe(fail)
    talk(part, 2)
    assert len(ear.got) == 2
    ear.subscription.dispose()
    assert part.watch is None


def test_the_last_bodies_are_kept_and_no_more_of_each_than_a_megabyte() -> None:
    """And none once nobody watches."""
    part = Part()
    ear = Ear(part)
    assert part.watch is not None
    conversation = talk(part)
    for _ in range(BODIES + 1):
        part.watch.body(conversation, b"x" * (BODY + 1))
    numbers = [line.caught or 0 for line in ear.lines if line.size]
    kept = [ear.dialogue.caught(number) for number in numbers]
    assert kept[0] is None and all(kept[1:])
    last = kept[-1]
    assert last is not None and (len(last.source), last.size) == (BODY, BODY + 1)
    assert ear.lines[-1].text == "... 1,000,001 bytes ..."
    ear.subscription.dispose()
    assert ear.dialogue.caught(numbers[-1]) is None


def test_a_body_that_nobody_was_shown_is_not_kept() -> None:
    """Filtered or skipped."""
    part = Part()
    ear = Ear(part, rate=1)
    talk(part)
    assert part.watch is not None
    part.watch.body(talk(part), b"x")
    assert len(ear.dialogue) == 0


def test_a_long_line_is_cut() -> None:
    """Memory is bounded, whatever a peer sends."""
    part = Part()
    ear = Ear(part)
    assert part.watch is not None
    part.watch.line(talk(part), SERVER, b"250 " + b"x" * 100_000 + b"\r\n")
    assert len(ear.lines[-1].text) == 1003


async def test_the_machine_has_both_directions(tmp_path: pathlib.Path) -> None:
    """Mail that comes in and goes out again is heard twice."""
    with Mailbox() as box:
        options = {
            "data-dir": tmp_path / "var",
            "smtp-port": 0,
            "smtp-default-ips": "127.0.0.1",
            "delivery-sink": f"127.0.0.1:{box.port}",
            "shutdown-timeout": 1,
        }
        machine = Machine(load([f"--{key}={value}" for key, value in options.items()], system_file=None))
        await machine.start()
        try:
            got: list[Line | SkippedLines] = []
            machine.dialogue.lines.subscribe(got.append)
            done = asyncio.Event()
            machine.events.subscribe(lambda event: done.set() if type(event).__name__ == "Settled" else None)
            await Source(machine.intake.addresses[0][1], 1, sessions=1).run()
            await asyncio.wait_for(done.wait(), 20)
        finally:
            await machine.stop()
    bodies = [item for item in got if isinstance(item, Line) and item.size]
    assert [(body.direction, body.domain) for body in bodies] == [(IN, "a.example"), (OUT, "a.example")]
    assert bodies[0].connection != bodies[1].connection
