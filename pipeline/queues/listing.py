"""Messages of a queue one by one, as people list, read and change them. A broker lends messages and cannot do this."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from operators.deliveries.delivery import Lease

Place = tuple[float, int]  # (due, id) of the last message looked at
Action = Literal["retry", "release", "delete"]
UNBROWSABLE = "the messages in a broker's queues cannot be listed or changed one by one; its own tools can"


class Unbrowsable(Exception):
    """The queue lends messages, and does not list them."""

    def __init__(self, why: str = UNBROWSABLE) -> None:
        super().__init__(why)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages.

    Attributes:
        queue: its name; None: all messages of all queues, whatever the next two say.
        lane: parked there.
        waiting: wait for a time; otherwise, without a lane, those that are ready.
        containing: text that the recipient, the envelope, the message id or the subject contains, in any case.
    """

    queue: str | None = None
    lane: str = ""
    waiting: bool = False
    containing: str | None = None


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for to be withdrawn; what is empty holds for all.

    Attributes:
        queue: its name; the outbox.
        state: ready, waiting, parked.
        lane: parked there.
        tag: that a message may have.
        domains: of the recipient, one of these.
    """

    queue: str = ""
    state: str = ""
    lane: str = ""
    tag: str = ""
    domains: tuple[str, ...] = ()


class Withdrawn(msgspec.Struct, frozen=True):
    """A part of what is sought: the leases, and how many messages were looked at for them."""

    leases: list[Lease]
    looked: int


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Times in epoch seconds; `due` 0: now. `last` is the last attempt's entry in `results`."""

    id: int
    queue: str
    lane: str
    due: float
    expires: float | None
    queued: float
    size: int
    recipient: str = ""
    envelope: str = ""
    attempts: int = 0
    last: dict[str, Any] | None = None
    tags: list[str] = []
    message_id: str = ""


class Browsed(msgspec.Struct, frozen=True):
    """A page, and the `after` of the next one; None: there is no more."""

    messages: list[Listed]
    after: Place | None


class OpenedMessage(msgspec.Struct, frozen=True):
    """One message: how it is listed, and its body."""

    listed: Listed
    body: bytes


class _Envelope(msgspec.Struct):
    """What is listed of a message."""

    recipient: Any = ""
    envelope: Any = ""
    results: Any = None
    tags: Any = None


_read = msgspec.json.Decoder(_Envelope).decode


def listed(lease: Lease, queue: str) -> Listed:
    """A message that was withdrawn from a queue, as it is listed; when it is due is not known any more."""
    try:
        found = _read(lease.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _Envelope()
    results = found.results if isinstance(found.results, list) else []
    last = results[-1] if results and isinstance(results[-1], dict) else None
    return Listed(
        id=lease.id,
        queue=queue,
        lane=lease.recalled or "",
        due=0.0,
        expires=None,
        queued=lease.queued,
        size=len(lease.body),
        recipient=str(found.recipient or ""),
        envelope=str(found.envelope or ""),
        attempts=len(results),
        last=last,
        tags=[tag for tag in found.tags if isinstance(tag, str)] if isinstance(found.tags, list) else [],
    )


EVERYTHING = Filter()
