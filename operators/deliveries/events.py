"""Events: small immutable records of what happened. Console, metrics, logs and cluster see these and nothing else.

There is one event stream; each view is a projection of it. `time` is epoch seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Outcome


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened."""

    time: float


class Taken(Event, frozen=True, kw_only=True):
    """A message came into memory: from the outbox, or called in from a lane's parked queue (`lease.recalled`)."""

    delivery: Delivery


class Assigned(Event, frozen=True, kw_only=True):
    """A delivery got its MTA IP and its lane."""

    delivery: Delivery


class Redirected(Event, frozen=True, kw_only=True):
    """A redirect rule replaced the MTA IP."""

    delivery: Delivery
    from_ip: str


class Settled(Event, frozen=True, kw_only=True):
    """The queue has confirmed a delivery's end. `outcome.next` tells which; `retry_at` (epoch) where it comes back."""

    delivery: Delivery
    outcome: Outcome
    retry_at: float | None = None


class Passed(Settled, frozen=True, kw_only=True):
    """`count` new messages were taken, assigned and delivered alike within a moment, none of which was told by itself.

    For those who only count, where several processes carry mail. `answers`: when, what the receiver said and the
    message's id, of the last few.
    """

    count: int
    answers: tuple[tuple[float, str, str | None], ...] = ()


class Parked(Event, frozen=True, kw_only=True):
    """`count` messages were found in a lane's parked queue: at start, or put there by another process."""

    lane: str
    count: int


class Unparked(Event, frozen=True, kw_only=True):
    """Messages left a lane's parked queue by an operator's hand: deleted, purged, or released into the queue."""

    lane: str
    count: int


class Received(Event, frozen=True, kw_only=True):
    """Intake took a message: the queue has confirmed it."""

    message_id: str
    envelope: str
    recipient: str
    size: int
    source: str  # smtp, spool, cli, http
    remote_ip: str = ""
    user: str = ""


class Rejected(Event, frozen=True, kw_only=True):
    """Intake turned a message or a client away."""

    reason: str
    code: int
    envelope: str = ""
    recipient: str = ""
    remote_ip: str = ""
    user: str = ""


class Connecting(Event, frozen=True, kw_only=True):
    """An outgoing connection is begun."""

    lane: str
    ip: str
    remote_ip: str
    host: str


class Connected(Event, frozen=True, kw_only=True):
    """An outgoing connection is ready for mail."""

    lane: str
    ip: str
    remote_ip: str
    host: str
    tls: bool


class Disconnected(Event, frozen=True, kw_only=True):
    """An outgoing connection is gone. `reason`: quit, idle, limit, lost, refused, timeout, or a receiver's answer."""

    lane: str
    ip: str
    remote_ip: str
    host: str
    reason: str
    messages: int


class Fault(Event, frozen=True, kw_only=True):
    """Something of ours failed: an operator's exception, the disk, the broker. `detail` has no secrets."""

    where: str
    detail: str


class Notice(Event, frozen=True, kw_only=True):
    """Something an operator of the machine should know; `kind` is a short name, `fields` its facts."""

    kind: str
    text: str
    fields: dict[str, Any] = {}
