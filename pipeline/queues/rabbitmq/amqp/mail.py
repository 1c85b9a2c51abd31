"""Queue messages as AMQP carries them: properties, our own headers, gzip. No state.

Everything of Mailrace's own is in headers, so that any AMQP client can publish a plain JSON body, and read one.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import time
import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from pamqp import commands
from pamqp.header import ContentHeader

from operators.deliveries.results import QUOTED

QUEUED = "x-mailrace-queued"  # when it came into the queue, epoch milliseconds
DUE = "x-mailrace-due"  # not before, epoch milliseconds
SLACK = "x-mailrace-slack"  # milliseconds that it may be late
LANE = "x-mailrace-lane"  # in whose parked queue it waits, or has expired
MOST = 2**53  # in a header of ours: milliseconds; what is more is not ours
LONGEST = 2**32 - 1  # milliseconds: the longest TTL (rabbitmq.com/docs/ttl)
DENSEST = 1032  # times: the most that DEFLATE packs (zlib.net/zlib_tech.html)
FASTEST = 1  # gzip level: 20 times as fast as level 9, and 10 % larger
PERSISTENT, TRANSIENT = 2, 1  # delivery-mode

Properties = commands.Basic.Properties


class Urgent(msgspec.Struct):
    """What of a body decides its place in a queue with priorities."""

    priority: int = 0


_OWN_ID = re.compile(r"[0-9a-f]{32}-\d{1,18}(?:~\d{1,6})?").fullmatch  # as `Publisher` makes them
_urgent = msgspec.json.Decoder(Urgent).decode


class BrokerMessage(msgspec.Struct, kw_only=True, eq=False):
    """A message to publish.

    Attributes:
        queue: where to.
        body: JSON, not compressed.
        copy: a copy for a result queue; the message itself otherwise.
        queued, due: epoch seconds; `due` 0 is now.
        slack: milliseconds that it may be late.
        lane: whose parked queue `queue` is.
        expires: epoch seconds at which it leaves the parked queue by itself.
        id: the AMQP message-id; given when it is first published, and kept where it is published again.
    """

    queue: str
    body: bytes
    copy: bool = False
    queued: float = 0.0
    due: float = 0.0
    slack: int = 0
    lane: str | None = None
    expires: float | None = None
    id: str = ""

    def properties(self, now: float, persistent: bool, encoding: str | None, most: int) -> Properties:
        """The AMQP properties.

        Args:
            now: epoch seconds.
            persistent: it survives a restart of the broker.
            encoding: `gzip` where the body is compressed.
            most: the queues' x-max-priority; 0: they have none.
        """
        headers: dict[str, Any] = {QUEUED: int((self.queued or now) * 1000)}
        if self.due:
            headers |= {DUE: int(self.due * 1000), SLACK: self.slack}
        if self.lane is not None:
            headers[LANE] = self.lane
        return Properties(
            content_type="application/json",
            content_encoding=encoding,
            headers=headers,
            delivery_mode=PERSISTENT if persistent else TRANSIENT,
            priority=min(_priority(self.body), most) if most else None,
            expiration=None if self.expires is None else str(_lifetime(self.expires - now)),
            message_id=self.id,
            timestamp=datetime.fromtimestamp(now, UTC),
        )


def _lifetime(seconds: float) -> int:
    return min(max(int(seconds * 1000), 0), LONGEST)


def _priority(body: bytes) -> int:
    try:
        return max(0, _urgent(body).priority)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def compressed(body: bytes) -> bytes:
    """The body as gzip."""
    return gzip.compress(body, FASTEST, mtime=0)


def plain(body: bytes, encoding: str | None, most: int) -> tuple[bytes, int]:
    """The body as it was before compression, or as it is where it is no gzip; and 0.

    Of one over `most` bytes only the beginning, and how many it has at least: so neither large bodies nor bombs fill
    memory, however many of them come.
    """
    size = 0
    if encoding is not None and encoding.lower() in ("gzip", "x-gzip"):
        with contextlib.suppress(zlib.error, OSError, EOFError):
            body, size = _unpacked(body, most)
    size = size or len(body)
    return (body, 0) if size <= most else (body[:QUOTED], size)


def _unpacked(body: bytes, most: int) -> tuple[bytes, int]:
    """What is in a gzip body, and how much of it there is: not more than `most` bytes and one are unpacked.

    Most bombs not even so far: gzip ends with the size, modulo 2**32 (RFC 1952 2.3.1), which is believed where DEFLATE
    can have made so much of so little. 1 GB of 1 MB: 1 ms instead of 850.

    Raises:
        zlib.error, OSError, EOFError: it is no gzip, or cut off.
    """
    member, claimed = zlib.decompressobj(wbits=31), int.from_bytes(body[-4:], "little")
    if most < claimed <= DENSEST * len(body):
        return member.decompress(body, QUOTED), claimed
    whole = member.decompress(body, most + 1)
    if not member.eof and len(whole) <= most:
        raise EOFError
    if member.unused_data and len(whole) <= most:  # RFC 1952 2.2: a file is a series of members
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            whole = file.read(most + 1)
    return whole, len(whole)


def at_once(body: bytes) -> bytes:
    """A JSON object without its `nextattempt`; anything else as it is."""
    try:
        properties = msgspec.json.decode(body)
        if not isinstance(properties, dict) or "nextattempt" not in properties:
            return body
        del properties["nextattempt"]
        return msgspec.json.encode(properties)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


def following(id: str | None) -> str:
    """The id of what replaces a message unchanged, again the same where that is published again; "": any new one."""
    base, _, number = (id or "").rpartition("~")
    if not base or not number.isdecimal() or len(number) > 6:
        return f"{id}~1" if id and len(id) < 200 else ""
    return f"{base}~{int(number) + 1}"


def is_own(id: str | None) -> bool:
    """Whether we have made this id: it is no other message's, and `following` gives that of what replaces it."""
    return id is not None and _OWN_ID(id) is not None


def waits(own: dict[str, Any]) -> bool:
    """Whether we have put it where it waited: nobody else gives a message its id then."""
    return DUE in own or LANE in own


def headers(header: ContentHeader) -> dict[str, Any]:
    """The headers of what was consumed."""
    return header.properties.headers or {}


def number(headers: dict[str, Any], name: str) -> int | None:
    """One of our own headers; None where it is missing, or another program's and no time."""
    value = headers.get(name)
    return value if type(value) is int and 0 <= value <= MOST else None


def queued(header: ContentHeader) -> float:
    """When it came into the queue, epoch seconds: by our header, else by its timestamp, else now; never later."""
    now = time.time()
    if (own := number(headers(header), QUEUED)) is not None:
        return min(own / 1000, now)
    stamp = header.properties.timestamp
    return min(stamp.timestamp(), now) if isinstance(stamp, datetime) else now
