"""Who may do what, and what is no SMTP at all (S1, S3)."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next
from operators.deliveries.result_queues import ResultRule, came_back
from operators.deliveries.results import copies, extracted
from operators.mail.message import from_properties
from operators.stages.decode import decode
from pipeline.process.supervisor import supervisor
from pipeline.views.submit import Submission, Unacceptable
from settings import ConfigurationErrors, load
from tests.pipeline.intake.harness import House
from tests.pipeline.intake.test_open_relay import is_local, logged_in  # noqa: F401
from tests.pipeline.intake.test_smtp_auth import plain

GOODBYE = b"500 5.5.1 This is an SMTP server\r\n"
MAIL = b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n\r\nx\r\n.\r\n"
PAGE = b" / HTTP/1.1\r\nHost: 127.0.0.1:2525\r\nContent-Type: text/plain\r\n\r\n" + MAIL

FOREIGN = {
    "POST": b"POST" + PAGE,
    "GET": b"GET" + PAGE,
    "get": b"get" + PAGE,
    "CONNECT": b"CONNECT mail.example:25 HTTP/1.1\r\n\r\n" + MAIL,
    "OPTIONS": b"OPTIONS" + PAGE,
    "a method of its own": b"FOO" + PAGE,
    "a method of SMTP": b"NOOP" + PAGE,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MAIL,
    "bare LF": b"POST / HTTP/1.1\nHost: x\n\n" + MAIL,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n" + MAIL,
    "PROXY": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 25\r\n" + MAIL,
    "PROXY v2": b"\r\n\r\n\0\r\nQUIT\n" + bytes(20) + MAIL,
    "RDP": b"\x03\x00\x00\x2f\x2a" + bytes(40),
    "redis": b"*1\r\n$4\r\nINFO\r\n" + MAIL,
    "memcached": b"stats\r\n" + MAIL,
    "NUL": b"EH\0LO x\r\n" + MAIL,
}  # fmt: skip


@pytest.mark.parametrize("octets", FOREIGN.values(), ids=FOREIGN)
async def test_what_is_no_smtp_is_hung_up_on_at_once(house: House, octets: bytes) -> None:
    """S3: a page in a browser can send any text, but not without a line of HTTP before it."""
    intake = await house.open()
    caller = await house.call(greet=False)
    await caller.reply()
    caller.send(octets)
    try:
        said = await caller.rest()
    except ConnectionResetError:
        said = b""
    assert said.count(b"\r\n") <= 3
    assert b"250-" not in said
    await house.until(lambda: intake.connections == 0)
    assert not house.queued()


async def test_http_behind_a_greeting_is_hung_up_on(house: House) -> None:
    """S3: EHLO is a method, too, for who can choose it."""
    await house.open()
    caller = await house.call(greet=False)
    await caller.reply()
    caller.send(b"EHLO" + PAGE)
    assert (await caller.rest()).endswith(GOODBYE)
    assert not house.queued()


@pytest.mark.parametrize(
    "verb", ["EXPN list", "BDAT 5 LAST", "LHLO x", "XCLIENT ADDR=1.2.3.4", "ETRN example.org", "TURN"]
)
async def test_a_command_of_smtp_that_is_not_offered_is_no_reason_to_hang_up(house: House, verb: str) -> None:
    """S3: there is no CHUNKING, and nothing of what others offer."""
    await house.open()
    caller = await house.call(greet=False)
    await caller.reply()
    assert await caller.say(verb) == "500 5.5.1 The command is not known"
    assert "CHUNKING" not in await caller.say("EHLO client.example")


# -- x-mq fields

STEERING = (
    b"x-mq-ip: 192.0.2.1\r\nX-MQ-Pool: fast\r\nx-mq-success-queue: mine\r\nx-mq-maxattempts: many\r\nx-mq-own: 1\r\n"
)


async def test_a_stranger_steers_nothing(house: House, logged_in: Any) -> None:  # noqa: F811
    """S3: the fields of a client whose mail is taken only for its recipient go, even wrong ones, without effect."""
    stranger = await house.call()
    assert (await stranger.mail(STEERING + b"Subject: x\r\n\r\nx\r\n.\r\n", "info@local.example")).startswith("250")
    (message,) = house.queued("local")
    assert "x-mq" not in message["mime"].lower()
    assert "Subject: x" in message["mime"]
    assert not {"pool", "queues", "maxattempts", "own"} & set(message)
    assert "192.0.2.1" not in str(message.get("ips"))


async def test_who_may_send_may_steer(house: House, logged_in: Any) -> None:  # noqa: F811
    """S3: logged in, also towards local addresses; and without credentials whoever may connect."""
    assert (await logged_in.mail(b"x-mq-pool: fast\r\n\r\nx\r\n.\r\n", "info@local.example")).startswith("250")
    assert house.queued("local")[0]["pool"] == "fast"


# -- results that come back

RULE = ResultRule("outbox", "inbox")
READ = ["outbox", "inbox", "outbox.parked", "outbox.parked.1#2fa", "outbox.delay.1000"]


@pytest.mark.parametrize("kind", ["results", "success", "failure", "retry"])
@pytest.mark.parametrize("name", READ)
async def test_results_may_not_go_where_mail_is_read_from(house: House, kind: str, name: str) -> None:
    """S3: one mail became forty a second; whoever says so: a header field, the API, a message on a queue."""
    await house.open(rabbitmq_inbox="inbox")
    caller = await house.call()
    answer = await caller.mail(f"x-mq-{kind}-queue: {name}\r\n\r\nx\r\n.\r\n".encode())
    why = f"{name!r} is a queue that mail is read from, so results cannot go there"
    assert answer == f"554 5.6.0 x-mq-{kind}-queue: {why}"
    message = {"recipient": "b@example.net", "mime": "x", "queues": {kind: name}}
    submission = Submission(house.queue, "outbox", "mx1", 10_000, lambda event: None, RULE)
    with pytest.raises(Unacceptable, match="is a queue that mail is read from"):
        await submission.submit([message])
    delivery = decoded(message)
    assert delivery.outcome is not None
    assert delivery.outcome.next is Next.FAIL
    assert delivery.outcome.description == f"queues.{kind}: {why}"
    assert all(name not in READ for name, _ in copies(delivery, {"results": "results", "failure": "failure"}, 0.0))
    assert not house.queued()


async def test_notifications_are_mail_and_may_go_to_the_outbox(house: House) -> None:
    """S3: but into no queue that is ours alone."""
    assert not RULE.wrong({"dsn": "outbox", "success": "mine", "failure": None})
    assert RULE.wrong({"dsn": "outbox.delay.1000"})


def decoded(message: Any) -> Delivery:
    seen: list[Delivery] = []
    lease = Lease(1, msgspec.json.encode(message))
    rx.of(lease).pipe(decode(100_000, lambda: 0.0, RULE)).subscribe(seen.append)
    return seen[0]


def test_a_result_that_comes_back_goes_round_at_most_once() -> None:
    """S3: by a binding of the broker, say; refused, also where refusals come back themselves."""
    result = {
        "recipient": "b@example.net",
        "mime": "x",
        "results": [{"state": "message"}],
        "extracted": {"headers": {}},
    }
    delivery = decoded(result)
    assert delivery.outcome is not None
    assert delivery.outcome.next is Next.REFUSE
    assert copies(delivery, {"failure": "failure", "results": "results"}, 0.0) == []
    [(name, body)] = copies(delivery, {"failure": "failure", "refused": "refused"}, 0.0)
    assert name == "refused"
    again = decoded(msgspec.json.decode(body))
    assert again.outcome is not None
    assert again.outcome.next is Next.REFUSE
    assert copies(again, {"failure": "failure", "refused": "refused"}, 0.0) == []


@pytest.mark.parametrize(
    "message",
    [
        {"recipient": "b@example.net", "results": [{"state": "message"}]},
        {"recipient": "b@example.net", "extracted": {"x": 1}},
        {"recipient": "b@example.net", "error": "x", "body": "y"},
    ],
)
def test_a_message_that_was_tried_before_is_no_result(message: dict[str, Any]) -> None:
    """S3: retries carry their attempts, and custom properties any name."""
    assert not came_back(message)


@pytest.mark.parametrize("kind", ["results", "success", "failure", "retry", "refused"])
def test_a_configuration_whose_results_are_read_as_mail_is_refused(kind: str) -> None:
    """S3: before mail moves."""
    with pytest.raises(ConfigurationErrors, match=f"rabbitmq-{kind}: 'outbox' .* must be another queue"):
        load([f"--rabbitmq-{kind}=outbox"], system_file=None)


# -- connections


async def test_a_client_that_holds_all_its_connections_open_keeps_nobody_out(house: House) -> None:
    """S1: those that have not greeted give way, the oldest first; so do its own where it has too many."""
    intake = await house.open(smtp_connections=20, smtp_client_connections=18)
    silent = [await house.call(greet=False) for _ in range(18)]
    for caller in silent:
        await caller.reply()
    busy = await house.call()
    assert (await busy.say("MAIL FROM:<a@example.org>")).startswith("250")
    assert await silent[0].rest() == b"421 4.4.2 Nothing came, and others wait\r\n"
    for _ in range(15):
        await house.call()
    assert intake.connections <= 18
    assert (await busy.says("RCPT TO:<b@example.net>", "DATA", "x\r\n."))[2].startswith("250")


async def test_an_idle_session_gives_way_to_a_newcomer_after_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: one that greeted and then does nothing; one in a transaction never does."""
    intake = await house.open(smtp_connections=2)
    idle, busy = await house.call(), await house.call()
    await busy.say("MAIL FROM:<a@example.org>")
    third = await house.call(greet=False)
    assert await third.rest() == b"421 4.7.0 Too many connections, try again later\r\n"
    await house.until(lambda: intake.connections == 2)
    monkeypatch.setattr("pipeline.smtp.server.access.crowd.IDLE", 0.0)  # as if that had passed
    assert (await (await house.call()).mail(b"x\r\n.\r\n")).startswith("250")
    assert await idle.rest() == b"421 4.4.2 Nothing came, and others wait\r\n"
    assert (await busy.says("RCPT TO:<b@example.net>", "DATA", "x\r\n."))[2].startswith("250")


async def test_a_bound_on_connections_that_is_reached_is_a_fault_until_it_is_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K13: an operator sees why somebody cannot connect, and with which bounds."""
    intake = await house.open(smtp_connections=2)
    await house.call()
    assert intake.shared.crowd.trouble is None
    for _ in range(2):
        await house.call(greet=False)
    await house.until(lambda: intake.shared.crowd.trouble is not None)
    assert any("intake: too many connections (2 in all, 2 of one address)" in one for one in supervisor().faults)
    monkeypatch.setattr("pipeline.smtp.server.access.crowd.STANDS", 0.0)
    assert not supervisor().faults


async def test_commands_without_a_message_have_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: NOOP now and then holds no connection for ever; a message sets the count back."""
    monkeypatch.setattr("pipeline.smtp.server.protocol.MOST_LINES", 10)
    await house.open()
    caller = await house.call()
    for _ in range(5):
        await caller.says(*["NOOP"] * 5)
        assert (await caller.mail(b"x\r\n.\r\n")).startswith("250")
    replies = await caller.says(*["NOOP"] * 11)
    assert replies[-1] == "421 4.7.0 Too many commands without a message"


async def test_a_handshake_that_does_not_go_on_is_bounded(
    house: House, certificate: Path, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: half a ClientHello after STARTTLS; login is not kept waiting by it."""
    monkeypatch.setattr("pipeline.smtp.server.dialogue.HANDSHAKE", 0.05)
    intake = await house.open(smtp_certificate=certificate, smtp_auth="hardcoded://joe:secret", smtp_secure_port=0)
    half = await house.call()
    await half.say("STARTTLS")
    half.send(b"\x16\x03\x01")
    await half.rest()
    await house.until(lambda: intake.connections == 0)
    caller = await house.call(port=1, tls=trusted)
    assert (await caller.say(plain("joe", "secret"))).startswith("235")
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("head", "reply"),
    [
        (b"x-mq-tag: a\r\n" * 1001, "554 5.6.0 There are at most 1000 x-mq fields"),
        (b"x-mq-a: x\r\n" + b" y\r\n" * 75_000, "554 5.6.0 A header with x-mq fields has at most 262144 octets"),
    ],
)
async def test_a_header_that_takes_long_to_read_is_refused(
    house: House,
    logged_in: Any,  # noqa: F811
    head: bytes,
    reply: str,
) -> None:
    """S1: whoever sends it; it would hold up everybody's mail."""
    assert await logged_in.mail(head + b"\r\nx\r\n.\r\n", "info@local.example") == reply
    assert await (await house.call()).mail(head + b"\r\nx\r\n.\r\n", "info@local.example") == reply


def test_a_result_lists_a_header_of_usual_size() -> None:
    """S1: of a larger one the beginning: taking half a million fields apart takes seconds."""
    message = from_properties({"recipient": "b@example.net", "mime": "a: x\r\n" * 500_000 + "\r\nbody"})
    assert extracted(message)["headers"] == {"a": "x"}
    small = from_properties({"recipient": "b@example.net", "mime": "From: a@b\r\nSubject: x\r\n\r\nTo: y"})
    assert set(extracted(small)["headers"]) == {"from", "subject"}
