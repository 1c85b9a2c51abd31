"""Settlement: what replaces a lent message on the queue, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from operators.mail.message import Content


class Unstorable(Exception):
    """The queue can never take this message: it is larger than the `most` bytes that it takes."""

    most = 0


class Retry(msgspec.Struct, frozen=True):
    """The message comes back with this body, not before `at` (epoch seconds).

    `content` is that of the lease where it stays with the message; None: the body has all of it.
    """

    body: bytes
    at: float
    content: Content | None = None


class Park(msgspec.Struct, frozen=True):
    """The message waits in this lane's parked queue, and comes back by `recall`; at the latest at `expires` (epoch)."""

    lane: str
    expires: float | None = None


class Settlement(msgspec.Struct, frozen=True):
    """Copies to other queues, and the message itself where it is not done.

    With `then` None and no copies the message is simply done. `give_back` returns it unchanged, to be lent again.
    """

    publish: Sequence[tuple[str, bytes]] = ()
    then: Retry | Park | None = None
    give_back: bool = False
