"""A receiving mail server that behaves as its line in the table says. It reads messages and forgets them.

Owns what a server remembers of its clients: connections and messages of each IP, and at most GREYLISTED triplets.
The dialogue is aiosmtpd's: lines, states, STARTTLS, time-outs, and its own words where the table has none. What a
provider decides is told to it by hooks (`ReceiverHooks`). `ReceiverSession` overrides what has no hook: a greeting that
is a refusal or never comes, a handshake that breaks; and what a demo of hundreds of mails a second would feel: aiosmtpd
parses addresses with `email`, collects the lines of messages, and sends each answer by itself.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterable
from typing import NoReturn

from aiosmtpd.smtp import SMTP, Envelope, Session, TLSSetupException

from pipeline.demo.providers import Provider

GREYLISTED = 10_000
LONGEST_LINE = 4096  # of a command
PIECE = 65_536  # octets of a message that are read at once; a session keeps at most twice as many
PATIENCE = 3600.0  # seconds without a command until a session ends: a silent server outlasts all clients
MINUTE = 60.0
_EXTENSIONS = ("PIPELINING", "SIZE 36700160", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
_PATH = re.compile(r"<([^>]*)>")
_COMMANDS = tuple(name for name in dir(SMTP) if name.startswith("smtp_"))


class Receiver:
    """One host of a provider: its listener, and what it remembers of its clients."""

    def __init__(
        self,
        provider: Provider,
        host: str,
        certificate: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self.host = host
        self.certificate = certificate
        self.clock = clock
        self.accepted = 0
        self.open: collections.Counter[str] = collections.Counter()  # connections by client IP
        self._serial = itertools.count(1)
        self._first_seen: collections.OrderedDict[tuple[str, str, str], float] = collections.OrderedDict()
        self._minute: dict[str, tuple[float, int]] = {}  # by client IP: its minute's start, messages in it
        self._until: dict[str, float] = {}  # by client IP: the end of its 421
        self._hooks = ReceiverHooks(self)
        self._server: asyncio.Server | None = None
        self._sessions: set[ReceiverSession] = set()

    async def start(self, address: str, port: int) -> int:
        """Listen there, and return the port; raises OSError where it is taken."""
        self._server = await asyncio.get_running_loop().create_server(self._session, address, port, backlog=500)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.abort()

    def _session(self) -> ReceiverSession:
        return ReceiverSession(self, self._hooks)

    def came(self, session: ReceiverSession) -> None:
        """A connection is open."""
        self._sessions.add(session)
        self.open[session.ip] += 1

    def gone(self, session: ReceiverSession) -> None:
        """A connection is closed. Says it more than once where a handshake failed."""
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self.open[session.ip] -= 1
        if not self.open[session.ip]:
            del self.open[session.ip]

    # -- what the provider decides -----------------------------------------------------------------------------------

    def say(self, kind: str, ip: str, rcpt: str = "") -> str:
        """An answer in the provider's words."""
        template: str = getattr(self.provider.answers, kind)
        serial = next(self._serial)
        return template.format(
            ip=ip, rcpt=rcpt, domain=rcpt.rpartition("@")[2], host=self.host, wait=round(self.provider.greylist),
            id=f"{zlib.crc32(self.host.encode()):X}{serial:06X}",
        )  # fmt: skip

    def on_connect(self, ip: str) -> str | None:
        """The refusal of a new connection, or None."""
        most = self.provider.connections
        if (most and self.open[ip] > most) or self._until.get(ip, 0.0) > self.clock():
            return self.say("flooded", ip)
        return None

    def on_mail(self, ip: str) -> str | None:
        """The refusal of a sender, or None. Counts the message towards the IP's minute."""
        if self.provider.blocked:
            return self.say("blocked", ip)
        now, spell = self.clock(), self.provider.spells
        if spell and now % (2 * spell) < spell:
            return self.say("troubled", ip)
        if not self.provider.flood:
            return None
        start, count = self._minute.get(ip, (now, 0))
        if now - start >= MINUTE:
            start, count = now, 0
        self._minute[ip] = start, count + 1
        if count >= self.provider.flood:
            self._until[ip] = now + self.provider.pause
        return self.say("flooded", ip) if self._until.get(ip, 0.0) > now else None

    def on_rcpt(self, ip: str, sender: str, rcpt: str) -> str | None:
        """The refusal of a recipient, or None. The same recipient always has the same fate."""
        draw = _draw(rcpt)
        if draw < self.provider.unknown:
            return self.say("unknown", ip, rcpt)
        if draw < self.provider.unknown + self.provider.full:
            return self.say("full", ip, rcpt)
        if self.provider.greylist and not self._known(ip, sender, rcpt):
            return self.say("greylisted", ip, rcpt)
        return None

    def on_message(self, ip: str, sender: str, rcpt: str) -> str:
        """The answer to a message."""
        if _draw(sender + rcpt) < self.provider.spam:
            return self.say("spam", ip, rcpt)
        self.accepted += 1
        return self.say("accepted", ip, rcpt)

    def _known(self, ip: str, sender: str, rcpt: str) -> bool:
        now = self.clock()
        first = self._first_seen.setdefault((ip, sender, rcpt), now)
        if len(self._first_seen) > GREYLISTED:
            self._first_seen.popitem(last=False)
        return now - first >= self.provider.greylist


class ReceiverHooks:
    """What a provider answers, where aiosmtpd asks."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def handle_EHLO(
        self, server: ReceiverSession, session: Session, envelope: Envelope, hostname: str, offers: list[str]
    ) -> list[str]:
        """The extensions; STARTTLS where aiosmtpd offers it, which it does until there is TLS."""
        session.host_name = hostname
        tls = ["STARTTLS"] if "250-STARTTLS" in offers else []
        *lines, last = [f"{self._receiver.host} at your service, [{server.ip}]", *tls, *_EXTENSIONS]
        return [*(f"250-{line}" for line in lines), f"250 {last}"]

    async def handle_MAIL(
        self, server: ReceiverSession, session: Session, envelope: Envelope, sender: str, options: list[str]
    ) -> str:
        """Whether this client may send."""
        refusal = self._receiver.on_mail(server.ip)
        if refusal is None:
            envelope.mail_from = sender
        return refusal or "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: ReceiverSession, session: Session, envelope: Envelope, rcpt: str, options: list[str]
    ) -> str:
        """Whether there is such a mailbox, and it has room."""
        refusal = self._receiver.on_rcpt(server.ip, envelope.mail_from or "", rcpt)
        if refusal is None:
            envelope.rcpt_tos.append(rcpt)
        return refusal or "250 2.1.5 Ok"

    async def handle_DATA(self, server: ReceiverSession, session: Session, envelope: Envelope) -> str:
        """The answer to the final dot, in the provider's time; or none."""
        provider = self._receiver.provider
        if provider.trouble == "drops":
            server.hang_up()
        if provider.latency > 0:
            await asyncio.sleep(provider.latency)
        return self._receiver.on_message(server.ip, envelope.mail_from or "", envelope.rcpt_tos[-1])


class ReceiverSession(SMTP):
    """One connection, and the task that aiosmtpd has for it."""

    command_size_limit = LONGEST_LINE
    line_length_limit = PIECE  # by which aiosmtpd bounds what it buffers

    def __init__(self, receiver: Receiver, hooks: ReceiverHooks) -> None:
        tls = receiver.provider.tls
        self.command_size_limits = collections.defaultdict(lambda: LONGEST_LINE)  # aiosmtpd's is one for all sessions
        super().__init__(
            hooks, hostname=receiver.host, enable_SMTPUTF8=True, timeout=PATIENCE, loop=asyncio.get_running_loop(),
            tls_context=None if tls == "none" else receiver.certificate, require_starttls=tls == "required",
        )  # fmt: skip
        self._receiver = receiver
        self._replies = bytearray()  # of this turn of the event loop
        self.ip = ""

    def __dir__(self) -> Iterable[str]:
        """aiosmtpd looks here for commands, on each connection: all names of a session took it half a millisecond."""
        return _COMMANDS

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.transport is None:  # else it is TLS, over a connection that is counted
            self.ip = transport.get_extra_info("peername")[0]
            self._receiver.came(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            super().connection_lost(error)
        self._receiver.gone(self)

    def eof_received(self) -> bool:
        """A client that has gone gets no more answers; its connection is closed, whatever the session's task does."""
        super().eof_received()
        return False

    def abort(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self._writer.transport.abort()

    def hang_up(self) -> NoReturn:
        """Close it, without another word; the session's task ends here, as aiosmtpd ends it."""
        self._flush()
        self._writer.close()
        raise asyncio.CancelledError

    async def _handle_client(self) -> None:
        if self._receiver.provider.trouble == "silent":
            while await self._reader.read(PIECE):
                pass
        elif refusal := self._receiver.on_connect(self.ip):
            await self.push(refusal)
        else:
            banner = self._receiver.say("banner", self.ip)
            self.__ident__ = banner.removeprefix(f"220 {self.hostname} ")
            await super()._handle_client()

    async def push(self, status: str) -> None:  # type: ignore[override]  # aiosmtpd's takes octets, too
        """Send an answer: those to commands of one segment in one (RFC 2920). After 421 the connection ends.

        What greets, turns to TLS, or ends goes at once: aiosmtpd goes on without a turn of the loop.
        """
        if not self._replies:
            self.loop.call_soon(self._flush)
        self._replies += status.encode(errors="replace") + b"\r\n"
        if status.startswith(("220", "221", "502")):
            self._flush()
        await self._writer.drain()
        if status.startswith("421"):
            self.hang_up()

    def _flush(self) -> None:
        if self._replies and self.transport is not None:
            self._writer.write(bytes(self._replies))
        self._replies.clear()

    async def handle_exception(self, error: Exception) -> str:
        """A client that does not like our certificate is no trouble; of all else aiosmtpd writes the traceback."""
        return "" if isinstance(error, TLSSetupException) else str(await super().handle_exception(error))

    # -- commands ----------------------------------------------------------------------------------------------------

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """aiosmtpd's, unless this is where the trouble is."""
        if self._receiver.provider.tls != "broken":
            await super().smtp_STARTTLS(arg)
            return
        await self.push("220 2.0.0 Ready to start TLS")
        self._writer.write(b"what is TLS?\r\n")
        self.hang_up()

    def _getaddr(self, arg: str) -> tuple[str | None, str]:
        """The address, `<>` for none. All parameters are taken as valid: what ours do with them is another's test."""
        found = _PATH.match(arg.encode(errors="replace").decode())  # octets that are no UTF-8 are marked in it
        return (found[1] or "<>" if found else None), ""

    async def smtp_DATA(self, arg: str | None) -> None:
        """Read a message, and keep nothing of it."""
        if self.envelope is None or not self.envelope.rcpt_tos:
            self.envelope = self._create_envelope()
            await self.push("554 5.5.1 Error: no valid recipients")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        self._reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]  # the dot may be the first line
        await self._skip_message()
        status = await self._call_handler_hook("DATA")
        self.envelope = self._create_envelope()
        await self.push(status)

    async def _skip_message(self) -> None:
        while True:
            try:
                await self._reader.readuntil(b"\r\n.\r\n")
                return
            except asyncio.LimitOverrunError as error:
                await self._reader.read(error.consumed)


def _draw(text: str) -> float:
    """A number from 0 to 1 that is always the same for the same text."""
    return zlib.crc32(text.lower().encode()) / 2**32
