"""The protocols of the console's ports: uvicorn's, with bounds on what is read before anybody is known.

uvicorn has no deadline for a header or a body, none for a TLS handshake beyond a minute, and no bound on the octets
of a header. Here a header has at most LONGEST octets and FIELDS fields, trailers are not kept, a connection has at
most PIPELINED requests in line, and what a client sends after its answer is read for LINGER seconds, and forgotten.
Time and numbers are the business of `Connections`.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gui.access.connections import HEADER, Connections, Stage, Visit
from pipeline.views.background import spawn

LONGEST = 32_768  # octets of a request line and its header
FIELDS = 100  # of a header
SLICE = 16_384  # octets that are parsed at once, so that a header's length is known to one slice
PIPELINED = 8  # requests of one connection that wait for the one before
REST = 262_144  # octets of a body that are read after the answer, so that the connection can be used again
ACCEPT_AGAIN = 0.1  # seconds
LINGER = 2.0  # seconds in which a client may still take its answer while it sends (RFC 9112 9.6)


class HttpConnection(HttpToolsProtocol):
    """One connection, of HTTP. `visit` is given where it was entered before TLS."""

    def __init__(self, connections: Connections, visit: Visit | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.logger = _Quiet(connections)  # type: ignore[assignment]
        self._connections_open, self._visit = connections, visit
        self._in_header, self._octets, self._over = True, 0, False
        self._complete, self._left = True, REST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._visit is None:
            self._visit = self._connections_open.enter(transport)
        else:
            self._visit.transport = transport
        if self._visit is None:
            self._over = True
            return
        self.app_state = {**self.app_state, "visit": self._visit}
        self.ws_protocol_class = functools.partial(SocketConnection, self._connections_open, self._visit)  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections_open.leave(self._visit)
        if self.transport is not None:  # else TLS failed
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            part = data if len(data) <= SLICE else data[start : start + SLICE]
            taker = self.transport.get_protocol()
            if taker is not self and isinstance(taker, SocketConnection):
                taker.data_received(part)
            elif not self._over and not self.transport.is_closing():
                self._take(part)

    def _take(self, part: bytes) -> None:
        super().data_received(part)
        if self._visit is not None:
            self._visit.received += len(part)
        if self._in_header:
            self._octets += len(part)
            if self._octets > LONGEST:
                self._refuse(431, "The header is too long.")
        elif self._behind():
            self._left -= len(part)
            if self._left < 0:
                self._linger()
        elif len(self.pipeline) > PIPELINED:
            self._refuse(429, "Too many requests at once.")

    def _refuse(self, status: int, text: str) -> None:
        """Answer without the application, and read no more."""
        self._over = True
        self._connections_open.count("too much")
        self.pipeline.clear()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = f"{text}\n".encode()
            head = b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self._linger()

    def _linger(self) -> None:
        """Close when the client has had time to take the answer: a close with unread octets would reset it."""
        self._over = True
        self.loop.call_later(LINGER, self.transport.close)

    # -- the parser's callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header, self._octets = True, 0
        if self._visit is not None and self._visit.stage is Stage.IDLE:
            self._to(Stage.HEADER)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_header:  # a trailer is not kept (RFC 9110 6.5.1)
            return
        if len(self.headers) >= FIELDS:
            raise ValueError("too many fields")  # the parser gives up: uvicorn answers 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_header, self._complete = False, False
        if self._visit is not None:
            self._visit.received = 0
        self._to(Stage.BODY)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._complete = True
        if self.cycle is not None:
            self._to(Stage.IDLE if self.cycle.response_complete else Stage.ANSWER)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._to(Stage.ANSWER if self.pipeline else Stage.IDLE)
        if self._behind() and not self._over and not self.transport.is_closing():
            self._left = REST
            self.loop.call_later(LINGER, self._give_up, self.cycle)

    def _behind(self) -> bool:
        """Whether the answer was given before the body had come; the rest of it is read, and thrown away."""
        return not self._complete and self.cycle is not None and self.cycle.response_complete

    def _give_up(self, cycle: object) -> None:
        if self.cycle is cycle and self._behind():
            self.transport.close()

    def _to(self, stage: Stage) -> None:
        if self._visit is not None:
            self._visit.to(stage, self._connections_open.clock())


class SocketConnection(WebSocketsSansIOProtocol):
    """One connection, since it is a websocket."""

    def __init__(self, connections: Connections, visit: Visit, **rest: Any) -> None:
        super().__init__(**rest)
        self._connections_open, self._visit = connections, visit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._visit.to(Stage.SOCKET, self._connections_open.clock())
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections_open.leave(self._visit)
        super().connection_lost(exc)


class Handshake:
    """A connection before its TLS, as `Connections` sees one."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.task: asyncio.Task[None] | None = None

    def get_extra_info(self, name: str) -> object:
        """The peer's address."""
        return self._client.getpeername() if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        """TLS writes by itself."""
        return 0

    def abort(self) -> None:
        """Close it."""
        if self.task is not None:
            self.task.cancel()
        else:
            self._client.close()

    close = abort


class SecureListener:
    """Takes the connections of the secure port, so that each is entered before its TLS, and silent ones are bounded.

    `start_tls` would do for the loop that Python has; uvloop reads before it is called, and what came is lost.
    """

    def __init__(
        self, connections: Connections, context: ssl.SSLContext, make: Callable[[Visit], HttpConnection]
    ) -> None:
        self._connections, self._context, self._make = connections, context, make
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:  # it went before it was taken, or there is no descriptor for it
                self._connections.count(f"not taken: {errno.errorcode.get(error.errno or 0, '')}")
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            try:
                self._take(client)
            except Exception:  # the port must go on
                client.close()
                self._connections.count("not taken")
                logging.getLogger("uvicorn.error").exception("a connection could not be taken")

    def _take(self, client: socket.socket) -> None:
        client.setblocking(False)
        handshake = Handshake(client)
        visit = self._connections.enter(cast(asyncio.Transport, handshake))
        if visit is not None:
            handshake.task = spawn(self._shake_hands(client, visit), "console connection", grave=False)
            self._running.add(handshake.task)
            handshake.task.add_done_callback(self._running.discard)

    async def _shake_hands(self, client: socket.socket, visit: Visit) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(visit),
                client,
                ssl=self._context,
                ssl_handshake_timeout=HEADER,
                ssl_shutdown_timeout=LINGER,
            )
        except (OSError, asyncio.CancelledError):
            self._connections.leave(visit)
            self._connections.count("no TLS")
            client.close()


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """uvicorn's log, in which a stranger cannot write: requests that are no HTTP are counted, and those that a stop
    ends while they are answered are no faults.
    """

    def __init__(self, connections: Connections) -> None:
        super().__init__(logging.getLogger("uvicorn.error"), {})
        self._connections = connections

    @property
    def level(self) -> int:
        """As uvicorn asks it."""
        return self.logger.level

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Count it."""
        self._connections.count("no HTTP")

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """As it is, unless the program stops."""
        if isinstance(kwargs.get("exc_info"), asyncio.CancelledError):
            self._connections.count("stopped")
        else:
            super().error(msg, *args, **kwargs)
