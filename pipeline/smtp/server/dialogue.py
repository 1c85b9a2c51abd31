"""The dialogue of one SMTP session (RFC 5321): lines in, replies out, EHLO, STARTTLS and AUTH. Mail is `Session`'s.

Bounds: the length of a line, an error count, a timer that each line sets back. What fails here is answered on this
session and reported; no other one notices.

aiosmtpd brings the protocol's life cycle and the exchanges of AUTH. Its command loop, its reading of DATA and its
parsing of addresses are replaced: they take two thirds of its time (0.33 ms a mail of 4 KB, here 0.1), and its loop
reads a bare LF as the end of a command.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import msgspec
from aiosmtpd.smtp import SMTP

from operators.deliveries.events import Rejected
from pipeline.smtp.server.access import crowd, login
from pipeline.smtp.server.client import SmtpPeer, address
from pipeline.smtp.server.names import clean_name
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.shared import Shared
from pipeline.smtp.watch import CLIENT, IN, SERVER, Conversation

MOST_ERRORS = 20  # negative 5xx answers in one session
MOST_LINES = 5000  # commands without a message that was taken; a transaction has about a thousand
HANDSHAKE = 15.0  # seconds for a TLS handshake
LONGEST_LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512, and more for extensions
LONGEST_AUTH = 12288  # RFC 4954 4

_LINE = re.compile(rb"[^\r\n\0]*\r\n").fullmatch
_FOREIGN = re.compile(r"GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|PRI|.*:.*|SSH-.*", re.DOTALL).fullmatch
# Verbs of SMTP that are not offered; any other word before EHLO is another protocol.
_KNOWN = frozenset(
    ["EXPN", "TURN", "ETRN", "ATRN", "BDAT", "BURL", "LHLO", "SEND", "SOML", "SAML", "XCLIENT", "XFORWARD"]
) | {""}
_BEGINS = re.compile(rb"[A-Za-z\s]").match
_MISTAKES = range(500, 505)  # syntax and sequence: the client's bug, not mail turned away

logging.getLogger("mail.log").disabled = True  # aiosmtpd's: it writes what clients send, passwords among it

Command = Callable[[Any, str], Awaitable[None]]


class SessionDialogue(SMTP, abc.ABC):
    """A connection from greeting to close."""

    commands: ClassVar[Mapping[str, Command]] = {}
    line_length_limit = 32768  # half of what asyncio buffers before it stops reading
    transport: asyncio.Transport | None

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(None, hostname=shared.hostname, timeout=shared.settings.smtp_timeout, loop=loop)
        self.shared = shared
        self.client = SmtpPeer(("", 0), ("", 0), secure=False)
        self.answer: asyncio.Future[Exception | None] | None = None  # of the queue, while it is waited for
        self._errors = 0
        self._lines = 0
        self._fresh = True
        self._over = False
        self._held = b""
        self._heard = 0.0

    def __dir__(self) -> list[str]:
        """Nothing: aiosmtpd looks through it for handlers at each connection, 0.13 ms for tables that are not used."""
        return []

    # -- life cycle ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; on a secure port, after the TLS handshake."""
        info = transport.get_extra_info
        self.client = SmtpPeer(address(info("sockname")), address(info("peername")), info("sslcontext") is not None)
        self.conversation = Conversation(IN, self.client.local[0], self.client.ip)
        self.shared.crowd.enter(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Octets have come. What does not begin like a command is no SMTP: TLS, a database, a scanner."""
        if self._fresh:
            self._fresh = False
            if not _BEGINS(data):
                self.leave("500 5.5.1 This is an SMTP server")
                return
        super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; what the queue has not confirmed was never answered."""
        self.shared.leave(self)
        super().connection_lost(error)
        self._let_go()

    def _let_go(self) -> None:
        """Break the circle of session, writer and transport: a TLS one has 256 KB until garbage is collected."""
        self._reader._transport = self._writer = self.transport = None  # type: ignore

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered. TLS knows no half-closed connection."""
        self._reader.feed_eof()
        return not self.client.secure

    def leave(self, line: str) -> None:
        """Say `line` and close, at once."""
        self._over = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(line.encode() + b"\r\n")
            if self.shared.watch is not None:
                self.shared.watch.line(self.conversation, SERVER, line.encode())
            self._close()

    @property
    @abc.abstractmethod
    def idle(self) -> bool:
        """Between two transactions."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget the transaction."""

    @property
    def ip(self) -> str:
        """The client's address."""
        return self.client.ip

    @property
    def greeted(self) -> bool:
        """It has said EHLO or HELO."""
        return bool(self.client.name)

    @property
    def patience(self) -> float:
        """Seconds that it may be idle where others wait."""
        return crowd.KEPT if self.client.user else crowd.IDLE

    def idle_for(self) -> float:
        """Seconds without a command; 0 within a transaction."""
        return self.loop.time() - self._heard if self.idle else 0.0

    def heard(self) -> None:
        """Set the timer back. Noted only, the timer looks when it fires: setting one anew takes 2 microseconds."""
        self._heard = self.loop.time()

    def _reset_timeout(self, duration: float | None = None) -> None:
        self.heard()
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(self._timeout_duration, self._timeout_cb)

    def _timeout_cb(self) -> None:
        left = self._heard + self._timeout_duration - self.loop.time()
        if left <= 0 and self.answer is None:
            self.leave("421 4.4.2 Nothing came for too long")
            return
        if left <= 0 and self.answer is not None and not self.answer.done():
            self.answer.set_result(TimeoutError())
        self._timeout_handle = self.loop.call_later(max(left, 1.0), self._timeout_cb)

    def _close(self) -> None:
        """Close; a client that does not read the rest is cut off five seconds later."""
        if self.transport is not None:
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(5.0, self.transport.abort)

    # -- lines -----------------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            await self._guarded(self._greet)
            while not self._over:
                await self._guarded(self._next)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            # Also here: after a failed handshake of STARTTLS nobody calls connection_lost.
            self.shared.leave(self)
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            self._close()
            self._let_go()

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Refusal as refusal:
            await self.refuse(refusal)
        except (ConnectionError, asyncio.IncompleteReadError):
            raise
        except Exception as error:
            self.shared.fault("smtp intake", error)
            await self.push("451 4.3.0 Something went wrong here, try again later")

    async def _greet(self) -> None:
        self.shared.admit(self)
        await self.push(f"220 {self.hostname} ESMTP Mailrace")

    async def _next(self) -> None:
        if self.shared.closing and self.idle:
            raise Refusal("421 4.3.2 Shutting down", close=True)
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise Refusal("500 5.5.2 The line is too long", close=True) from None
        self.heard()
        if self.shared.watch is not None:
            self.shared.watch.line(self.conversation, CLIENT, line)
        verb, arg = self._command(line)
        command = self.commands.get(verb)
        if command is None:
            raise Refusal("500 5.5.1 The command is not known")
        self._lines += 1
        if self._lines > MOST_LINES:
            raise Refusal("421 4.7.0 Too many commands without a message", close=True)
        await command(self, arg)

    def _command(self, line: bytes) -> tuple[str, str]:
        """The verb and the rest; raises `Refusal`, and hangs up on what is another protocol.

        A web page can make a browser send any text to any port, behind the line of its own that comes first.
        """
        try:
            verb, arg = _command(line)
        except Refusal as refusal:
            raise Refusal(refusal.reply, close=not self.greeted) from None
        stranger = not self.greeted and verb not in self.commands and verb not in _KNOWN
        if stranger or _FOREIGN(verb):
            raise Refusal("500 5.5.1 This is an SMTP server", close=True)
        return verb, arg

    def progressed(self) -> None:
        """A message was taken."""
        self._lines = 0

    async def push(self, status: str | bytes) -> None:
        """Send a reply."""
        line = status.encode() if isinstance(status, str) else status
        self._writer.write(b"%b%b\r\n" % (self._held, line))
        self._held = b""
        if self.shared.watch is not None:
            self.shared.watch.line(self.conversation, SERVER, line)
        await self._writer.drain()

    async def push_soon(self, status: str) -> None:
        """Send a reply, with the next one if the next command is there already (RFC 2920 3.2): a write takes 15 us."""
        if b"\n" in self._reader._buffer:  # type: ignore[attr-defined]
            self._held += status.encode() + b"\r\n"
            if self.shared.watch is not None:
                self.shared.watch.line(self.conversation, SERVER, status.encode())
        else:
            await self.push(status)

    async def refuse(self, refusal: Refusal, sender: str = "", recipient: str = "") -> None:
        """Answer with a refusal and report it; too many of them end the session."""
        if refusal.code not in _MISTAKES:
            self._report(refusal, sender, recipient)
        self._errors += refusal.code >= 500
        if self._errors > MOST_ERRORS:
            refusal = Refusal("421 4.7.0 Too many errors", close=True)
        self._over = self._over or refusal.close
        await self.push(refusal.reply)

    def _report(self, refusal: Refusal, sender: str, recipient: str) -> None:
        client = self.client
        rejected = Rejected(
            time=self.shared.clock(),
            reason=refusal.reply,
            code=refusal.code,
            envelope=sender,
            recipient=recipient,
            remote_ip=client.ip,
            user=client.user,
        )
        self.shared.report(rejected)

    # -- greeting, TLS and login -----------------------------------------------------------------------------------

    async def smtp_HELO(self, arg: str) -> None:
        """RFC 5321 4.1.1.1; without extensions."""
        self._greeted_by(arg, extended=False)
        await self.push(f"250 {self.hostname}")

    async def smtp_EHLO(self, arg: str) -> None:
        """RFC 5321 4.1.1.1."""
        self._greeted_by(arg, extended=True)
        shared, secure = self.shared, self.client.secure
        lines = [self.hostname, "PIPELINING", f"SIZE {shared.settings.smtp_maxsize}", "8BITMIME", "SMTPUTF8", "DSN"]
        if shared.tls and not secure:
            lines.append("STARTTLS")
        if shared.credentials and secure:
            lines.append("AUTH PLAIN LOGIN")
        await self.push("".join(f"250-{line}\r\n" for line in lines) + "250 ENHANCEDSTATUSCODES")

    def _greeted_by(self, name: str, extended: bool) -> None:
        self.client = msgspec.structs.replace(self.client, name=clean_name(name), extended=extended)
        self.reset()

    def need_greeting(self) -> None:
        """Raises `Refusal` before EHLO or HELO."""
        if not self.client.name:
            raise Refusal("503 5.5.1 EHLO comes first")

    async def smtp_STARTTLS(self, arg: str) -> None:
        """RFC 3207. What came before is forgotten, what was sent along with the command included."""
        if arg:
            raise Refusal("501 5.5.4 STARTTLS takes no parameter")
        if self.client.secure:
            raise Refusal("503 5.5.1 TLS is on already")
        if self.shared.tls is None or self.transport is None:
            raise Refusal("454 4.7.0 There is no TLS here")
        await self.push("220 2.0.0 Go ahead with TLS")
        reader, writer = self._reader, self._writer
        reader._buffer.clear()  # type: ignore[attr-defined]
        try:
            transport = await self.loop.start_tls(
                self.transport, self, self.shared.tls, server_side=True, ssl_handshake_timeout=HANDSHAKE
            )
        except OSError:  # SSLError is one
            raise ConnectionResetError from None
        # As aiosmtpd does it; asyncio's own way (StreamWriter.start_tls) takes no server side before 3.12.
        self.transport = writer._transport = reader._transport = transport  # type: ignore
        self.client = SmtpPeer(self.client.local, self.client.remote, secure=True)
        self.reset()

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954, with PLAIN and LOGIN."""
        self.conversation.logging_in = True
        self.need_greeting()
        if self.shared.credentials is None or self.client.user or not self.idle:
            raise Refusal("503 5.5.1 AUTH is not possible now")
        if not self.client.secure:
            raise Refusal("538 5.7.11 AUTH needs TLS")
        user, password = await login.credentials(arg, self._ask)
        await login.check(self.shared, self.client.ip, user, password)
        self.client = msgspec.structs.replace(self.client, user=user)
        await self.push("235 2.7.0 Welcome")

    async def _ask(self, challenge: str) -> bytes:
        await self.push(f"334 {challenge}")
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise Refusal("500 5.5.6 The line is too long", close=True) from None
        if len(line) > LONGEST_AUTH:
            raise Refusal("500 5.5.6 The line is too long", close=True)
        self.heard()
        return line

    # -- the rest --------------------------------------------------------------------------------------------------

    async def smtp_RSET(self, arg: str) -> None:
        """RFC 5321 4.1.1.5."""
        self.reset()
        await self.push("250 2.0.0 Forgotten")

    async def smtp_NOOP(self, arg: str) -> None:
        """RFC 5321 4.1.1.9."""
        await self.push("250 2.0.0 Still here")

    async def smtp_HELP(self, arg: str) -> None:
        """RFC 5321 4.1.1.8."""
        await self.push("214 2.0.0 " + " ".join(self.commands))

    async def smtp_VRFY(self, arg: str) -> None:
        """RFC 5321 3.5.3: who exists is not told."""
        await self.push("252 2.5.0 Send it, and see")

    async def smtp_QUIT(self, arg: str) -> None:
        """RFC 5321 4.1.1.10."""
        self._over = True
        await self.push("221 2.0.0 Bye")


def _command(line: bytes) -> tuple[str, str]:
    """(verb in capitals, the rest) of a command line; raises `Refusal`."""
    if not _LINE(line):
        raise Refusal("500 5.5.2 A command ends in CRLF, and holds no other CR, LF or NUL")
    words = line.split(None, 1)
    verb = words[0].decode(errors="replace").upper() if words else ""
    if len(line) > (LONGEST_AUTH if verb == "AUTH" else LONGEST_LINE):
        raise Refusal("500 5.5.2 The line is too long")
    try:
        arg = words[1].decode(errors="replace" if verb in ("EHLO", "HELO") else "strict") if len(words) == 2 else ""
    except UnicodeDecodeError:
        raise Refusal("500 5.5.2 A command is ASCII or UTF-8") from None
    return verb, arg.strip(" \t\r\n")
