"""K3. Each way around a receiver's fault is gone to its end: TLS, HELO, a new connection, a login that waits."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Any

import pytest
import trustme

from operators.deliveries.events import Disconnected, Fault, Notice
from operators.deliveries.outcome import Next
from operators.lanes.limits import Limits
from operators.mail.message import Smarthost
from pipeline.smtp.client import connect, connection, transport
from pipeline.smtp.client.transport import PLAIN_FOR
from tests.support.receiver import CLOSE, SILENCE, Receiver
from tests.support.sender import Sender, to, until

SMARTHOST = Smarthost("localhost", 25, "user", "secret")
OFF, REQUIRED = Limits(connection_security="off"), Limits(connection_security="required")
AUTH = ("PIPELINING", "AUTH LOGIN PLAIN")


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return context()


def context(**options: Any) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(made)
    for name, value in options.items():
        setattr(made, name, value)
    return made


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_receiver_that_wants_a_client_certificate_gets_its_mail_in_plain_text(version) -> None:
    """K3. With TLS 1.3 it says so after the handshake is over for the client (RFC 8446 4.4.2.4)."""
    tls = context(verify_mode=ssl.CERT_REQUIRED, minimum_version=version, maximum_version=version)
    async with Receiver(tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.result, outcome.tls, receiver.connections) == ("accepted", None, 2)
        assert [event.kind for event in sender.events if isinstance(event, Notice)] == ["tls"]


@pytest.mark.parametrize("answer", [CLOSE, SILENCE, "454 4.7.0 no", "550 5.7.1 no", "421 4.3.2 bye", "what?", b"\xff"])
async def test_a_failure_at_ehlo_inside_tls_falls_back(answer, tls, monkeypatch: pytest.MonkeyPatch) -> None:
    """K3. Opportunistic mail goes in plain text, as after a failed handshake, and no host is skipped for it."""
    monkeypatch.setattr(connect, "COMMAND", 300.0 if answer not in (SILENCE, b"\xff") else 0.1)
    async with (
        Receiver({"EHLO": [None, answer], "HELO": [answer]}, tls=tls) as receiver,
        Sender(to(receiver)) as sender,
    ):
        outcome = await sender.send()
        assert (outcome.result, outcome.tls, receiver.connections) == ("accepted", None, 2)
        assert sender.slots.skipped("", sender.targets[0], sender.transport.clock()) is None


async def test_required_tls_that_fails_at_ehlo_does_not_fall_back_and_does_not_bounce(tls) -> None:
    """The receiver may be mended; and whoever asks for less is not kept from it."""
    async with Receiver({"EHLO": [None, CLOSE]}, tls=tls) as receiver, Sender(to(receiver), limits=REQUIRED) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("ehlo", "lost", Next.RETRY)
        assert (await sender.send(security="optional")).result == "accepted"


async def test_tls_that_takes_all_the_time_is_not_tried_again_for_a_while(tls, monkeypatch) -> None:
    """Else each connection would cost five minutes."""
    monkeypatch.setattr(connect, "COMMAND", 0.1)
    async with Receiver({"EHLO": [None, SILENCE]}, tls=tls) as receiver, Sender(to(receiver)) as sender:
        slot = sender.take()
        assert (await sender.send()).result == "accepted"
        assert (await sender.send(slot=slot)).tls is None
        assert receiver.connections == 3
        monkeypatch.setattr(sender.transport, "clock", lambda: 1e9 + PLAIN_FOR)
        assert (await sender.send(security="required")).tls is not None


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_530_in_plain_text_after_tls_has_failed_bounces_nothing(verb: str, tls: ssl.SSLContext) -> None:
    """It wants TLS (RFC 3207 4), which is out of order now; that is no word on the message."""
    script = {"STARTTLS": "454 4.7.0 not now", verb: "530 5.7.0 Must issue a STARTTLS command first"}
    async with Receiver(script, tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.code, outcome.next) == (530, Next.RETRY)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_a_receiver_with_tls_of_old_gets_its_mail_in_plain_text(version: ssl.TLSVersion) -> None:
    """RFC 8996 2: it is not used; Haraka's worker ended there."""
    tls = context(minimum_version=version, maximum_version=version)
    async with Receiver(tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.result, outcome.tls, receiver.connections) == ("accepted", None, 2)


# -- EHLO and HELO -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [450, 451, 500, 501, 502, 503, 504, 521, 530, 550, 554])
async def test_whatever_refuses_ehlo_is_greeted_with_helo(code: int) -> None:
    """K3, as Postfix does: old servers answer an unknown command with all kinds of codes."""
    async with Receiver({"EHLO": f"{code} 5.5.1 what"}) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "accepted"
        assert receiver.verbs()[:3] == ["EHLO", "HELO", "MAIL"]


async def test_421_to_ehlo_is_taken_at_its_word() -> None:
    """RFC 5321 3.8: it closes the connection."""
    async with Receiver({"EHLO": "421 4.3.2 busy"}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.code, outcome.next) == ("ehlo", 421, Next.RETRY)
        assert receiver.verbs() == ["EHLO"]


async def test_a_receiver_that_refuses_ehlo_and_hangs_up_bounces_nothing() -> None:
    """What it said is told, but nobody knows what it would have made of HELO."""
    async with Receiver({"EHLO": "550 go", "HELO": CLOSE}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.code, outcome.next) == ("ehlo", 550, Next.RETRY)


async def test_helo_is_no_way_around_tls(tls: ssl.SSLContext) -> None:
    """STARTTLS needs EHLO, so where TLS is required HELO leads nowhere."""
    async with Receiver({"EHLO": "502 what"}, tls=tls) as receiver, Sender(to(receiver), limits=REQUIRED) as sender:
        assert (await sender.send()).code == 502
        assert "HELO" not in receiver.verbs() and "MAIL" not in receiver.verbs()


@pytest.mark.parametrize("name", ["", "(none)", "m\xfcller", "a b", "x\r\nMAIL FROM:<>", "x\0", "a" * 300])
async def test_a_name_that_is_none_is_replaced_by_the_address(name: str) -> None:
    """K14, K1. An EHLO that every receiver refuses helps nobody, and a name never becomes a command."""
    async with Receiver() as receiver, Sender(to(receiver), ip="127.0.0.9") as sender:
        sender.transport._ehlo_name = lambda ip: name
        assert (await sender.send()).result == "accepted"
        assert receiver.commands[0][1] == "EHLO [127.0.0.9]"


# -- a connection that has had enough ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_421_on_a_connection_that_has_carried_mail_costs_no_attempt(verb: str, pipelining: bool) -> None:
    """K3, RFC 5321 3.8: the receiver wants no more over this one; a new one is made at once."""
    script = {verb: [None, "421 4.7.0 too many messages", None]}
    extensions = ("PIPELINING",) if pipelining else ()
    async with Receiver(script, extensions) as receiver, Sender(to(receiver)) as sender:
        assert [(await sender.send()).result for _ in range(2)] == ["accepted", "accepted"]
        assert (receiver.connections, len(receiver.messages)) == (2, 2)
        reasons = [event.reason for event in sender.events if isinstance(event, Disconnected)]
        assert reasons == ["421 too many messages"]


@pytest.mark.parametrize("answer", ["221 bye", "452 4.5.3 too many for one", "421", "421-4.4.2 idle\r\n421 x"])
async def test_a_good_bye_that_has_crossed_mail_costs_no_attempt(answer: str) -> None:
    """Whatever code the receiver has for it."""
    async with Receiver({"MAIL": [None, answer]}) as receiver, Sender(to(receiver)) as sender:
        assert [(await sender.send()).result for _ in range(2)] == ["accepted", "accepted"]
        assert receiver.connections == 2


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
async def test_a_connection_that_is_lost_before_the_message_is_replaced(verb: str) -> None:
    """The receiver has had nothing of the message, and had enough of the connection."""
    async with Receiver({verb: [None, CLOSE]}) as receiver, Sender(to(receiver)) as sender:
        assert [(await sender.send()).result for _ in range(2)] == ["accepted", "accepted"]
        assert (receiver.connections, len(receiver.messages)) == (2, 2)


@pytest.mark.parametrize("answer", ["421 4.7.0 never", CLOSE, "452 4.3.1 full"])
async def test_a_receiver_that_always_says_so_is_believed_on_the_second_connection(answer: str) -> None:
    """One new connection a message at most."""
    async with Receiver({"MAIL": [None, *[answer] * 5]}) as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        outcome = await sender.send()
        assert (outcome.next, receiver.connections) == (Next.RETRY, 2)
        assert outcome.state == "mailfrom"


async def test_a_receiver_that_is_full_gets_no_connection_for_each_message() -> None:
    """452 is about the connection only where that has carried mail."""
    async with Receiver({"MAIL": "452 4.3.1 full"}) as receiver, Sender(to(receiver)) as sender:
        assert {(await sender.send()).code for _ in range(4)} == {452}
        assert receiver.connections == 1


@pytest.mark.parametrize("end", ["421 4.7.0 enough", CLOSE, "221 2.0.0 enough"])
async def test_a_receiver_that_takes_five_a_connection_costs_no_retry(end: str) -> None:
    """K3. However it ends them."""
    script = {"MAIL": ([None] * 5 + [end]) * 3}
    async with Receiver(script) as receiver, Sender(to(receiver)) as sender:
        outcomes = [await sender.send() for _ in range(15)]
        assert {outcome.result for outcome in outcomes} == {"accepted"}
        assert len(receiver.messages) == 15 and receiver.connections == 3


async def test_silence_on_a_connection_that_was_idle_is_answered_by_a_new_one(monkeypatch) -> None:
    """A firewall in between may have forgotten it."""
    monkeypatch.setattr(transport, "TICK", 0.02)
    async with Receiver({"MAIL": [None, SILENCE]}) as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        for stage in ("rset", "mailfrom"):
            monkeypatch.setitem(connection.PATIENCE, stage, 0.05)
        sending = asyncio.create_task(sender.send())
        await until(lambda: receiver.verbs().count("MAIL") == 2)
        monkeypatch.setitem(connection.PATIENCE, "mailfrom", 300.0)
        assert (await sending).result == "accepted"
        assert receiver.connections == 2


# -- AUTH --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [{}, {"STARTTLS": "454 4.7.0 not now"}, {"STARTTLS": CLOSE}, {"EHLO": "502 what"}])
async def test_a_password_never_goes_in_plain_text_unasked(script: dict[str, str], tls: ssl.SSLContext) -> None:
    """K3. Whoever takes STARTTLS out of the answer gets nothing: the mail waits, and the outcome says why."""
    tls_ = tls if "STARTTLS" in script else None
    async with Receiver(script, AUTH, tls=tls_) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(smarthost=SMARTHOST)
        assert (outcome.next, outcome.result != "accepted") == (Next.RETRY, True)
        assert b"AUTH" not in receiver.raw and b"MAIL" not in receiver.raw
        assert len(sender.transport.troubles.lines) == (outcome.result == "error" and outcome.state == "starttls")


async def test_a_password_goes_in_plain_text_where_security_is_off() -> None:
    """Somebody has said so."""
    async with Receiver({}, AUTH) as receiver, Sender(to(receiver), limits=OFF) as sender:
        assert (await sender.send(smarthost=SMARTHOST)).result == "accepted"
        assert receiver.commands[1][1].startswith("AUTH PLAIN ")


async def test_a_login_that_is_refused_is_a_fault_until_it_is_taken(tls: ssl.SSLContext) -> None:
    """K3. A password that was changed bounces nothing, and an operator hears of it, once a minute."""
    async with (
        Receiver({"AUTH": ["535 5.7.8 wrong"] * 3}, ("AUTH PLAIN",), tls) as receiver,
        Sender(to(receiver)) as sender,
    ):
        for _ in range(3):
            assert (await sender.send(smarthost=SMARTHOST)).next is Next.RETRY
        [fault] = [event for event in sender.events if isinstance(event, Fault)]
        [line] = sender.transport.troubles.lines
        assert fault.where == "smarthost" and "535 wrong" in fault.detail and "'user'" in line
        assert "secret" not in f"{fault}{line}"
        assert (await sender.send(smarthost=SMARTHOST)).result == "accepted"
        assert sender.transport.troubles.lines == []


@pytest.mark.parametrize(
    "script", [{"greeting": "554 no"}, {"EHLO": "550 no"}, {"STARTTLS": "554 no"}, {"MAIL": "530 no"}]
)
async def test_a_smarthost_bounces_mail_only_by_an_answer_about_it(script: dict[str, str], tls: ssl.SSLContext) -> None:
    """What it says of us is for the operator to mend."""
    async with Receiver(script | {"HELO": "550 no"}, AUTH, tls) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send(smarthost=SMARTHOST)).next is Next.RETRY
    async with Receiver({"RCPT": "550 5.1.1 unknown"}, AUTH, tls) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send(smarthost=SMARTHOST)).next is Next.FAIL


@pytest.mark.parametrize(
    ("offer", "answers", "said"),
    [
        ("AUTH=LOGIN", ["334 ", "235 ok"], ["AUTH LOGIN"]),
        ("auth plain", ["235 ok"], ["AUTH PLAIN {token}"]),
        ("AUTH LOGIN PLAIN", ["504 5.5.4 not that", "334 x"], ["AUTH PLAIN {token}", "AUTH LOGIN"]),
        ("AUTH CRAM-MD5 PLAIN", ["235 ok"], ["AUTH PLAIN {token}"]),
        ("AUTH GSSAPI CRAM-MD5", ["334 x"], ["AUTH CRAM-MD5", "*"]),
    ],
)
async def test_the_mechanisms_are_tried_best_first(offer, answers, said, tls) -> None:
    """One that the server does not know is passed over for the next; a wrong password is not tried again and again."""
    token = base64.b64encode(b"\0user\0secret").decode()
    async with Receiver({"AUTH": answers}, (offer,), tls) as receiver, Sender(to(receiver)) as sender:
        await sender.send(smarthost=SMARTHOST)
        after = [line for _, line in receiver.commands[3:]]
        assert [line for line in after if line.startswith(("AUTH", "*"))] == [one.format(token=token) for one in said]


async def test_a_long_password_does_not_make_a_command_too_long(tls: ssl.SSLContext) -> None:
    """RFC 4954 4: then it follows the empty challenge."""
    smarthost = Smarthost("localhost", 25, "user", "x" * 600)
    async with Receiver({"AUTH": ["334 "]}, ("AUTH PLAIN",), tls) as receiver, Sender(to(receiver)) as sender:
        await sender.send(smarthost=smarthost)
        assert receiver.commands[3][1] == "AUTH PLAIN" and len(receiver.commands[4][1]) > 800


async def test_a_wrong_password_is_tried_once_an_attempt(tls: ssl.SSLContext) -> None:
    """Servers count."""
    async with Receiver({"AUTH": "535 wrong"}, AUTH, tls) as receiver, Sender(to(receiver)) as sender:
        await sender.send(smarthost=SMARTHOST)
        await until(lambda: receiver.verbs().count("AUTH") > 0)
        assert receiver.verbs().count("AUTH") == 1
