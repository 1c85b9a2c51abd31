"""A raw AMQP 0-9-1 publisher over a socket: sets what no client library lets one set. Nothing is checked here."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

METHOD, HEADER, BODY = 1, 2, 3
SHORT, LONG, LONGLONG = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
FLAGS = {
    "content-type": 15, "content-encoding": 14, "headers": 13, "delivery-mode": 12, "priority": 11,
    "correlation-id": 10, "reply-to": 9, "expiration": 8, "message-id": 7, "timestamp": 6, "type": 5,
    "user-id": 4, "app-id": 3, "cluster-id": 2,
}  # fmt: skip


class Closed(OSError):
    """The broker has closed the connection or the channel, and said why."""


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes([len(text)]) + text


def table(*fields: tuple[bytes, bytes]) -> bytes:
    """A table of (name, type and value)."""
    return sized(b"".join(short(name) + value for name, value in fields))


def sized(value: bytes) -> bytes:
    """With its length before it."""
    return LONG.pack(len(value)) + value


def nested(levels: int) -> bytes:
    """A value: tables in tables."""
    value = b"V"
    for _ in range(levels):
        value = b"F" + table((b"a", value))
    return value


def properties(**given: bytes) -> bytes:
    """Flags and values as they stand in a content header; the values as they are. Underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in given.items()}
    flags = sum(1 << FLAGS[name] for name in named)
    return SHORT.pack(flags) + b"".join(named[name] for name in FLAGS if name in named)


class RawPublisher:
    """One connection, one channel with confirms."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._login = f"\0{unquote(parts.username or '')}\0{unquote(parts.password or '')}".encode()
        self._host, self._vhost = (parts.hostname or "", parts.port or 5672), unquote(parts.path[1:]).encode()
        self._socket = socket.socket()

    def __enter__(self) -> RawPublisher:
        self._socket = socket.create_connection(self._host, 20)
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        self._read()
        self._call(10, 11, sized(b"") + short(b"PLAIN") + sized(self._login) + short(b"en_US"), channel=0)
        self._method(10, 31, SHORT.pack(100) + LONG.pack(131072) + SHORT.pack(0), channel=0)
        self._call(10, 40, short(self._vhost) + b"\0\0", channel=0)
        self._call(20, 10, b"\0")
        self._call(85, 10, b"\0")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def publish(self, queue: bytes, header: bytes, body: bytes, exchange: bytes = b"", size: int | None = None) -> None:
        """Publish, and wait until the broker has it. Raises `Closed`.

        Where less is sent than `size` says, the broker waits for the rest: that raises, too.

        Args:
            queue: the routing key.
            header: flags and values of the properties.
            body: what is sent, in frames of 100 kB.
            exchange: where to.
            size: the body's size as the header says it; None: as it is.
        """
        frames = [
            self._frame(METHOD, SHORT.pack(60) + SHORT.pack(40) + b"\0\0" + short(exchange) + short(queue) + b"\0")
        ]
        said = len(body) if size is None else size
        frames.append(self._frame(HEADER, SHORT.pack(60) + b"\0\0" + LONGLONG.pack(said) + header))
        frames += [self._frame(BODY, body[at : at + 100_000]) for at in range(0, len(body), 100_000)]
        self._socket.sendall(b"".join(frames))
        if said > len(body):
            raise Closed("less was sent than was said")
        self._read()

    def _call(self, cls: int, method: int, arguments: bytes, channel: int = 1) -> None:
        self._method(cls, method, arguments, channel)
        self._read()

    def _method(self, cls: int, method: int, arguments: bytes, channel: int) -> None:
        self._socket.sendall(self._frame(METHOD, SHORT.pack(cls) + SHORT.pack(method) + arguments, channel))

    @staticmethod
    def _frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
        return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"

    def _read(self) -> None:
        """The next method; heartbeats are off."""
        _, _, size = struct.unpack(">BHI", self._take(7))
        payload = self._take(size + 1)[:-1]
        if struct.unpack_from(">HH", payload) in ((10, 50), (20, 40)):
            raise Closed(payload[7 : 7 + payload[6]].decode(errors="replace"))

    def _take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            part = self._socket.recv(size - len(taken))
            if not part:
                raise Closed("the connection was closed")
            taken += part
        return bytes(taken)


class Reconnecting:
    """Publishes over a new connection whenever the broker has closed the last one."""

    def __init__(self, address: str) -> None:
        self._address, self._life = address, contextlib.ExitStack()
        self._publisher: RawPublisher | None = None

    def publish(self, queue: bytes, header: bytes, body: bytes, size: int | None = None, exchange: bytes = b"") -> str:
        """Publish; returns "" when the broker has it, or why it refuses it."""
        if self._publisher is None:
            self._publisher = self._life.enter_context(RawPublisher(self._address))
        try:
            self._publisher.publish(queue, header, body, exchange, size)
        except OSError as error:
            self._life.close()
            self._publisher = None
            return str(error) or type(error).__name__
        return ""


@contextlib.contextmanager
def reconnecting(address: str) -> Iterator[Reconnecting]:
    """A publisher that the broker may throw out."""
    publisher = Reconnecting(address)
    try:
        yield publisher
    finally:
        publisher._life.close()
