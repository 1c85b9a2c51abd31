"""One client's SMTP session (RFC 5321), on aiosmtpd's protocol class.

Bounds: a line, an error count, a timer that every command and every further 64 KiB of a message set back, memory for
messages from the shared `Room`. What fails here is answered on this session and reported; no other one notices.

aiosmtpd brings the protocol's life cycle and the exchanges of AUTH. Its command loop, its reading of DATA and its
parsing of addresses are replaced: they take two thirds of its time, and read bare LF as the end of a command.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, sanitize

from operators.events import Fault, Received, Rejected
from pipeline.intake import content, headers
from pipeline.intake.auth import Unavailable
from pipeline.intake.commands import is_routed, mail, rcpt
from pipeline.intake.refusal import Refusal
from pipeline.intake.shared import Shared
from pipeline.intake.transaction import Transaction, bodies, ids_of, reply
from pipeline.queues.contract import QueueUnavailable

MOST_ERRORS = 20  # negative 5xx answers in one session
LONGEST_LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512 and more for extensions
LONGEST_AUTH = 12288  # RFC 4954 4

_LINE = re.compile(rb"[^\r\n\0]*\r\n").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}").fullmatch
_MISTAKES = range(500, 505)  # syntax and sequence: the client's bug, not mail turned away

logging.getLogger("mail.log").disabled = True  # aiosmtpd's: it writes what clients send, passwords among it


class Session(SMTP):
    """A connection from greeting to close."""

    line_length_limit = 32768  # what asyncio buffers before it stops reading, halved
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"
    envelope: Transaction
    transport: asyncio.Transport | None
    _timeout_handle: asyncio.TimerHandle | None

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(None, hostname=shared.hostname, timeout=shared.settings.smtp_timeout, loop=loop)
        self.shared = shared
        self.user = ""
        self.secure = False
        self._errors = 0
        self._over = False
        self._heard = 0.0
        self._answer: asyncio.Future[Exception | None] | None = None

    # -- life cycle -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; on a secure port, after the TLS handshake."""
        self.secure = transport.get_extra_info("sslcontext") is not None
        self._local = _address(transport.get_extra_info("sockname"))
        self._remote = _address(transport.get_extra_info("peername"))
        self._ips = self.shared.mapped(self._local[0])
        self.shared.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; what the queue has not confirmed was never answered."""
        self.shared.sessions.discard(self)
        super().connection_lost(error)

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered. TLS knows no half-closed connection."""
        self._reader.feed_eof()
        return not self.secure

    def leave(self, line: str) -> None:
        """Say `line` and close, at once; a client that reads nothing is cut off five seconds later."""
        self._over = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(line.encode() + b"\r\n")
            self._close()

    @property
    def idle(self) -> bool:
        """Between two transactions."""
        return self.envelope.mail is None

    def _create_envelope(self) -> Transaction:
        return Transaction()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Noted only: the timer looks when it fires. Setting one for each command takes 2 microseconds."""
        self._heard = self.loop.time()
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(self._timeout_duration, self._timeout_cb)

    def _timeout_cb(self) -> None:
        left = self._heard + self._timeout_duration - self.loop.time()
        if left <= 0 and self._answer is None:
            self.leave("421 4.4.2 Nothing came for too long")
            return
        if left <= 0 and self._answer is not None and not self._answer.done():
            self._answer.set_result(QueueUnavailable("no answer"))
        self._timeout_handle = self.loop.call_later(max(left, 1.0), self._timeout_cb)

    def _close(self) -> None:
        transport = self.transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                self.loop.call_later(5.0, transport.abort)

    # -- the dialogue -----------------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            await self._guarded(self._greet)
            while not self._over:
                await self._guarded(self._next)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            # Also here: after a failed handshake of STARTTLS nobody calls connection_lost.
            self.shared.sessions.discard(self)
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            self._close()

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Refusal as refusal:
            await self._refuse(refusal)
        except (ConnectionError, asyncio.IncompleteReadError):
            raise
        except Exception as error:
            self.shared.fault("smtp intake", error)
            await self.push("451 4.3.0 Something went wrong here, try again later")

    async def _greet(self) -> None:
        self.shared.admit(self._remote[0])
        await self.push(f"220 {self.hostname} ESMTP Mailrace")

    async def _next(self) -> None:
        if self.shared.closing and self.idle:
            raise Refusal("421 4.3.2 Shutting down", close=True)
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise Refusal("500 5.5.2 The line is too long", close=True) from None
        self._heard = self.loop.time()
        if self.shared.watch is not None:
            self.shared.watch(self._remote[0], "in", sanitize(line.rstrip()).decode(errors="replace"))
        verb, arg = _command(line)
        method = _METHODS.get(verb)
        if method is None:
            raise Refusal("500 5.5.1 The command is not known")
        await method(self, arg)

    async def push(self, status: str | bytes) -> None:
        """Send a reply."""
        line = status.encode() if isinstance(status, str) else status
        self._writer.write(line + b"\r\n")
        if self.shared.watch is not None:
            self.shared.watch(self._remote[0], "out", line.decode(errors="replace"))
        await self._writer.drain()

    async def _refuse(self, refusal: Refusal, recipient: str = "") -> None:
        if refusal.code not in _MISTAKES:
            self._report_refusal(refusal, recipient)
        self._errors += refusal.code >= 500
        if self._errors > MOST_ERRORS:
            refusal = Refusal("421 4.7.0 Too many errors", close=True)
        self._over = self._over or refusal.close
        await self.push(refusal.reply)

    def _report_refusal(self, refusal: Refusal, recipient: str = "") -> None:
        self.shared.report(
            Rejected(
                time=self.shared.clock(),
                reason=refusal.reply,
                code=refusal.code,
                envelope=self.envelope.sender,
                recipient=recipient,
                remote_ip=self._remote[0],
                user=self.user,
            )
        )

    # -- session commands -------------------------------------------------------------------------------------------------

    async def smtp_HELO(self, arg: str) -> None:
        """RFC 5321 4.1.1.1; without extensions."""
        self._greeted_by(arg, extended=False)
        await self.push(f"250 {self.hostname}")

    async def smtp_EHLO(self, arg: str) -> None:
        """RFC 5321 4.1.1.1."""
        self._greeted_by(arg, extended=True)
        shared = self.shared
        lines = [self.hostname, "PIPELINING", f"SIZE {shared.settings.smtp_maxsize}", "8BITMIME", "SMTPUTF8", "DSN"]
        if shared.tls and not self.secure:
            lines.append("STARTTLS")
        if shared.credentials and self.secure:
            lines.append("AUTH PLAIN LOGIN")
        await self.push("".join(f"250-{line}\r\n" for line in lines) + "250 ENHANCEDSTATUSCODES")

    def _greeted_by(self, name: str, extended: bool) -> None:
        if not _NAME(name):
            raise Refusal("501 5.5.4 Syntax: EHLO or HELO, and a host name or address literal")
        self.session.host_name = name
        self.session.extended_smtp = extended
        self._set_rset_state()

    async def smtp_STARTTLS(self, arg: str) -> None:
        """RFC 3207. What came before is forgotten, what was sent along with the command included."""
        if arg:
            raise Refusal("501 5.5.4 STARTTLS takes no parameter")
        if self.secure:
            raise Refusal("503 5.5.1 TLS is on already")
        if self.shared.tls is None:
            raise Refusal("454 4.7.0 There is no TLS here")
        await self.push("220 2.0.0 Go ahead with TLS")
        self._reader._buffer.clear()
        try:
            transport = await self.loop.start_tls(self.transport, self, self.shared.tls, server_side=True)
        except OSError:  # SSLError is one
            raise ConnectionResetError from None
        self.transport = self._writer._transport = self._reader._transport = transport
        self.secure = True
        self.session.host_name = None
        self.session.extended_smtp = False
        self._set_rset_state()

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954, with PLAIN and LOGIN."""
        self._need_greeting()
        credentials = self.shared.credentials
        if credentials is None or self.user or not self.idle:
            raise Refusal("503 5.5.1 AUTH is not possible now")
        if not self.secure:
            raise Refusal("538 5.7.11 AUTH needs TLS")
        login = await self._login(arg.split())
        if login is None:
            return
        ip, guard = self._remote[0], self.shared.guard
        if not guard.begin(ip):
            raise Refusal("421 4.7.0 Too many failed logins, try again later", close=True)
        try:
            accepted = await credentials.check(*login)
        except Unavailable as error:
            self.shared.report(Fault(time=self.shared.clock(), where="smtp-auth", detail=str(error)))
            raise Refusal("454 4.7.0 Passwords cannot be checked now, try again later") from None
        if not accepted:
            await asyncio.sleep(guard.delay(ip))
            raise Refusal("535 5.7.8 User or password is wrong")
        guard.succeeded(ip)
        self.user = login[0]
        await self.push("235 2.7.0 Welcome")

    async def _login(self, words: list[str]) -> tuple[str, str] | None:
        """User and password from the exchange; None where it failed and was answered."""
        methods = {"PLAIN": self.auth_PLAIN, "LOGIN": self.auth_LOGIN}
        if not words or len(words) > 2 or words[0].upper() not in methods:
            raise Refusal("504 5.5.4 AUTH takes PLAIN or LOGIN, and at most one word more")
        try:
            result = await methods[words[0].upper()](None, words)
        except ValueError:
            raise Refusal("500 5.5.6 The line is too long", close=True) from None
        if not result.success:
            return None
        try:
            user, password = result.auth_data.login.decode(), result.auth_data.password.decode()
        except UnicodeDecodeError:
            raise Refusal("501 5.5.2 User and password are UTF-8") from None
        if not user or not (user + password).isprintable():
            raise Refusal("501 5.5.2 User and password are printable text")
        return user, password

    def _authenticate(self, mechanism: str, auth_data: LoginPassword) -> AuthResult:
        """aiosmtpd would check the password here, on the event loop; `smtp_AUTH` does it off it."""
        return AuthResult(success=True, auth_data=auth_data)

    async def smtp_RSET(self, arg: str) -> None:
        """RFC 5321 4.1.1.5."""
        self._set_rset_state()
        await self.push("250 2.0.0 Forgotten")

    async def smtp_NOOP(self, arg: str) -> None:
        """RFC 5321 4.1.1.9."""
        await self.push("250 2.0.0 Still here")

    async def smtp_HELP(self, arg: str) -> None:
        """RFC 5321 4.1.1.8."""
        await self.push("214 2.0.0 " + " ".join(_METHODS))

    async def smtp_VRFY(self, arg: str) -> None:
        """RFC 5321 3.5.3: who exists is not told."""
        await self.push("252 2.5.0 Send it, and see")

    async def smtp_QUIT(self, arg: str) -> None:
        """RFC 5321 4.1.1.10."""
        self._over = True
        await self.push("221 2.0.0 Bye")

    # -- the mail transaction ---------------------------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str) -> None:
        """RFC 5321 4.1.1.2, RFC 1870 6.1."""
        self._need_greeting()
        if not self.idle:
            raise Refusal("503 5.5.1 There is a sender already")
        command = mail(arg)
        if command.size > self.shared.settings.smtp_maxsize:
            raise content.too_large(self.shared.settings.smtp_maxsize)
        self.envelope.mail = command
        await self.push("250 2.1.0 Sender ok")

    async def smtp_RCPT(self, arg: str) -> None:
        """RFC 5321 4.1.1.3."""
        transaction = self.envelope
        if transaction.mail is None:
            raise Refusal("503 5.5.1 MAIL comes first")
        command = rcpt(arg, transaction.mail.smtputf8)
        try:
            queue = self._queue_for(command.recipient)
        except Refusal as refusal:
            self._record(refusal, [command.recipient])
            await self._refuse(refusal, command.recipient)
            return
        transaction.recipients.append((command, queue))
        await self.push("250 2.1.5 Recipient ok")

    def _queue_for(self, recipient: str) -> str:
        """Where mail to the recipient goes, or `Refusal`: nobody relays here who may not."""
        transaction, shared = self.envelope, self.shared
        count = len(transaction.recipients) + 1
        if count > Transaction.MOST_RECIPIENTS:
            raise Refusal(f"452 4.5.3 At most {Transaction.MOST_RECIPIENTS} recipients at once")
        if transaction.mail is not None and count * transaction.mail.size > shared.most_copied and count > 1:
            raise Refusal("452 4.5.3 Too many recipients at once for a message of this size")
        local = shared.is_local(recipient)
        if local and is_routed(recipient):
            raise Refusal("550 5.7.1 No mail is routed through an address of ours")
        if shared.credentials and not self.user and not local:
            raise Refusal("530 5.7.0 Log in first")
        return shared.local_queue if local else shared.settings.rabbitmq_inbox

    async def smtp_DATA(self, arg: str) -> None:
        """RFC 5321 4.1.1.4."""
        transaction, shared = self.envelope, self.shared
        if arg:
            raise Refusal("501 5.5.4 DATA takes no parameter")
        if transaction.mail is None or not transaction.recipients:
            raise Refusal("503 5.5.1 MAIL and RCPT come first")
        account = content.Account(shared.room, shared.settings.smtp_maxsize)
        try:
            await account.need(max(transaction.mail.size, content.CHUNK))
            await self.push("354 End with CRLF.CRLF")
            raw = await content.read(self._reader, lambda octets: self._keep(account, octets))
            await self._take(transaction, raw, account)
        finally:
            account.close()

    def _keep(self, account: content.Account, octets: int) -> bool:
        before = account.received
        kept = account.keep(octets)
        if account.received // content.CHUNK > before // content.CHUNK:
            self._heard = self.loop.time()  # not for less: a byte a second would hold the session for ever
        return kept

    async def _take(self, transaction: Transaction, raw: bytes | None, account: content.Account) -> None:
        """Queue the message, and answer; the transaction is over either way."""
        try:
            if raw is None:
                raise account.refusal or content.too_large(self.shared.settings.smtp_maxsize)
            answer = await self._queue(transaction, raw, account)
        except Refusal as refusal:
            self._record(refusal, [command.recipient for command, _ in transaction.recipients], raw)
            raise
        finally:
            self._heard = self.loop.time()
            self._set_rset_state()
        await self.push(answer)

    async def _queue(self, transaction: Transaction, raw: bytes, account: content.Account) -> str:
        shared = self.shared
        count = len(transaction.recipients)
        source, properties, transaction_id = self._message(transaction, content.clean(raw))
        if count > 1 and count * len(source) > shared.most_copied:
            raise Refusal(f"552 5.3.4 Too large for {count} recipients at once; announce SIZE, or send to fewer")
        await account.need((count + 1) * len(source))
        ids = ids_of(transaction_id, count)
        await self._publish(bodies(transaction, ids, source, properties), self._tell(transaction, ids, len(raw)))
        return reply(ids)

    def _message(self, transaction: Transaction, data: bytes) -> tuple[bytes, dict[str, Any], str]:
        """(what is queued, the properties that go with it, its id)."""
        shared = self.shared
        if len(data) > shared.settings.smtp_maxsize:
            raise content.too_large(shared.settings.smtp_maxsize)
        now = shared.clock()
        date, timestamp = shared.dates.at(now)
        end = content.header_end(data)
        head = data[:end]
        content.refuse_loop(head)
        properties = self._properties(timestamp)
        if shared.settings.smtp_extract and headers.has_fields(head):
            head, extracted = headers.extract(head, now)
            properties |= extracted
            data = head + data[end:]
        transaction_id = shared.ids.next()
        return self._received(transaction, transaction_id, date) + data, properties, transaction_id

    def _properties(self, timestamp: str) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "received": timestamp,
            "hostname": self.hostname,
            "connection": {
                "local-ip": self._local[0],
                "local-port": self._local[1],
                "remote-ip": self._remote[0],
                "remote-port": self._remote[1],
                "secure": self.secure,
                "user": self.user,
            },
        }
        if self._ips:
            properties["ips"] = self._ips
        return properties

    def _received(self, transaction: Transaction, transaction_id: str, date: str) -> bytes:
        """The trace field (RFC 5321 4.4), with the protocol names of RFC 3848 and RFC 6531 4.3."""
        ip = self._remote[0]
        protocol = "SMTP"
        if self.session.extended_smtp:
            utf8 = transaction.mail is not None and transaction.mail.smtputf8
            protocol = ("UTF8SMTP" if utf8 else "ESMTP") + "S" * self.secure + "A" * bool(self.user)
        return (
            f"Received: from {self.session.host_name} ([{'IPv6:' if ':' in ip else ''}{ip}])\r\n"
            f"\tby {self.hostname} with {protocol} id {transaction_id};\r\n\t{date}\r\n"
        ).encode()

    async def _publish(self, messages: list[tuple[str, bytes]], tell: Callable[[], None]) -> None:
        answer: asyncio.Future[Exception | None] = self.loop.create_future()

        def confirmed(error: Exception | None) -> None:
            if error is None:
                tell()  # also where the client is gone by now
            if not answer.done():
                answer.set_result(error)

        self._answer = answer
        try:
            self.shared.queue.publish(messages, confirmed)
            if await answer is not None:
                raise Refusal("451 4.3.0 The queue takes nothing now, try again later")
        finally:
            self._answer = None

    def _tell(self, transaction: Transaction, ids: list[str], size: int) -> Callable[[], None]:
        shared, ip, user = self.shared, self._remote[0], self.user

        def tell() -> None:
            for id_, (command, _) in zip(ids, transaction.recipients, strict=True):
                shared.report(
                    Received(
                        time=shared.clock(),
                        message_id=id_,
                        envelope=transaction.sender,
                        recipient=command.recipient,
                        size=size,
                        source="smtp",
                        remote_ip=ip,
                        user=user,
                    )  # fmt: skip
                )

        return tell

    def _record(self, refusal: Refusal, recipients: list[str], raw: bytes | None = None) -> None:
        """Keep what was turned away for good, where a queue for it is configured."""
        if refusal.code >= 500:
            timestamp = self.shared.dates.at(self.shared.clock())[1]
            self.shared.record(self.envelope.sender, recipients, refusal.reply, self._properties(timestamp), raw)

    def _need_greeting(self) -> None:
        if not self.session.host_name:
            raise Refusal("503 5.5.1 EHLO comes first")


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


def _address(name: tuple[Any, ...] | None) -> tuple[str, int]:
    """(IP, port); an IPv4 client of an IPv6 socket has its IPv4 address."""
    if not name:
        return "", 0  # gone before it was greeted
    ip = ipaddress.ip_address(name[0].partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip), name[1]


_METHODS: dict[str, Callable[[Session, str], Awaitable[None]]] = {
    "EHLO": Session.smtp_EHLO,
    "HELO": Session.smtp_HELO,
    "STARTTLS": Session.smtp_STARTTLS,
    "AUTH": Session.smtp_AUTH,
    "MAIL": Session.smtp_MAIL,
    "RCPT": Session.smtp_RCPT,
    "DATA": Session.smtp_DATA,
    "RSET": Session.smtp_RSET,
    "NOOP": Session.smtp_NOOP,
    "HELP": Session.smtp_HELP,
    "VRFY": Session.smtp_VRFY,
    "QUIT": Session.smtp_QUIT,
}
