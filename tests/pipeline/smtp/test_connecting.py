"""How a connection is made: which host, how secured, and what becomes of the message when there is none."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from operators.deliveries.delivery import Target
from operators.deliveries.events import Connected, Disconnected, Notice
from operators.deliveries.outcome import Next
from operators.lanes.limits import Limits
from operators.lanes.slots import Wait
from operators.mail.message import Smarthost
from pipeline.smtp.client.tls import context
from tests.support.receiver import CLOSE, Receiver
from tests.support.sender import Sender, to

REQUIRED, VERIFIED = Limits(connection_security="required"), Limits(connection_security="verified")


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(made)
    return made


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """One that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context.cache_clear()
    yield made
    context.cache_clear()


@pytest.fixture
def nobody() -> Iterator[Target]:
    """An address that refuses connections."""
    with contextlib.closing(socket.socket()) as kept:
        kept.bind(("127.0.0.3", 0))
        yield Target("nobody", "127.0.0.3", kept.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[Target]:
    """An address that accepts no more connections: its backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.closing(socket.socket()))
        server.bind(("127.0.0.4", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(contextlib.closing(socket.socket()))
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield Target("silent", "127.0.0.4", server.getsockname()[1])


# -- which host --------------------------------------------------------------------------------------------------------


async def test_a_host_that_refuses_is_passed_over_for_the_next(nobody: Target) -> None:
    """In the same attempt; and the next message does not try it again for a while."""
    async with Receiver() as receiver, Sender((nobody, *to(receiver))) as sender:
        assert (await sender.send()).result == "accepted"
        assert [type(event).__name__ for event in sender.events] == [
            "Connecting", "Disconnected", "Connecting", "Connected",
        ]  # fmt: skip
        assert isinstance(sender.events[1], Disconnected) and sender.events[1].reason == "refused"
        assert sender.slots.skipped("", nobody, sender.transport.clock()) is not None
        assert sender.slots.of("lane") == (1, 1)


async def test_each_further_connection_for_a_message_is_paid_for_by_the_next(nobody: Target) -> None:
    """Passing on to another host is not held up by the rate of new connections, but counts in it."""
    limits = Limits(domain_connects=60)
    async with Receiver() as receiver, Sender((nobody, *to(receiver)), limits=limits) as sender:
        begun = sender.transport.clock()
        assert (await sender.send()).result == "accepted"
        slot = sender.take()
        wait = sender.slots.take("lane", "", sender.targets, limits, sender.transport.clock())
        assert isinstance(wait, Wait) and wait.until is not None and wait.until > begun + 2.0
        sender.slots.release(slot, sender.transport.clock())


async def test_a_host_that_is_silent_is_passed_over_for_the_next(silent: Target) -> None:
    """After the time-out for connecting."""
    async with Receiver() as receiver, Sender((silent, *to(receiver)), 0.01) as sender:
        assert (await sender.send()).result == "accepted"


async def test_no_host_left_is_retried(nobody: Target, silent: Target) -> None:
    """RFC 5321 4.5.4.1: no answer is no decision."""
    async with Sender((nobody,)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("connect", "error", Next.RETRY)
        assert (outcome.remote_ip, outcome.host, outcome.attempted) == (nobody.address, "nobody", False)
    async with Sender((silent,), 0.01) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("connect", "timeout", Next.RETRY)


@pytest.mark.parametrize(
    "script", [{"greeting": "554 5.7.1 go away"}, {"EHLO": "550 no", "HELO": "550 no"}, {"greeting": "421 busy"}]
)
async def test_a_negative_answer_in_the_opening_tries_the_next_host_first(script: dict[str, str]) -> None:
    """Another host may take it."""
    async with Receiver(script, host="127.0.0.5") as rude, Receiver() as kind, Sender(to(rude, kind)) as sender:
        assert (await sender.send()).result == "accepted"
        assert (rude.connections, len(kind.messages)) == (1, 1)


async def test_all_hosts_refusing_for_good_is_final() -> None:
    """Then 5xx means what it says."""
    rude = Receiver({"greeting": "554 5.7.1 go away"}, host="127.0.0.5")
    ruder = Receiver({"greeting": "550 never"}, host="127.0.0.6")
    async with rude, ruder, Sender(to(rude, ruder)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next, outcome.code) == ("intro", "error", Next.FAIL, 550)


async def test_one_host_that_may_yet_take_it_makes_it_a_retry(nobody: Target) -> None:
    """A 5xx of one host is not final while another was not heard."""
    async with Receiver({"greeting": "554 go away"}) as rude:
        for targets in ((*to(rude), nobody), (nobody, *to(rude))):
            async with Sender(targets) as sender:
                assert (await sender.send()).next is Next.RETRY
                assert (await sender.send()).next is Next.RETRY  # now it is being skipped


async def test_an_ip_that_is_not_ours_cannot_be_bound() -> None:
    """It is no fault of the receiver's, and no other host would help."""
    async with Receiver() as receiver, Sender(to(receiver), ip="192.0.2.1") as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("bind", "error", Next.RETRY)
        assert sender.slots.skipped("192.0.2.1", sender.targets[0], 0) is None


async def test_mail_leaves_from_the_mta_ip() -> None:
    """The local address is bound before connecting."""
    async with Receiver() as receiver, Sender(to(receiver), ip="127.0.0.9") as sender:
        assert (await sender.send()).local_ip == "127.0.0.9"
        assert receiver.peers == ["127.0.0.9"]


async def test_a_receiver_that_knows_no_ehlo_is_greeted_with_helo() -> None:
    """RFC 5321 3.2."""
    async with Receiver({"EHLO": "502 5.5.1 what"}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert outcome.result == "accepted" and receiver.messages[0].mail == "MAIL FROM:<sender@example.org>"


# -- TLS ---------------------------------------------------------------------------------------------------------------


async def test_opportunistic_takes_tls_where_it_is_offered() -> None:
    """Without asking who the receiver is; the outcome says what was used."""
    async with Receiver(tls=server_context(trustme.CA())) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert outcome.tls is not None and outcome.tls["cipher"]["version"] in ("TLSv1.2", "TLSv1.3")
        assert outcome.tls["certificate"]["altnames"] == ["localhost"]
        assert outcome.tls["certificate"]["verified"] is False
        assert [event.tls for event in sender.events if isinstance(event, Connected)] == [True]
        assert receiver.verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest.mark.parametrize("script", [{"STARTTLS": "454 4.7.0 not now"}, {"STARTTLS": CLOSE}, {"STARTTLS": "220 go"}])
async def test_opportunistic_falls_back_to_a_plain_connection_once(script: dict[str, str]) -> None:
    """A refused or broken handshake costs one connection, and an operator sees it."""
    tls = None if script["STARTTLS"] == "220 go" else server_context(trustme.CA())
    extensions = ("PIPELINING", "STARTTLS")
    async with Receiver(script, extensions, tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.result, outcome.tls, receiver.connections) == ("accepted", None, 2)
        assert len([event for event in sender.events if isinstance(event, Notice) and event.kind == "tls"]) == 1


@pytest.mark.parametrize("limits", [REQUIRED, VERIFIED])
async def test_no_tls_is_no_mail_where_it_is_required(limits: Limits) -> None:
    """And a receiver without it may get it: retried."""
    async with Receiver() as receiver, Sender(to(receiver), limits=limits) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("starttls", "error", Next.RETRY)
        assert "MAIL" not in receiver.verbs()


async def test_verified_takes_a_right_certificate(authority: trustme.CA) -> None:
    """Chain and name."""
    async with (
        Receiver(tls=server_context(authority)) as receiver,
        Sender(to(receiver), limits=VERIFIED) as sender,
    ):
        outcome = await sender.send()
        assert outcome.result == "accepted" and outcome.tls is not None
        assert outcome.tls["certificate"]["verified"] is True


@pytest.mark.parametrize("wrong", ["name", "chain"])
async def test_verified_takes_no_wrong_certificate(authority: trustme.CA, wrong: str) -> None:
    """And there is no way around it: no plain connection, no mail."""
    tls = server_context(authority, "other.test") if wrong == "name" else server_context(trustme.CA())
    async with Receiver(tls=tls) as receiver, Sender(to(receiver), limits=VERIFIED) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("starttls", "error", Next.RETRY)
        assert receiver.connections == 1 and "MAIL" not in receiver.verbs()


async def test_tls_below_1_2_is_not_used() -> None:
    """RFC 8996."""
    assert context(True).minimum_version is context(False).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("plain", [b"250-injected\r\n250 AUTH PLAIN\r\n", b"250-injected\r\n", b"injec"])
async def test_plain_text_after_the_answer_to_starttls_is_dropped(plain: bytes) -> None:
    """STARTTLS injection: what a stranger put there would else count as the receiver's secure answer."""
    injected = b"220 go ahead\r\n" + plain
    tls = server_context(trustme.CA())
    async with Receiver({"STARTTLS": [injected]}, ("PIPELINING",), tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert outcome.result == "accepted"
        assert receiver.verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


async def test_a_message_that_asks_for_more_than_the_open_connection_gets_a_new_one() -> None:
    """`security` of the message goes before the lane's, also when a plain connection stands ready."""
    limits = Limits(connection_security="off")
    async with Receiver(tls=server_context(trustme.CA())) as receiver, Sender(to(receiver), limits=limits) as sender:
        assert (await sender.send()).tls is None
        assert (await sender.send(security="required")).tls is not None
        assert (await sender.send(security="optional")).messages == 2
        assert receiver.connections == 2


# -- AUTH --------------------------------------------------------------------------------------------------------------

SMARTHOST = Smarthost("localhost", 25, "user", "secret")


async def test_a_smarthost_is_logged_in_to() -> None:
    """RFC 4954; and mail without its login does not go over that connection."""
    tls = server_context(trustme.CA())
    async with Receiver(extensions=("AUTH PLAIN",), tls=tls) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send(smarthost=SMARTHOST)).result == "accepted"
        assert receiver.commands[3][1] == "AUTH PLAIN " + base64.b64encode(b"\0user\0secret").decode()
        assert (await sender.send()).result == "accepted"
        assert [mail.connection for mail in receiver.messages] == [1, 2]


@pytest.mark.parametrize(
    ("script", "extensions"),
    [
        ({"AUTH": "535 5.7.8 wrong"}, ("AUTH PLAIN",)),
        ({"AUTH": "454 4.7.0 later"}, ("AUTH PLAIN",)),
        ({"AUTH": "535 5.7.8 wrong: secret"}, ("AUTH LOGIN PLAIN",)),
        ({"AUTH": ["504 unknown", "535 wrong"]}, ("AUTH LOGIN PLAIN",)),
        ({}, ()),
        ({}, ("AUTH GSSAPI",)),
    ],
)
async def test_a_login_that_fails_sends_nothing(script: dict[str, str], extensions: tuple[str]) -> None:
    """K3. Its mail waits, since a password that was changed says nothing of a message; the secret is in no outcome and
    no event."""
    tls = server_context(trustme.CA())
    async with Receiver(script, extensions, tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(smarthost=SMARTHOST)
        assert (outcome.result, outcome.next) == ("error", Next.RETRY) and outcome.state.startswith("auth")
        assert "MAIL" not in receiver.verbs() and "secret" not in f"{outcome}{sender.events}"


async def test_a_login_does_not_fall_back_to_plain_text() -> None:
    """A failed handshake must not make it give the password away."""
    script, extensions = {"STARTTLS": "454 4.7.0 not now"}, ("AUTH PLAIN",)
    async with Receiver(script, extensions, server_context(trustme.CA())) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send(smarthost=SMARTHOST)).state == "starttls"
        assert "AUTH" not in receiver.verbs()
