"""A receiving mail server that behaves as its line in the table says. It reads messages and forgets them.

Owns what a server remembers of its clients: connections and messages of each IP, and at most GREYLISTED triplets.
A line or a state that is not understood gets its 5xx; nothing that a client sends ends the server.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
import ssl
import time
import zlib
from collections.abc import Callable
from typing import cast

from pipeline.demo.providers import Provider

GREYLISTED = 10_000
LONGEST_LINE = 4096
MINUTE = 60.0
_PATH = re.compile(rb"<([^>]*)>")


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
        session = ReceiverSession(self)
        self._sessions.add(session)
        return session

    def gone(self, session: ReceiverSession) -> None:
        """A connection is closed."""
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
        if not self.provider.flood:
            return None
        now = self.clock()
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


class ReceiverSession(asyncio.Protocol):
    """One connection. Commands in one segment are answered in one (RFC 2920)."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._provider = receiver.provider
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._replies: list[str] = []
        self._reading: Callable[[], bool] = self._command
        self._secure = False
        self._sender: str | None = None
        self._rcpt: str | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self.ip = ""

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport = transport
        self.ip = transport.get_extra_info("peername")[0]
        self._receiver.open[self.ip] += 1
        if self._provider.trouble == "silent":
            self._reading = self._nothing
            return
        refusal = self._receiver.on_connect(self.ip)
        self._reply(refusal or self._receiver.say("banner", self.ip))
        self._flush()
        if refusal:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.gone(self)

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while self._reading():
            pass
        self._flush()

    def _reply(self, line: str) -> None:
        self._replies.append(line + "\r\n")

    def _flush(self) -> None:
        if self._replies and self._transport is not None and not self._transport.is_closing():
            self._transport.write("".join(self._replies).encode())
            self._replies.clear()

    def _close(self) -> bool:
        self._flush()
        self._buffer = b""
        self._reading = self._nothing
        if self._transport is not None:
            self._transport.close()
        return False

    # -- what is read next: each returns whether to go on at once ----------------------------------------------------

    def _nothing(self) -> bool:
        self._buffer = b""
        return False

    def _wait(self) -> bool:
        if len(self._buffer) > LONGEST_LINE:
            self.abort()
        return False

    def _command(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            if len(line) > LONGEST_LINE:
                self._reply("500 5.5.2 Line too long")
                return self._close()
            return False
        self._buffer = rest
        verb = line[:4].upper()
        return _VERBS.get(verb, ReceiverSession._unrecognised)(self, line)

    def _body(self) -> bool:
        """The message, up to its final dot; nothing is kept but what may be the start of the dot."""
        end = self._buffer.find(b"\r\n.\r\n")
        if end < 0:
            self._buffer = self._buffer[-4:]
            return False
        self._buffer = self._buffer[end + 5 :]
        if self._provider.trouble == "drops":
            return self._close()
        if self._provider.latency <= 0:
            return self._answer()
        self._reading = self._wait
        asyncio.get_running_loop().call_later(self._provider.latency, self._answer_late)
        return False

    def _answer(self) -> bool:
        self._reply(self._receiver.on_message(self.ip, self._sender or "", self._rcpt or ""))
        self._sender = self._rcpt = None
        self._reading = self._command
        return True

    def _answer_late(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._answer()
            self._advance()

    # -- commands ----------------------------------------------------------------------------------------------------

    def _unrecognised(self, line: bytes) -> bool:
        self._reply("500 5.5.2 Error: command not recognized")
        return True

    def _helo(self, line: bytes) -> bool:
        self._sender = self._rcpt = None
        self._reply(f"250 {self._receiver.host}")
        return True

    def _ehlo(self, line: bytes) -> bool:
        self._sender = self._rcpt = None
        offers = ["PIPELINING", "SIZE 36700160", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
        if self._provider.tls != "none" and not self._secure:
            offers.insert(2, "STARTTLS")
        lines = [f"{self._receiver.host} at your service, [{self.ip}]", *offers]
        self._reply("\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]))
        return True

    def _starttls(self, line: bytes) -> bool:
        transport, certificate = self._transport, self._receiver.certificate
        if self._provider.tls == "none" or self._secure or certificate is None or transport is None:
            self._reply("503 5.5.1 STARTTLS is not offered")
            return True
        self._buffer = b""  # what came before the handshake is not trusted (RFC 3207 4.2)
        self._reading = self._wait  # the client may speak before we are told that the handshake is over
        transport.pause_reading()  # before the 220: the handshake's first bytes are not ours to read
        self._reply("220 2.0.0 Ready to start TLS")
        self._flush()
        if self._provider.tls == "broken":
            transport.write(b"what is TLS?\r\n")
            return self._close()
        self._upgrade = asyncio.get_running_loop().create_task(self._handshake(transport, certificate))
        return False

    async def _handshake(self, transport: asyncio.Transport, certificate: ssl.SSLContext) -> None:
        try:
            loop = asyncio.get_running_loop()
            self._transport = await loop.start_tls(transport, self, certificate, server_side=True)
        except (OSError, ssl.SSLError):
            transport.abort()
            return
        self._secure, self._reading = True, self._command
        self._advance()

    def _mail(self, line: bytes) -> bool:
        if self._provider.tls == "required" and not self._secure:
            self._reply("530 5.7.0 Must issue a STARTTLS command first")
            return True
        refusal = self._receiver.on_mail(self.ip)
        if refusal is None:
            self._sender = _path(line)
        self._reply(refusal or "250 2.1.0 Ok")
        return self._close() if refusal and refusal.startswith("421") else True

    def _recipient(self, line: bytes) -> bool:
        if self._sender is None:
            self._reply("503 5.5.1 Error: need MAIL command")
            return True
        rcpt = _path(line)
        refusal = self._receiver.on_rcpt(self.ip, self._sender, rcpt)
        if refusal is None:
            self._rcpt = rcpt
        self._reply(refusal or "250 2.1.5 Ok")
        return True

    def _data(self, line: bytes) -> bool:
        if self._rcpt is None:
            self._sender = None
            self._reply("554 5.5.1 Error: no valid recipients")
            return True
        self._reply("354 End data with <CR><LF>.<CR><LF>")
        self._buffer = b"\r\n" + self._buffer  # the dot may be the first line
        self._reading = self._body
        return True

    def _rset(self, line: bytes) -> bool:
        self._sender = self._rcpt = None
        self._reply("250 2.0.0 Ok")
        return True

    def _noop(self, line: bytes) -> bool:
        self._reply("250 2.0.0 Ok")
        return True

    def _quit(self, line: bytes) -> bool:
        self._reply("221 2.0.0 Bye")
        return self._close()


_VERBS: dict[bytes, Callable[[ReceiverSession, bytes], bool]] = {
    b"EHLO": ReceiverSession._ehlo,
    b"HELO": ReceiverSession._helo,
    b"STAR": ReceiverSession._starttls,
    b"MAIL": ReceiverSession._mail,
    b"RCPT": ReceiverSession._recipient,
    b"DATA": ReceiverSession._data,
    b"RSET": ReceiverSession._rset,
    b"NOOP": ReceiverSession._noop,
    b"QUIT": ReceiverSession._quit,
}


def _path(line: bytes) -> str:
    found = _PATH.search(line)
    return found[1].decode("utf-8", "replace") if found else ""


def _draw(text: str) -> float:
    """A number from 0 to 1 that is always the same for the same text."""
    return zlib.crc32(text.lower().encode()) / 2**32
