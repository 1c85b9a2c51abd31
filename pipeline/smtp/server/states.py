"""The states of an SMTP session, and what each of them says to each command (RFC 5321 4.1.4, 3.3). No I/O.

            EHLO, HELO         MAIL             RCPT                DATA
  CONNECTED ---------> READY --------> SENDER --------> RECIPIENTS -----> CONTENT
      ^                 ^ ^              |                | RCPT: the same   | CRLF.CRLF
      |                 | '-- EHLO, HELO, RSET -----------'                  v
  STARTTLS, of any      '----------------- the reply to the message ------ RECEIVED

AUTH leaves READY for CHALLENGED, once for each line that it asks for, and comes back. QUIT, and whatever hangs up, ends
in CLOSED. A command moves the session when it is accepted; one that is refused leaves it where it was.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class State(enum.Enum):
    """Where a session stands."""

    CONNECTED = "connected"  # nobody has said EHLO or HELO
    READY = "ready"
    SENDER = "sender"  # MAIL was accepted
    RECIPIENTS = "recipients"  # and at least one RCPT
    CONTENT = "content"  # 354 was said: the message comes
    RECEIVED = "received"  # it has come whole; its reply is due
    CHALLENGED = "challenged"  # 334 was said: a line of AUTH comes
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is Python, and is called for each command


VERBS = ("EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "HELP", "VRFY", "QUIT")
WITHOUT_PARAMETER = frozenset({"DATA", "STARTTLS"})
GROUPED = frozenset({"MAIL", "RCPT", "RSET"})  # whose replies may wait for those that follow (RFC 2920 3.2)

_GREET = "503 5.5.1 EHLO comes first"
_NO_SENDER = "503 5.5.1 MAIL comes first"
_NO_RECIPIENT = "503 5.5.1 MAIL and RCPT come first"
_SECOND_SENDER = "503 5.5.1 There is a sender already"
_NO_AUTH = "503 5.5.1 AUTH is not possible now"

Answer = State | str  # the state after the command is accepted, or the reply that refuses it


def _row(here: State, **answers: Answer) -> Mapping[str, Answer]:
    """A row of the table; what each state says alike is written here."""
    ready = here if here is State.CONNECTED else State.READY
    return {
        "EHLO": State.READY,
        "HELO": State.READY,
        "STARTTLS": State.CONNECTED,
        "RSET": ready,
        "NOOP": here,
        "HELP": here,
        "VRFY": here,
        "QUIT": State.CLOSED,
        **answers,
    }


TABLE: Mapping[State, Mapping[str, Answer]] = {
    State.CONNECTED: _row(State.CONNECTED, AUTH=_GREET, MAIL=_GREET, RCPT=_NO_SENDER, DATA=_NO_RECIPIENT),
    State.READY: _row(State.READY, AUTH=State.READY, MAIL=State.SENDER, RCPT=_NO_SENDER, DATA=_NO_RECIPIENT),
    State.SENDER: _row(
        State.SENDER, AUTH=_NO_AUTH, MAIL=_SECOND_SENDER, RCPT=State.RECIPIENTS, DATA=_NO_RECIPIENT
    ),
    State.RECIPIENTS: _row(
        State.RECIPIENTS, AUTH=_NO_AUTH, MAIL=_SECOND_SENDER, RCPT=State.RECIPIENTS, DATA=State.CONTENT
    ),
}  # fmt: skip

IDLE = frozenset({State.CONNECTED, State.READY, State.CHALLENGED, State.CLOSED})  # between two transactions
