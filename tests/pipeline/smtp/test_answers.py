"""What each answer at each stage comes to, and that the next message is unharmed by it."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
import trustme

from operators.deliveries.outcome import Next
from operators.lanes.limits import Limits
from pipeline.smtp.client import connect, connection, dial
from tests.support.receiver import CLOSE, SILENCE, Receiver, Slow
from tests.support.sender import Sender, to

LATER, NEVER, BYE = "451 4.3.0 later", "550 5.7.1 never", "421 4.3.2 bye"
GARBAGE, MIXED = "what?", "250-one\r\n550 two"
RETRY, FAIL = Next.RETRY, Next.FAIL
DIALOGUE = {"MAIL": "mailfrom", "RCPT": "rcptto", "DATA": "data", ".": "message"}
OPENING = {"greeting": "intro", "EHLO": "ehlo", "STARTTLS": "starttls"}

# answer -> result, next, code; and whether the connection carries the next message in the dialogue.
TABLE = [
    (LATER, "error", RETRY, 451, True),
    (NEVER, "error", FAIL, 550, True),
    ("550 4.1.1 the code decides", "error", FAIL, 550, True),
    ("451 5.1.1 the code decides", "error", RETRY, 451, True),
    ("550-5.7.1 many\r\n550 5.7.1 lines", "error", FAIL, 550, True),
    ("571", "error", FAIL, 571, True),
    (BYE, "error", RETRY, 421, False),
    (GARBAGE, "invalid", RETRY, None, False),
    (MIXED, "invalid", RETRY, None, False),
    ("650 no such class", "invalid", RETRY, None, False),
    (b"x" * 9000, "invalid", RETRY, None, False),
    (b"250-more\r\n" * 10_001, "invalid", RETRY, None, False),
    (CLOSE, "lost", RETRY, None, False),
    (SILENCE, "timeout", RETRY, None, False),
    (Slow("250-a byte at a time", 0.02), "timeout", RETRY, None, False),
]


LONG, SHORT = 30_000.0, 30.0  # seconds, before the factor


def hurry(answer: object) -> float:
    return 0.001 if answer == SILENCE or isinstance(answer, Slow) else 1.0


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Only this stage times out soon: a busy machine may take longer for what comes before."""

    def only(stage: str, seconds: float = SHORT) -> None:
        monkeypatch.setattr(dial, "CONNECT", LONG)
        monkeypatch.setattr(connect, "GREETING", seconds if stage == "intro" else LONG)
        monkeypatch.setattr(connect, "COMMAND", seconds if stage in ("ehlo", "helo", "starttls") else LONG)
        for one in connection.PATIENCE:
            monkeypatch.setitem(connection.PATIENCE, one, seconds if one == stage else LONG)

    return only


@pytest.fixture(scope="module")
def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("verb", DIALOGUE)
@pytest.mark.parametrize(("answer", "result", "next", "code", "survives"), TABLE)
async def test_an_answer_in_the_dialogue(verb, answer, result, next, code, survives, pipelining, patience) -> None:
    """One table decides; the connection goes on where it can, and the next message is accepted in any case."""
    patience(DIALOGUE[verb], 10 * SHORT if verb == "." and isinstance(answer, Slow) else SHORT)
    extensions = ("PIPELINING",) if pipelining else ()
    async with Receiver({verb: [answer]}, extensions) as receiver, Sender(to(receiver), hurry(answer)) as sender:
        outcome = await sender.send()
        if verb == "." and isinstance(answer, Slow):  # so much of it has come that it is one
            result, next, code = "accepted", Next.DELIVERED, 250
        assert (outcome.state, outcome.result, outcome.next) == (DIALOGUE[verb], result, next)
        assert outcome.code == code and outcome.attempted
        sender.transport.factor = 1.0
        again = await sender.send(b"Subject: second\r\n\r\n")
        assert (again.state, again.result, again.code) == ("message", "accepted", 250)
        assert receiver.messages[-1].data == b"Subject: second\r\n\r\n"
        assert receiver.connections == (1 if survives else 2)


@pytest.mark.parametrize("verb", OPENING)
@pytest.mark.parametrize(("answer", "result", "next", "code", "survives"), TABLE)
async def test_an_answer_in_the_opening(verb, answer, result, next, code, survives, server_tls, patience) -> None:
    """The same table holds before mail: no connection, and the next message makes a new one."""
    required = Limits(connection_security="required" if verb == "STARTTLS" else "off")
    factor = hurry(answer)
    script = {verb: [answer]}
    state = OPENING[verb]
    if verb == "EHLO" and code not in (None, 421):
        state, script["HELO"] = "helo", [answer]  # which is tried then
    patience(state)
    receiver = Receiver(script, tls=server_tls)
    async with receiver, Sender(to(receiver), factor, required) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == (state, result, next)
        assert outcome.code == code and not outcome.attempted
        sender.transport.factor = 1.0
        sender.slots.healthy("", sender.targets[0])
        again = await sender.send()
        assert (again.state, again.result) == ("message", "accepted")
        assert receiver.connections == 2


@pytest.mark.parametrize(("verb", "answer"), [("DATA", "250 why not"), ("MAIL", "354 go on"), (".", "354 more")])
async def test_a_positive_answer_that_makes_no_sense_is_invalid(verb, answer) -> None:
    """Each stage waits for one class of answers."""
    async with Receiver({verb: [answer]}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == (DIALOGUE[verb], "invalid", RETRY)
        assert (await sender.send()).result == "accepted"


async def test_a_refused_recipient_and_data_with_354_end_in_a_lone_dot() -> None:
    """RFC 2920 3.1: the empty message is sent, the refusal decides, and the connection is kept."""
    async with Receiver({"RCPT": ["550 5.1.1 unknown"]}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.code, outcome.status, outcome.description) == ("rcptto", 550, "5.1.1", "unknown")
        await sender.send()
        assert receiver.connections == 1 and len(receiver.messages) == 1
        assert receiver.verbs()[:7] == ["EHLO", "MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT"]


async def test_rset_refused_sends_the_next_message_over_a_new_connection() -> None:
    """Whoever does not reset cannot be trusted with the next message."""
    script = {"RCPT": ["550 no"], "DATA": ["503 no recipients"], "RSET": ["503 no reset"]}
    async with Receiver(script) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).state == "rcptto"
        assert (await sender.send()).result == "accepted"
        assert receiver.connections == 2 and [mail.connection for mail in receiver.messages] == [2]


async def test_more_answers_than_commands_close_the_connection() -> None:
    """Else each later message would be given its predecessor's answer."""
    async with Receiver({".": [b"250 taken\r\n550 and refused\r\n"]}) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "accepted"
        assert (await sender.send()).result == "accepted"
        assert receiver.connections == 2


async def test_an_answer_before_the_message_was_sent_does_not_count() -> None:
    """What has not been seen cannot have been taken."""
    async with Receiver({"DATA": [b"354 go ahead\r\n250 taken\r\n"]}) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "invalid"


@pytest.mark.parametrize("answer", [CLOSE, SILENCE])
async def test_losing_the_last_answer_is_said_to_be_a_possible_duplicate(answer, patience) -> None:
    """RFC 5321 4.5.3.2.6: the receiver may have taken it."""
    patience("message")
    async with Receiver({".": [answer]}) as receiver, Sender(to(receiver), hurry(answer)) as sender:
        assert "duplicate" in (await sender.send()).description


async def test_what_is_said_of_an_accepted_message() -> None:
    """The outcome has all that the results and the log need."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        outcome = await sender.send(b"Subject: x\r\n\r\n.\r\n")
        assert (outcome.mta, outcome.remote_ip, outcome.local_ip) == ("receiver.test", "127.0.0.1", "127.0.0.1")
        assert (outcome.code, outcome.status, outcome.description) == (250, "2.0.0", "taken")
        assert (outcome.messages, outcome.dsn, outcome.host) == (2, True, "localhost")
        assert outcome.sent_data == 24 + len(b"Subject: x\r\n\r\n..\r\n") < outcome.sent_connection
        assert 0 < outcome.wire < 30
