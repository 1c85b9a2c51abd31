"""The protocol of a connection's opening: one command, one answer, awaited; before and inside TLS.

Owner of: the parser, and the answers that were not fetched yet. Bound: MOST of them; and what came before a command
was sent is no answer to it, and is dropped.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from operators.deliveries.replies import GARBLED, Reply, ReplyParser
from pipeline.smtp.watch import CLIENT, SERVER, Conversation, Watched

MOST = 2  # answers that wait


class Answers(asyncio.Protocol):
    """Made with the connection; the transport gets another protocol once it is ready for mail."""

    def __init__(self, owner: Watched, conversation: Conversation) -> None:
        self._owner, self._conversation = owner, conversation
        self._parser = ReplyParser()
        self._replies: list[Reply] = []
        self._came: asyncio.Future[None] | None = None  # an answer, or the end, while it is waited for
        self._gone = False
        self._error: Exception | None = None
        self.transport: asyncio.Transport | None = None
        self.sent = 0  # bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        if self._owner.watch is not None:
            self._owner.watch.line(self._conversation, SERVER, data)
        replies = self._parser.feed(data)
        if replies:
            self._replies = [*self._replies, *replies][:MOST]
            self._wake()
            if replies[-1].code == GARBLED:
                self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """No more answers come."""
        self._gone, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._came is not None and not self._came.done():
            self._came.set_result(None)

    async def reply(self, seconds: float) -> Reply:
        """The next answer.

        Raises:
            TimeoutError: not within that time, whatever has come of it.
            OSError: the connection is gone; with what TLS says, where it does. A fault of ours comes as what it is.
        """
        if not self._replies and not self._gone:
            await self._until(seconds)
        if self._replies:
            return self._replies.pop(0)
        if self._error is not None:
            raise self._error
        raise ConnectionResetError("closed by the receiver")

    async def _until(self, seconds: float) -> None:
        """A future and a timer: an event within a time-out costs twice as much."""
        loop = asyncio.get_running_loop()
        self._came = loop.create_future()
        timer = loop.call_later(seconds, _late, self._came)
        try:
            await self._came
        finally:
            timer.cancel()

    async def ask(self, command: str, seconds: float) -> Reply:
        """Send a command, and await its answer; raises what `reply` does."""
        self._replies = []
        octets = f"{command}\r\n".encode()
        if self._owner.watch is not None:
            self._owner.watch.line(self._conversation, CLIENT, octets)
        if self.transport is not None and not self.transport.is_closing():  # uvloop raises there
            self.sent += len(octets)
            self.transport.write(octets)
        return await self.reply(seconds)

    async def secure(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """Begin TLS; what came in plain text after the answer to STARTTLS is forgotten (RFC 3207 4.2).

        Raises:
            TimeoutError, OSError: the handshake failed.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("closed by the receiver")
        self._parser, self._replies = ReplyParser(), []
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self.transport, self, context, server_hostname=name, ssl_handshake_timeout=max(0.001, seconds)
            )
        except ConnectionAbortedError:  # what asyncio says where the handshake took too long
            raise TimeoutError from None
        if transport is None:
            raise ConnectionResetError("closed by the receiver")
        self.transport = transport

    def abort(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()


def _late(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_exception(TimeoutError())
