"""The session without I/O: every command in every state, and what the owner's answer makes of the state."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.smtp.server.protocol import ChallengeAnswer, CommandLine, MailData, ServerProtocol
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.states import TABLE, VERBS, State

# What is accepted to get there.
WAYS = {
    State.CONNECTED: b"",
    State.READY: b"EHLO x\r\n",
    State.SENDER: b"EHLO x\r\nMAIL FROM:<>\r\n",
    State.RECIPIENTS: b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\n",
    State.CONTENT: b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n",
    State.RECEIVED: b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\n",
    State.CHALLENGED: b"EHLO x\r\nAUTH PLAIN\r\n",
    State.CLOSED: b"QUIT\r\n",
}
# RFC 5321 4.1.4, RFC 3207 4.2, RFC 4954 4: where each command leads from CONNECTED, READY, SENDER and RECIPIENTS.
RULES = {
    "EHLO": ["ready", "ready", "ready", "ready"],
    "HELO": ["ready", "ready", "ready", "ready"],
    "STARTTLS": ["connected", "connected", "connected", "connected"],
    "AUTH": ["503", "ready", "503", "503"],
    "MAIL": ["503", "sender", "503", "503"],
    "RCPT": ["503", "503", "recipients", "recipients"],
    "DATA": ["503", "503", "503", "content"],
    "RSET": ["connected", "ready", "ready", "ready"],
    "NOOP": ["connected", "ready", "sender", "recipients"],
    "HELP": ["connected", "ready", "sender", "recipients"],
    "VRFY": ["connected", "ready", "sender", "recipients"],
    "QUIT": ["closed", "closed", "closed", "closed"],
}
CASES = [
    (state, verb, RULES[verb][number])
    for (number, state), verb in itertools.product(enumerate(TABLE), VERBS)
]  # fmt: skip


def session_in(state: State) -> ServerProtocol:
    """One that has come there by commands that were all accepted."""
    session = ServerProtocol()
    session.receive(WAYS[state])
    while (event := session.next_event()) is not None:
        if isinstance(event, MailData):
            break
        assert isinstance(event, CommandLine)
        if event.verb == "AUTH":
            session.challenge("")
        else:
            session.accept(b"250 ok")
    session.output()
    assert session.state is state
    return session


@pytest.mark.parametrize(("state", "verb", "wanted"), CASES, ids=[f"{state.value}-{verb}" for state, verb, _ in CASES])
def test_each_command_in_each_state(state: State, verb: str, wanted: str) -> None:
    """Accepted it leads on, refused it leaves the session where it was; out of order it gets 503 (RFC 5321 4.1.4)."""
    session = session_in(state)
    session.receive(f"{verb}\r\n".encode())
    if wanted == "503":
        with pytest.raises(Refusal, match=r"503 5\.5\.1"):
            session.next_event()
        assert session.state is state
        return
    command = session.next_event()
    assert command == CommandLine(verb, "")
    assert session.state is state
    session.accept(b"250 ok")
    assert session.state.value == wanted
    assert session.output() == b"250 ok\r\n"


@pytest.mark.parametrize("state", TABLE, ids=lambda state: state.value)
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_that_is_refused_changes_nothing(state: State, verb: str) -> None:
    """The owner says no where the table would let it through."""
    session = session_in(state)
    session.receive(f"{verb}\r\n".encode())
    try:
        session.next_event()
        refusal = Refusal("550 5.7.1 No")
    except Refusal as raised:
        refusal = raised
    assert session.refuse(refusal) == refusal.reply.encode()
    assert session.state is state


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_closed_is_the_end_of_each_state(state: State) -> None:
    """Nothing is read or said any more, and nothing opens it again."""
    session = session_in(state)
    session.close(b"421 4.4.2 Bye")
    session.output()
    session.receive(b"EHLO x\r\n")
    assert session.next_event() is None
    session.accept(b"250 ok")
    session.challenge("")
    session.refuse(Refusal("550 5.0.0 No"))
    assert session.closed
    assert session.idle
    assert session.output() == b""


@pytest.mark.parametrize("accepted", [True, False])
def test_the_message_is_answered_before_the_next_command_is_read(accepted: bool) -> None:
    """It comes whole, what follows it stays; either answer ends the transaction (RFC 5321 4.1.1.4)."""
    session = session_in(State.CONTENT)
    session.receive(b"..x\r\n.\r\nNOOP\r\n")
    event = session.next_event()
    assert isinstance(event, MailData)
    assert event.whole == b"..x\r\n"
    assert not session.idle
    if accepted:
        session.accept(b"250 ok")
    else:
        session.refuse(Refusal("451 4.3.0 No"))
    assert session.state is State.READY
    assert session.next_event() == CommandLine("NOOP", "")


def test_a_message_that_breaks_off_ends_the_session() -> None:
    """Of ours, say: what is left of the message is never read as commands (smuggling)."""
    session = session_in(State.CONTENT)
    session.receive(b"half a message\r\nMAIL FROM:<evil@example.org>\r\n")
    session.next_event()
    session.refuse(Refusal("451 4.3.0 Something went wrong here"))
    assert session.closed


def test_an_answer_to_a_challenge_is_no_command() -> None:
    """RFC 4954 4; and it stands in nothing that is shown."""
    session = session_in(State.CHALLENGED)
    session.receive(b"QUIT\r\nNOOP\r\n")
    assert session.next_event() == ChallengeAnswer(b"QUIT\r\n")
    assert session.line == b""
    assert session.state is State.READY
    session.accept(b"235 2.7.0 Welcome")
    assert session.next_event() == CommandLine("NOOP", "")


def test_what_was_sent_along_with_starttls_is_dropped() -> None:
    """RFC 3207 4.2."""
    session = session_in(State.READY)
    session.receive(b"STARTTLS\r\nRSET\r\n")
    session.next_event()
    session.accept(b"220 ok")
    assert session.forget() == b"RSET\r\n"
    assert session.next_event() is None


def told(octets: bytes, cuts: list[int]) -> list[object]:
    """What a session says of octets that come in pieces; commands are accepted, messages too."""
    session, found, turn, received = ServerProtocol(), [], 0, 0
    while octets and not session.closed:
        size = cuts[turn % len(cuts)]
        session.receive(octets[:size])
        octets, turn = octets[size:], turn + 1
        while True:
            try:
                event = session.next_event()
            except Refusal as refusal:
                found.append(refusal.reply)
                session.refuse(refusal)
                continue
            if event is None:
                break
            if isinstance(event, MailData):
                if event.whole is None:
                    continue
                event, received = event.whole, received + 1
            found.append(event)
            session.accept(b"250 ok")
    return found


PIECES = [
    b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<a@b>\r\n", b"DATA\r\n", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"..\r\n",
    b"x", b"\r", b"\n", b"RSET\r\n", b"NOOP\n", b"BDAT 3\r\n", b"AUTH x\r\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.lists(st.integers(1, 9), min_size=1))
def test_how_octets_are_cut_changes_nothing(octets: bytes, cuts: list[int]) -> None:
    """TCP has no boundaries: events and refusals are those of the octets that came in one piece."""
    whole = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n" + octets
    assert told(whole, cuts) == told(whole, [len(whole)])
