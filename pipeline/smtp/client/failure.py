"""Why there is no connection: the outcome for the message, and what it says of the receiver's address.

Three kinds of fault are told apart, since only the first is the receiver's: what the receiver did or left undone;
what lies between one MTA IP and it (no route, an address that cannot be bound); and what this machine has run out of.
"""

from __future__ import annotations

import errno
import os
import ssl

import msgspec

from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.replies import Reply, classify, clean

# What this machine has run out of: descriptors, memory, ports. Bound or connecting, it says nothing of the receiver.
SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN))
NO_PORTS = frozenset((*SHORTAGE, errno.EADDRINUSE))  # to bind, without an address of one's own being wrong
# What a receiver, or a host before it, answers to a connection. All other errors are ours: no route, forbidden.
ANSWERED = frozenset((errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN))

# How long a receiver's address and port are passed over after they failed, seconds: (state, result) -> for the MTA IP.
# An answer of 5xx is the receiver's word on each message, and skips nothing; nor does what only one lane asks (TLS).
SKIP = {
    ("connect", "error"): 60.0,
    ("connect", "timeout"): 300.0,
    ("intro", "timeout"): 300.0,
    ("intro", "lost"): 60.0,
    ("intro", "invalid"): 60.0,
    ("intro", "error"): 30.0,
    ("ehlo", "timeout"): 300.0,
    ("ehlo", "lost"): 60.0,
}


class Failed(Exception):
    """No connection. Carries the outcome, and whether another host may do better.

    Attributes:
        outcome: what it comes to for the message.
        handshake: STARTTLS was refused, or what it led to is of no use: in plain text it may do.
        ours: the receiver has no part in it.
        shortage: this machine has run out of something; then it is no attempt.
        proxy: the server that mail of this MTA IP leaves through does not serve; then it is no attempt, too.
    """

    def __init__(
        self,
        state: str,
        result: str,
        text: str,
        reply: Reply | None = None,
        *,
        handshake: bool = False,
        ours: bool = False,
        shortage: bool = False,
        proxy: bool = False,
    ) -> None:
        super().__init__(text)
        next = classify(state, reply.code)[1] if reply is not None and result == "error" else Next.RETRY
        self.outcome = Outcome(
            state=state,
            result=result,
            next=next,
            code=reply.code or None if reply is not None else None,
            status=reply.status if reply is not None else None,
            description=reply.description if reply is not None else clean(text),
        )
        self.handshake, self.ours, self.shortage, self.proxy = handshake, ours, shortage, proxy
        self.other_host = state != "bind" and not state.startswith("auth") and not (shortage or proxy)

    def may_yet(self) -> Failed:
        """The same, to be tried again later, though the answer was a permanent one: it was not about the message."""
        self.outcome = msgspec.structs.replace(self.outcome, next=Next.RETRY)
        return self

    @property
    def skip(self) -> float:
        """Seconds to pass this address and port over, from this MTA IP."""
        if self.ours or self.handshake or self.outcome.next is Next.FAIL:
            return 0.0
        return SKIP.get((self.outcome.state, self.outcome.result), 0.0)


def reason(error: OSError) -> str:
    """What the operating system, or TLS, says; asyncio puts its own words in the place of the system's."""
    if isinstance(error, ssl.SSLError) or not error.errno or error.errno < 0:
        return clean(str(getattr(error, "verify_message", "") or error.strerror or error or type(error).__name__), 300)
    return os.strerror(error.errno)
