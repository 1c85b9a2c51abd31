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
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from operators.events import Fault, Rejected
from pipeline.dialogue import CLIENT, IN, SERVER, Conversation
from pipeline.intake.auth import Unavailable
from pipeline.intake.client import Client, address
from pipeline.intake.refusal import Refusal
from pipeline.intake.shared import Shared

MOST_ERRORS = 20  # negative 5xx answers in one session
LONGEST_LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512, and more for extensions
LONGEST_AUTH = 12288  # RFC 4954 4

_LINE = re.compile(rb"[^\r\n\0]*\r\n").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}").fullmatch
_MISTAKES = range(500, 505)  # syntax and sequence: the client's bug, not mail turned away

logging.getLogger("mail.log").disabled = True  # aiosmtpd's: it writes what clients send, passwords among it

Command = Callable[[Any, str], Awaitable[None]]


class Dialogue(SMTP, abc.ABC):
    """A connection from greeting to close."""

    commands: ClassVar[Mapping[str, Command]] = {}
    line_length_limit = 32768  # half of what asyncio buffers before it stops reading
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"
    transport: asyncio.Transport | None

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(None, hostname=shared.hostname, timeout=shared.settings.smtp_timeout, loop=loop)
        self.shared = shared
        self.client = Client(("", 0), ("", 0), secure=False)
        self.answer: asyncio.Future[Exception | None] | None = None  # of the queue, while it is waited for
        self._errors = 0
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
        self.client = Client(address(info("sockname")), address(info("peername")), info("sslcontext") is not None)
        self.conversation = Conversation(IN, self.client.local[0], self.client.ip)
        self.shared.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; what the queue has not confirmed was never answered."""
        self.shared.leave(self)
        super().connection_lost(error)

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
        self.shared.admit(self.client.ip)
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
        verb, arg = _command(line)
        command = self.commands.get(verb)
        if command is None:
            raise Refusal("500 5.5.1 The command is not known")
        await command(self, arg)

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
        if not _NAME(name):
            raise Refusal("501 5.5.4 Syntax: EHLO or HELO, and a host name or address literal")
        self.client = msgspec.structs.replace(self.client, name=name, extended=extended)
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
            transport = await self.loop.start_tls(self.transport, self, self.shared.tls, server_side=True)
        except OSError:  # SSLError is one
            raise ConnectionResetError from None
        # As aiosmtpd does it; asyncio's own way (StreamWriter.start_tls) takes no server side before 3.12.
        self.transport = writer._transport = reader._transport = transport  # type: ignore
        self.client = Client(self.client.local, self.client.remote, secure=True)
        self.reset()

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954, with PLAIN and LOGIN."""
        self.conversation.logging_in = True
        self.need_greeting()
        if self.shared.credentials is None or self.client.user or not self.idle:
            raise Refusal("503 5.5.1 AUTH is not possible now")
        if not self.client.secure:
            raise Refusal("538 5.7.11 AUTH needs TLS")
        login = await self._login(arg.split())
        if login is not None:
            await self._check(*login)
            self.client = msgspec.structs.replace(self.client, user=login[0])
            await self.push("235 2.7.0 Welcome")

    async def _login(self, words: list[str]) -> tuple[str, str] | None:
        """User and password from the exchange; None where it failed and was answered."""
        exchanges = {"PLAIN": self.auth_PLAIN, "LOGIN": self.auth_LOGIN}
        if not words or len(words) > 2 or words[0].upper() not in exchanges:
            raise Refusal("504 5.5.4 AUTH takes PLAIN or LOGIN, and at most one word more")
        try:
            result = await exchanges[words[0].upper()](None, words)
        except ValueError:
            raise Refusal("500 5.5.6 The line is too long", close=True) from None
        if not isinstance(result.auth_data, LoginPassword):
            return None
        try:
            user, password = (octets.decode() for octets in result.auth_data)
        except UnicodeDecodeError:
            raise Refusal("501 5.5.2 User and password are UTF-8") from None
        if not user or not (user + password).isprintable():
            raise Refusal("501 5.5.2 User and password are printable text")
        return user, password

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        """aiosmtpd would check the password here, on the event loop; `_check` does it off it."""
        return AuthResult(success=True, auth_data=auth_data)

    async def _check(self, user: str, password: str) -> None:
        shared, ip = self.shared, self.client.ip
        assert shared.credentials is not None
        if not shared.guard.begin(ip):
            raise Refusal("421 4.7.0 Too many failed logins, try again later", close=True)
        try:
            accepted = await shared.credentials.check(user, password)
        except Unavailable as error:
            shared.guard.succeeded(ip)
            shared.report(Fault(time=shared.clock(), where="smtp-auth", detail=str(error)))
            raise Refusal("454 4.7.0 Passwords cannot be checked now, try again later") from None
        if not accepted:
            await asyncio.sleep(shared.guard.delay(ip))
            raise Refusal("535 5.7.8 User or password is wrong")
        shared.guard.succeeded(ip)

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
    try:
        verb, _, arg = line[:-2].decode().partition(" ")
    except UnicodeDecodeError:
        raise Refusal("500 5.5.2 A command is ASCII or UTF-8") from None
    verb = verb.upper()
    if len(line) > (LONGEST_AUTH if verb == "AUTH" else LONGEST_LINE):
        raise Refusal("500 5.5.2 The line is too long")
    return verb, arg.strip(" ")
