"""The delivery: a message in memory, on its way through the stages.

A stage takes a delivery and hands on a changed copy. One that has come to its end carries an `outcome`; the
stages after that let it pass untouched, to `settle`. So every message takes the whole way, and nothing goes
around it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from operators.deliveries.outcome import Outcome
from operators.mail.message import Content, Message


class Lease(msgspec.Struct, frozen=True):
    """A message lent by the queue, to be settled exactly once.

    Attributes:
        id: the queue's own handle, opaque.
        body: the JSON, uncompressed.
        queued: epoch seconds at which it came into the queue.
        recalled: the lane whose parked queue it was called in from, or None for the outbox.
        redelivered: it was lent before, and not settled.
        size: bytes, at least, of a body that is too long; of that `body` is only the beginning. 0: `body` is whole.
        timely: the queue itself has kept its time, which has come: what the message says of it holds no more.
        content: what follows the header, where that is apart; the `mime` in `body` is the header then.
    """

    id: Any
    body: bytes
    queued: float = 0.0
    recalled: str | None = None
    redelivered: bool = False
    size: int = 0
    timely: bool = False
    content: Content | None = None


class Target(msgspec.Struct, frozen=True):
    """One address to try: a receiving host's name, its IP and port."""

    host: str
    address: str
    port: int = 25


class Route(msgspec.Struct, frozen=True):
    """Where a domain's mail goes.

    Attributes:
        group: the destination group's name: domains with the same MX hosts have the same.
        targets: in the order to try (RFC 5321 5.1: by preference, equal ones shuffled).
        expires: monotonic seconds after which the answer must be looked up again.
    """

    group: str
    targets: tuple[Target, ...]
    expires: float = 0.0


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message in memory.

    Attributes:
        lease: what the queue lent.
        message: the message.
        taken: monotonic seconds at which it came into memory.
        domain: the destination domain.
        source: the MIME bytes to send, with headers changed and signatures added.
        content: what follows `source`, where that is the header only.
        route: where it goes, from `resolve`.
        ip: MTA IP, from `assign`.
        lane: `ip/group`: where it waits and whose limits hold.
        slot: the connection it may use, from `throttle`.
        outcome: set once it has come to its end.
        rules: those that have decided on it, as `kind/id`.
        warm: its place in a day of a warm-up.
    """

    lease: Lease
    message: Message
    taken: float = 0.0
    domain: str = ""
    source: bytes = b""
    content: Content | None = None
    route: Route | None = None
    ip: str = ""
    lane: str = ""
    slot: Any = None
    outcome: Outcome | None = None
    rules: tuple[str, ...] = ()
    warm: Any = None

    @property
    def size(self) -> int:
        """Bytes to send."""
        return len(self.source) + (self.content.size if self.content is not None else 0)

    def but(self, **changes: Any) -> Delivery:
        """A copy with these attributes changed."""
        return msgspec.structs.replace(self, **changes)

    def ended(self, outcome: Outcome) -> Delivery:
        """A copy that has come to its end."""
        return msgspec.structs.replace(self, outcome=outcome)


def lane_name(ip: str, group: str) -> str:
    """The lane of this MTA IP and destination group."""
    return f"{ip}/{group}"


def lane_ip(name: str) -> str:
    """The MTA IP of a lane; empty for a parked queue that is none: `pause/3`, or `?/example.com` before its route."""
    ip = name.partition("/")[0]
    return ip if "." in ip or ":" in ip else ""
