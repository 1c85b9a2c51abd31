"""An SMTP session on asyncio: what `ServerProtocol` says goes over a connection; EHLO, STARTTLS and AUTH. Mail is
`Session`'s.

Bounds: those of `ServerProtocol`, READ_AHEAD octets that are read before they are needed, a timer that each line sets
back. What fails here is answered on this session and reported; no other one notices.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, cast

import msgspec

from operators.deliveries.events import Rejected
from pipeline.process.supervisor import supervisor
from pipeline.smtp.server.access import crowd, login
from pipeline.smtp.server.client import SmtpPeer, address, clean_name
from pipeline.smtp.server.protocol import ChallengeAnswer, CommandLine, MailData, ServerProtocol
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.shared import Shared
from pipeline.smtp.server.states import GROUPED, VERBS
from pipeline.smtp.watch import CLIENT, IN, SERVER, Conversation

HANDSHAKE = 15.0  # seconds for a TLS handshake
READ_AHEAD = 65536  # octets that wait while a command is worked on; beyond them the socket is not read
_MISTAKES = range(500, 505)  # syntax and sequence: the client's bug, not mail turned away

# Most commands are answered at once; those that wait for something return what they wait for.
Command = Callable[[Any, str], Awaitable[None] | None]


class SessionDialogue(asyncio.Protocol, abc.ABC):
    """A connection from greeting to close. One task reads and answers, from `connection_made` on."""

    commands: ClassVar[Mapping[str, Command]] = {}

    def __init__(
        self,
        shared: Shared,
        loop: asyncio.AbstractEventLoop,
        ends: tuple[tuple[str, int], tuple[str, int]] | None = None,
    ) -> None:
        self.shared, self.loop, self._ends = shared, loop, ends  # as a proxy tells them
        self.hostname = shared.hostname
        self.protocol = ServerProtocol()
        self.client = SmtpPeer(("", 0), ("", 0), secure=False)
        self.answer: asyncio.Future[Exception | None] | None = None  # of the queue, while it is waited for
        self.transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._more: asyncio.Future[None] | None = None  # octets, while they are waited for
        self._room: asyncio.Future[None] | None = None  # to write, while the client does not read
        self._ended = self._paused = False
        self._heard = 0.0

    # -- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; on a secure port, after the TLS handshake."""
        info = transport.get_extra_info
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        local, remote = self._ends or (address(info("sockname")), address(info("peername")))
        self.client = SmtpPeer(local, remote, info("sslcontext") is not None)
        self.conversation = Conversation(IN, self.client.local[0], self.client.ip)
        self.shared.crowd.enter(self)
        self.heard()
        self._timer = self.loop.call_later(self.shared.settings.smtp_timeout, self._timed_out)
        self._task = supervisor().spawn(self._serve(), "smtp intake", grave=False)

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        self.protocol.receive(data)
        if self._more is not None:
            self._wake()
        elif self.protocol.waiting > READ_AHEAD and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered. TLS knows no half-closed connection."""
        self._ended = True
        self._wake()
        return not self.client.secure

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; what the queue has not confirmed was never answered."""
        self.shared.leave(self)
        if self._task is not None:
            self._task.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Break the circle of session and transport: a TLS one has 256 KB until garbage is collected."""
        self.transport = None

    def pause_writing(self) -> None:
        """The client does not read what it is told."""
        self._room = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # -- what `Crowd` asks -----------------------------------------------------------------------------------------

    def leave(self, line: str) -> None:
        """Say `line` and close, at once."""
        if not self.protocol.closed:
            self.protocol.close(line.encode())
            self._show(line.encode())
        self.flush()
        self._close()

    @property
    def idle(self) -> bool:
        """Between two transactions."""
        return self.protocol.idle

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

    # -- life cycle ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            await self._guarded(self._greet)
            while not self.protocol.closed:
                await self._guarded(self._work)
        except ConnectionError:
            pass  # the client went away
        finally:
            # Also here: after a failed handshake of STARTTLS nobody calls connection_lost.
            self.shared.leave(self)
            if self._timer is not None:
                self._timer.cancel()
            self._close()
            self._let_go()

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Refusal as refusal:
            self.refuse(refusal)
        except ConnectionError:
            raise
        except Exception as error:
            self.shared.fault("smtp intake", error)
            self._answer(Refusal("451 4.3.0 Something went wrong here, try again later"))

    async def _greet(self) -> None:
        self.shared.admit(self)
        self.say(f"220 {self.hostname} ESMTP Mailrace")
        self.flush()

    async def _work(self) -> None:
        """Command after command; raises `Refusal` at the first that is refused."""
        while not self.protocol.closed:
            if self.shared.closing and self.idle:
                raise Refusal("421 4.3.2 Shutting down", close=True)
            while (command := self._read()) is None:
                await self._octets()
            assert isinstance(command, CommandLine)
            waits = self.commands[command.verb](self, command.argument)
            if waits is not None:
                await waits
            if command.verb not in GROUPED:
                self.flush()

    async def event(self) -> CommandLine | ChallengeAnswer | MailData:
        """What the client says next. Raises `Refusal`, and ConnectionError once it says no more."""
        while (event := self._read()) is None:
            await self._octets()
        return event

    async def _octets(self) -> None:
        """Until more has come; raises ConnectionError where no more comes."""
        self.flush()
        if self._room is not None:
            await self._room
        if self._ended:
            raise ConnectionResetError
        self._more = self.loop.create_future()
        if self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()
        await self._more

    def _read(self) -> CommandLine | ChallengeAnswer | MailData | None:
        try:
            event = self.protocol.next_event()
            if event is not None and not isinstance(event, MailData):
                self.heard()
            return event
        finally:
            if self.protocol.line and self.shared.watch is not None:
                self.shared.watch.line(self.conversation, CLIENT, self.protocol.line)
            if self.protocol.verb == "AUTH":
                self.conversation.logging_in = True

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None and not more.done():
            more.set_result(None)

    def heard(self) -> None:
        """Set the timer back. Noted only, the timer looks when it fires: setting one anew takes 2 microseconds."""
        self._heard = self.loop.time()

    def _timed_out(self) -> None:
        duration = self.shared.settings.smtp_timeout
        left = self._heard + duration - self.loop.time()
        if left <= 0 and self.answer is None:
            self.leave("421 4.4.2 Nothing came for too long")
            return
        if left <= 0 and self.answer is not None and not self.answer.done():
            self.answer.set_result(TimeoutError())
        self._timer = self.loop.call_later(max(left, min(1.0, duration)), self._timed_out)

    def _close(self) -> None:
        """Close; a client that does not read the rest is cut off five seconds later."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(5.0, self.transport.abort)

    # -- replies ---------------------------------------------------------------------------------------------------

    def accept(self, reply: str) -> None:
        """The command is done."""
        line = reply.encode()
        self.protocol.accept(line)
        self._show(line)

    def say(self, reply: str) -> None:
        """A reply that belongs to no command."""
        line = reply.encode()
        self.protocol.say(line)
        self._show(line)

    def flush(self) -> None:
        """Send the replies that were given. They go together where commands came together (RFC 2920 3.2)."""
        data = self.protocol.output()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _show(self, line: bytes) -> None:
        if self.shared.watch is not None:
            self.shared.watch.line(self.conversation, SERVER, line)

    def refuse(self, refusal: Refusal, sender: str = "", recipient: str = "") -> None:
        """Answer with a refusal and report it."""
        if refusal.code not in _MISTAKES:
            self.report(refusal, sender, recipient)
        self._answer(refusal)

    def _answer(self, refusal: Refusal) -> None:
        self._show(self.protocol.refuse(refusal))
        self.flush()

    def report(self, refusal: Refusal, sender: str, recipient: str) -> None:
        """Tell that this was not queued, and with which answer."""
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

    def smtp_HELO(self, arg: str) -> None:
        """RFC 5321 4.1.1.1; without extensions."""
        self._greeted_by(arg, extended=False)
        self.accept(f"250 {self.hostname}")

    def smtp_EHLO(self, arg: str) -> None:
        """RFC 5321 4.1.1.1."""
        self._greeted_by(arg, extended=True)
        shared, secure = self.shared, self.client.secure
        lines = [self.hostname, "PIPELINING", f"SIZE {shared.settings.smtp_maxsize}", "8BITMIME", "SMTPUTF8"]
        if shared.settings.dsn_advertise:
            lines.append("DSN")
        if shared.tls and not secure:
            lines.append("STARTTLS")
        if shared.credentials and secure:
            lines.append("AUTH PLAIN LOGIN")
        self.accept("".join(f"250-{line}\r\n" for line in lines) + "250 ENHANCEDSTATUSCODES")

    def _greeted_by(self, name: str, extended: bool) -> None:
        self.client = msgspec.structs.replace(self.client, name=clean_name(name), extended=extended)
        self.reset()

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget the transaction."""

    async def smtp_STARTTLS(self, arg: str) -> None:
        """RFC 3207. What came before is forgotten, what was sent along with the command included."""
        if self.client.secure:
            raise Refusal("503 5.5.1 TLS is on already")
        if self.shared.tls is None or self.transport is None:
            raise Refusal("454 4.7.0 There is no TLS here")
        self.accept("220 2.0.0 Go ahead with TLS")
        self.flush()
        self.protocol.forget()
        try:
            transport = await self.loop.start_tls(
                self.transport, self, self.shared.tls, server_side=True, ssl_handshake_timeout=HANDSHAKE
            )
        except OSError:  # SSLError is one
            raise ConnectionResetError from None
        assert transport is not None
        self.transport, self._paused = transport, False
        self.client = SmtpPeer(self.client.local, self.client.remote, secure=True)
        self.reset()

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954, with PLAIN and LOGIN."""
        if self.shared.credentials is None or self.client.user:
            raise Refusal("503 5.5.1 AUTH is not possible now")
        if not self.client.secure:
            raise Refusal("538 5.7.11 AUTH needs TLS")
        user, password = await login.credentials(arg, self._ask)
        await login.check(self.shared, self.client.ip, user, password)
        self.client = msgspec.structs.replace(self.client, user=user)
        self.accept("235 2.7.0 Welcome")

    async def _ask(self, challenge: str) -> bytes:
        self._show(self.protocol.challenge(challenge))
        answer = await self.event()
        assert isinstance(answer, ChallengeAnswer)
        return answer.line

    # -- the rest --------------------------------------------------------------------------------------------------

    def smtp_RSET(self, arg: str) -> None:
        """RFC 5321 4.1.1.5."""
        self.reset()
        self.accept("250 2.0.0 Forgotten")

    def smtp_NOOP(self, arg: str) -> None:
        """RFC 5321 4.1.1.9."""
        self.accept("250 2.0.0 Still here")

    def smtp_HELP(self, arg: str) -> None:
        """RFC 5321 4.1.1.8."""
        self.accept("214 2.0.0 " + " ".join(VERBS))

    def smtp_VRFY(self, arg: str) -> None:
        """RFC 5321 3.5.3: who exists is not told."""
        self.accept("252 2.5.0 Send it, and see")

    def smtp_QUIT(self, arg: str) -> None:
        """RFC 5321 4.1.1.10."""
        self.accept("221 2.0.0 Bye")
