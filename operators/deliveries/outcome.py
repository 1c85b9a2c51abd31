"""What one attempt came to, and what happens to the message next.

Outcomes are values. `Outcome` is what the results, the delivery log and the console show; `Next` is the one
decision that `settle` carries out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

# How far an attempt got (spec: results, `state`), in order.
STATES = (
    "process", "suppression", "storage", "personalize", "responsive", "rewrite", "dns", "bind", "connect", "handshake",
    "intro", "ehlo", "helo", "starttls", "authplain", "authlogin", "authusername", "authpassword", "authcram",
    "authresponse", "mailfrom", "rcptto", "data", "message", "idle", "unknown",
)  # fmt: skip

# What it came to there (spec: results, `result`).
RESULTS = ("accepted", "timeout", "lost", "invalid", "error")


class Next(enum.StrEnum):
    """What becomes of the message."""

    DELIVERED = "delivered"  # accepted by the receiver: done
    RETRY = "retry"  # transient: back to the queue, by the message's own retry rule
    POSTPONE = "postpone"  # not an attempt: back to the queue until its time has come
    FAIL = "fail"  # permanent: given up
    REFUSE = "refuse"  # the body is no message
    PARK = "park"  # its lane has no room: to the lane's parked queue
    HANDOVER = "handover"  # another instance's queue has it: done here
    RETURN = "return"  # given back to the queue unsettled, as if never taken


class TlsFacts(dict[str, Any]):
    """`cipher` and `certificate`; what there is to say of the certificate is worked out when somebody asks for it.

    Most mail is delivered, and nobody does: it took a tenth of the time where each mail has a connection of its own.
    """

    def __init__(self, facts: dict[str, Any], certificate: Callable[[], dict[str, Any]] | None = None) -> None:
        super().__init__(facts)
        self._certificate = certificate

    def __missing__(self, name: str) -> Any:
        if name != "certificate" or self._certificate is None:
            raise KeyError(name)
        certificate, self._certificate = self._certificate, None
        self[name] = certificate()
        return self[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping."""
        try:
            return self[name]
        except KeyError:
            return default

    def whole(self) -> dict[str, Any]:
        """With everything in it."""
        if self._certificate is not None:
            self["certificate"]
        return self


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt's end.

    Attributes:
        state: how far it got, one of STATES.
        result: what came of it there, one of RESULTS.
        next: what happens to the message.
        code: SMTP reply code (RFC 5321 4.2), None without an answer.
        status: enhanced status code (RFC 3463), as received.
        description: the answer's text, or what went wrong.
        mta: the name in the receiver's greeting.
        local_ip, remote_ip, host: the connection's two addresses and the MX host's name.
        messages: messages this connection has carried, this one included.
        sent_connection, sent_data: bytes sent over the connection so far: all, and of messages alone.
        attempted: MAIL FROM was sent.
        wire: seconds from the start of the attempt on a connection to its end.
        authentication: the mechanism of the login, where there was one.
        tls: cipher and certificate where TLS was used (results: `cipher`, `certificate`).
        dsn: the receiver offers DSN (RFC 3461).
        until: with POSTPONE and PARK: not before (epoch seconds), where known.
        lane: with PARK: the parked queue.
        ours: the answer is a rule's, no receiver's.
        extra: what rules have set in the entry of the results.
        bounce_class: what a negative answer means, one of CLASSES in `classes`.
        skipped: no host was reached for, since all had failed a moment ago. It is listed, and counts as no attempt.
    """

    state: str
    result: str
    next: Next
    code: int | None = None
    status: str | None = None
    description: str = ""
    mta: str | None = None
    local_ip: str | None = None
    remote_ip: str | None = None
    host: str | None = None
    messages: int = 0
    sent_connection: int = 0
    sent_data: int = 0
    attempted: bool = False
    wire: float = 0.0
    authentication: str | None = None
    tls: dict[str, Any] | None = None
    dsn: bool | None = None
    until: float | None = None
    lane: str | None = None
    skipped: bool = False
    ours: bool = False
    bounce_class: str | None = None
    extra: dict[str, Any] | None = None


def failed(state: str, result: str, description: str, **more: Any) -> Outcome:
    """A permanent end: the message is given up."""
    return Outcome(state=state, result=result, next=Next.FAIL, description=description, **more)


def deferred(state: str, result: str, description: str, **more: Any) -> Outcome:
    """A transient end: the message is retried by its retry rule."""
    return Outcome(state=state, result=result, next=Next.RETRY, description=description, **more)


def parked(lane: str, why: str) -> Outcome:
    """No room in its lane: out of memory until the lane calls it in again."""
    return Outcome(state="process", result="error", next=Next.PARK, description=why, lane=lane)


def postponed(until: float, why: str) -> Outcome:
    """Not yet: back to the queue until `until` (epoch seconds). Not an attempt."""
    return Outcome(state="process", result="error", next=Next.POSTPONE, description=why, until=until)
