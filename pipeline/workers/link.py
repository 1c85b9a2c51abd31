"""The link between the head and a worker: messages of MessagePack over a pair of sockets, each with its length.

Owns one end. What is said in one turn of the loop goes out together, in the order in which it was said. Bounds:
LARGEST bytes of a message, and BEHIND bytes that the other end has not read: then it is taken for dead, and `ended` is
told.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from pipeline.process.supervisor import supervisor

LARGEST = 64_000_000
BEHIND = 256_000_000
HEAD = 4

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(list[Any]).decode


class WorkerLink(asyncio.Protocol):
    """One end.

    Args:
        heard: told each message: a list, its kind first.
        ended: told once when the other end is gone.
    """

    def __init__(self, heard: Callable[[list[Any]], None], ended: Callable[[], None]) -> None:
        self._heard = supervisor().guarded(heard, "workers")
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._planned = False  # a flush comes in this turn

    @classmethod
    async def over(
        cls, end: socket.socket, heard: Callable[[list[Any]], None], ended: Callable[[], None]
    ) -> WorkerLink:
        """Over this socket, which it owns from now on."""
        end.setblocking(False)
        link = cls(heard, ended)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: link, end)
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._ended()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= HEAD:
            size = int.from_bytes(self._buffer[start : start + HEAD], "big")
            if size > LARGEST:
                self.close()
                return
            if len(self._buffer) - start - HEAD < size:
                break
            body = bytes(self._buffer[start + HEAD : start + HEAD + size])
            start += HEAD + size
            self._heard(decode(body))
        del self._buffer[:start]

    def say(self, *message: Any) -> None:
        """Tell the other end; nothing happens where it is gone."""
        if self._transport is None:
            return
        body = encode(message)
        self._out += (len(body).to_bytes(HEAD, "big"), body)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._planned = False
        out, self._out = self._out, []
        if not out:
            return
        if self._transport is None:
            return
        self._transport.write(b"".join(out))
        if self._transport.get_write_buffer_size() > BEHIND:
            self._transport.abort()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._flush()
            self._transport.close()
