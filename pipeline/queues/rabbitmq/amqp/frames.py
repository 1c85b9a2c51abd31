"""What comes from the broker, as frames that aiormq can decode: no message can end the connection.

RabbitMQ hands on what a publisher has set, and checks little of it: Latin-1 in any string, times that no calendar has,
tables nested thousands deep, a routing key of any bytes. pamqp decodes all of that, raises where it cannot, and aiormq
then ends the connection, which brings the same message again. So each frame passes here first. Of a delivery's
properties only those are handed on that Mailrace uses, each as the protocol has it (AMQP 0-9-1, 4.2.5 and 4.2.6.1);
whatever else there is, is skipped unread. Where the properties are cut off, what stands before that counts.

No state but the frame that is being read. Cost: 4 microseconds a delivery, one of which pamqp then saves.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, cast

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

METHOD, HEADER = 1, 2  # frame types (4.2.3)
DELIVER, GET_OK, RETURN = (60, 60), (60, 71), (60, 50)
CONNECTION_CLOSE, CHANNEL_CLOSE, BLOCKED = (10, 50), (20, 40), (10, 60)
PRELUDE = struct.Struct(">BHI")  # type, channel, size
METHODS = struct.Struct(">HH")
LONG = struct.Struct(">I")
TIME = struct.Struct(">Q")
END = b"\xce"
OURS = b"x-mailrace-"  # how the names of our own headers begin
LOOKED_AT = 1000  # headers; ours are among the first
EARLIEST, LATEST = 946_684_800, 0xFFFF_FFFF  # seconds: what is before 2000 or after 2106 is no time of a message

# Flags of the properties, in the order in which they stand, and whether each is a short string (4.2.6.1).
CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY = (1 << bit for bit in range(15, 10, -1))
BETWEEN = tuple(1 << bit for bit in (10, 9, 8))  # correlation-id, reply-to, expiration
MESSAGE_ID, TIMESTAMP = 1 << 7, 1 << 6
USED = b"bBsuIilLS"  # types of our own headers: whole numbers and text
FIXED = {ord("t"): 1, ord("b"): 1, ord("B"): 1, ord("s"): 2, ord("u"): 2, ord("I"): 4, ord("i"): 4, ord("f"): 4}
FIXED |= {ord("l"): 8, ord("L"): 8, ord("d"): 8, ord("T"): 8, ord("D"): 5, ord("V"): 0, 0: 0}
SIZED = b"SxAF"  # a length of four bytes, and so much


class Lenient(TransportFactory):
    """Connects as aiormq does, and reads leniently."""

    frames: Frames

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the broker."""
        plain = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await plain.create(url, **options)
        self.frames = Frames(reader)
        return cast(asyncio.StreamReader, self.frames), writer


class Frames:
    """Reads whole frames, and gives them out in the pieces that aiormq asks for. `heard`: when one came, monotonic."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._frame, self._at = b"", 0
        self.heard = time.monotonic()

    def at_eof(self) -> bool:
        """Nothing more comes."""
        return self._at >= len(self._frame) and self._reader.at_eof()

    async def readexactly(self, size: int) -> bytes:
        """The next bytes; never beyond the end of a frame."""
        if self._at >= len(self._frame):
            self._frame, self._at = await self._next(), 0
        begin, self._at = self._at, self._at + size
        return self._frame[begin : self._at]

    async def _next(self) -> bytes:
        prelude = await self._reader.readexactly(PRELUDE.size)
        kind, channel, size = PRELUDE.unpack(prelude)
        rest = await self._reader.readexactly(size + 1)
        self.heard = time.monotonic()
        if kind == HEADER:
            return _frame(kind, channel, properties(rest[:-1]))
        if kind == METHOD and (payload := method(rest)) is not None:
            return _frame(kind, channel, payload)
        return prelude + rest


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return PRELUDE.pack(kind, channel, len(payload)) + payload + END


def method(frame: bytes) -> bytes | None:
    """A method that quotes what a publisher has chosen, without that; None: as it is.

    Args:
        frame: what follows the frame's prelude.
    """
    if len(frame) < 5:
        return None
    index = METHODS.unpack_from(frame)
    if index == DELIVER:  # consumer-tag, delivery-tag, redelivered; exchange and routing-key are not used
        return frame[: 5 + frame[4] + 9] + b"\0\0"
    if index == GET_OK:  # delivery-tag, redelivered; the same; message-count
        return frame[:13] + b"\0\0" + frame[-5:-1]
    if index == RETURN:  # reply-code; reply-text and the same
        return frame[:6] + b"\0\0\0"
    if index in (CONNECTION_CLOSE, CHANNEL_CLOSE):  # reply-text may be cut off within a character
        return frame[:6] + _short(frame[7 : 7 + frame[6]]) + frame[-5:-1]
    if index == BLOCKED:
        return frame[:4] + _short(frame[5 : 5 + frame[4]])
    return None


def _short(text: bytes) -> bytes:
    clean = text.decode(errors="ignore").encode()
    return bytes([len(clean)]) + clean


def properties(payload: bytes) -> bytes:
    """A content header with what we use of it."""
    flags, found = 0, []
    for flag, value in _used(payload):
        flags |= flag
        found.append(value)
    return payload[:12] + flags.to_bytes(2) + b"".join(found)


def _used(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """(flag, bytes) of the properties that we use. Whatever is not as it should be ends them."""
    try:
        yield from _walk(payload)
    except (IndexError, struct.error):
        return


def _walk(payload: bytes) -> Iterator[tuple[int, bytes]]:
    flags = payload[12] << 8 | payload[13]
    at, more = 14, flags & 1
    while more:  # further words of flags: none is defined
        more, at = payload[at + 1] & 1, at + 2
    if flags & CONTENT_TYPE:
        at += 1 + payload[at]
    if flags & CONTENT_ENCODING:
        begin, at = at, at + 1 + payload[at]
        if (encoding := payload[begin:at]).isascii():
            yield CONTENT_ENCODING, encoding
    if flags & HEADERS:
        begin, at = at + 4, at + 4 + LONG.unpack_from(payload, at)[0]
        own: list[bytes] = []
        with contextlib.suppress(IndexError, struct.error):
            own.extend(_own(payload[begin:at]))
        if own:
            yield HEADERS, LONG.pack(sum(map(len, own))) + b"".join(own)
    at += bool(flags & DELIVERY_MODE) + bool(flags & PRIORITY)
    for flag in BETWEEN:
        if flags & flag:
            at += 1 + payload[at]
    if flags & MESSAGE_ID:
        begin, at = at + 1, at + 1 + payload[at]
        yield MESSAGE_ID, _id(payload[begin:at])
    if flags & TIMESTAMP and (seconds := _seconds(TIME.unpack_from(payload, at)[0])):
        yield TIMESTAMP, TIME.pack(seconds)


def _own(table: bytes) -> Iterator[bytes]:
    """Our own headers of a table: whole numbers and text."""
    if OURS not in table:
        return
    at, end = 0, len(table)
    for _ in range(LOOKED_AT):
        if at >= end:
            return
        begin, name = at, table[at + 1 : at + 1 + table[at]]
        at += 1 + len(name)
        kind = table[at]
        at += 1 + _size(table, kind, at + 1)
        if at <= end and kind in USED and name.startswith(OURS) and name.isascii():
            yield table[begin:at]


def _size(table: bytes, kind: int, at: int) -> int:
    """Bytes of a value. Raises `IndexError` for a type that is none: it is not known where the next one begins."""
    if kind in SIZED:
        return 4 + int(LONG.unpack_from(table, at)[0])
    if kind not in FIXED:
        raise IndexError
    return FIXED[kind]


def _id(text: bytes) -> bytes:
    """A message-id; of one that is no UTF-8 a digest, which is as good for telling messages apart."""
    try:
        text.decode()
    except UnicodeDecodeError:
        text = blake2b(text, digest_size=16).hexdigest().encode()
    return bytes([len(text)]) + text


def _seconds(stamp: int) -> int:
    """A timestamp in seconds, also of programs that count in thousandths, millionths or less; 0 where it is no time."""
    while stamp > LATEST:
        stamp //= 1000
    return stamp if stamp >= EARLIEST else 0
