"""A receiving mail server that keeps count: which messages it accepted, how often, over how many connections."""

from __future__ import annotations

import asyncio
import collections
import re
import time

from tests.support.loop import Loop

_NUMBER = re.compile(rb"^X-Number: (\S+)\r$", re.MULTILINE)


class _Session(asyncio.Protocol):
    """As much of SMTP as a client that behaves needs, pipelining included."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox, self.buffer, self.data = mailbox, bytearray(), False
        self.put_off = False  # the transaction's recipient

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.mailbox.peers[transport.get_extra_info("peername")[0]] += 1
        self.mailbox.open += 1
        self.mailbox.most_open = max(self.mailbox.most_open, self.mailbox.open)
        self.say(b"220 mailbox.example ESMTP")

    def connection_lost(self, error: Exception | None) -> None:
        self.mailbox.open -= 1

    def say(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self.data:
            end = self.buffer.find(b"\r\n.\r\n")
            if end < 0:
                return False
            self.mailbox.accept(bytes(self.buffer[: end + 2]))
            del self.buffer[: end + 5]
            self.data = False
            self.say(b"250 2.0.0 Ok")
            return True
        line, found, _ = self.buffer.partition(b"\r\n")
        if not found:
            return False
        del self.buffer[: len(line) + 2]
        self._command(bytes(line).upper())
        return True

    def _command(self, line: bytes) -> None:
        if line.startswith(b"EHLO"):
            self.say(b"250-mailbox.example\r\n250-8BITMIME\r\n250 PIPELINING")
        elif line.startswith(b"RCPT") and self.mailbox.defers:
            self.put_off = True
            self.mailbox.deferred += 1
            self.say(b"451 4.7.1 Later")
        elif line.startswith(b"DATA") and self.put_off:
            self.say(b"554 5.5.1 No valid recipients")
        elif line.startswith(b"DATA"):
            self.data = True
            self.say(b"354 Go ahead")
        elif line.startswith(b"QUIT"):
            self.say(b"221 2.0.0 Bye")
            self.transport.close()
        else:
            self.put_off = self.put_off and not line.startswith((b"MAIL", b"RSET"))
            self.say(b"250 2.1.0 Ok")


class Mailbox:
    """The server, on a thread of its own.

    Attributes:
        accepted: how often each `X-Number` was accepted.
        messages: the messages themselves, where `keep` is set, as they came over the wire without dot-unstuffing.
        moments: when each was accepted, monotonic seconds.
        peers: connections from each address.
        open, most_open: connections now, and at most.
        defers: while it is set, no recipient is taken; `deferred` counts them.
    """

    def __init__(self, host: str = "127.0.0.1", *, keep: bool = False) -> None:
        self.host, self.keep, self.port = host, keep, 0
        self.accepted: collections.Counter[str] = collections.Counter()
        self.messages: list[bytes] = []
        self.moments: list[float] = []
        self.peers: collections.Counter[str] = collections.Counter()
        self.total = self.open = self.most_open = self.deferred = 0
        self.defers = False
        self._loop = Loop()

    def __enter__(self) -> Mailbox:
        self._loop.__enter__()
        self.port = self._loop.run(self._serve())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.__exit__()

    async def _serve(self) -> int:
        server = await self._loop.loop.create_server(lambda: _Session(self), self.host, 0, backlog=1000)
        return int(server.sockets[0].getsockname()[1])

    def accept(self, message: bytes) -> None:
        self.total += 1
        self.moments.append(time.monotonic())
        if found := _NUMBER.search(message):
            self.accepted[found[1].decode(errors="replace")] += 1
        if self.keep:
            self.messages.append(message)
