"""A receiving SMTP server on loopback that follows a script, and keeps what it got.

    async with Receiver({"RCPT": "550 5.1.1 unknown"}) as receiver:
        ... connect to 127.0.0.1:receiver.port ...
    assert receiver.messages == []

The script maps a verb (`greeting`, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, `.`, RSET, QUIT) to what is answered:
a text, bytes to send as they are, CLOSE, SILENCE, Slow, Cut, or a list of these, used up one by one over all
connections before the ordinary answer comes back. A text with line ends is sent as several lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CLOSE = "close"
SILENCE = "silence"
EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10485760", "DSN", "ENHANCEDSTATUSCODES")
ORDINARY = {
    "greeting": "220 receiver.test ESMTP",
    "HELO": "250 receiver.test",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 sender ok",
    "RCPT": "250 2.1.5 recipient ok",
    "DATA": "354 go ahead",
    ".": "250 2.0.0 taken",
    "RSET": "250 2.0.0 reset",
    "QUIT": "221 2.0.0 bye",
}


@dataclass
class Slow:
    """An answer that comes a byte at a time, `pause` seconds apart."""

    text: str
    pause: float = 0.05


@dataclass
class Cut:
    """Bytes after which the connection is closed."""

    octets: bytes


@dataclass
class Mail:
    """A message that came: its commands, and its bytes after DATA, dots removed."""

    mail: str
    rcpt: str
    data: bytes
    connection: int


@dataclass
class Receiver:
    """The server. `messages`, `commands` (connection, line) and `connections` are what it got."""

    script: Mapping[str, Any] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    read_data: bool = True  # False: it reads one byte of what comes after DATA, and no more
    messages: list[Mail] = field(default_factory=list)
    commands: list[tuple[int, str]] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    connections: int = 0
    peers: list[str] = field(default_factory=list)
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Receiver:
        self.script = {verb: list(does) if isinstance(does, list) else does for verb, does in self.script.items()}
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=4 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def verbs(self, connection: int = 1) -> list[str]:
        """The verbs that came over one connection, the first is 1."""
        return [line.split(" ")[0].split(":")[0].upper() for number, line in self.commands if number == connection]

    async def say(self, text: str, connection: int = 1) -> None:
        """Send something unasked."""
        self.writers[connection - 1].write(text.encode())

    def hang_up(self, connection: int = 1) -> None:
        """Close a connection."""
        self.writers[connection - 1].close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.peers.append(writer.get_extra_info("peername")[0])
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, EOFError, ssl.SSLError):
            try:
                await _Session(self, reader, writer, self.connections).run()
            finally:
                writer.transport.close()

    def next(self, verb: str) -> Any:
        """What the script has for a verb, now."""
        does = self.script.get(verb)
        if isinstance(does, list):
            does = does.pop(0) if does else None
        return ORDINARY.get(verb, "500 5.5.1 unknown") if does is None else does


class _Session:
    """One connection."""

    def __init__(
        self, server: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.server, self.reader, self.writer, self.number = server, reader, writer, number
        self.mail = self.rcpt = ""
        self.secure = False

    async def run(self) -> None:
        await self.answer("greeting")
        while line := await self.reader.readline():
            self.server.raw += line
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.server.commands.append((self.number, text))
            verb = text.split(" ")[0].split(":")[0].upper()
            positive = await self.answer(verb)
            if verb == "QUIT":
                return
            if positive:
                await self.after(verb, text)

    async def after(self, verb: str, text: str) -> None:
        if verb == "MAIL":
            self.mail, self.rcpt = text, ""
        elif verb == "RCPT":
            self.rcpt = text
        elif verb == "RSET":
            self.mail = self.rcpt = ""
        elif verb == "DATA":
            await self.data()
        elif verb == "STARTTLS":
            await self.writer.start_tls(self.server.tls)  # type: ignore[arg-type]
            self.secure = True

    async def data(self) -> None:
        if not self.server.read_data:
            self.server.raw += await self.reader.read(1)
            self.writer.transport.pause_reading()
            await asyncio.sleep(3600)
        lines = []
        while (line := await self.line()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        mail = Mail(self.mail, self.rcpt, b"".join(lines), self.number)
        accepted = await self.answer(".")
        if accepted and lines:
            self.server.messages.append(mail)
        self.mail = self.rcpt = ""

    async def line(self) -> bytes:
        """One line that ends in CRLF, and nothing less."""
        line = await self.reader.readuntil(b"\r\n")
        self.server.raw += line
        return line

    async def answer(self, verb: str) -> bool:
        """Answer by the script; True where the answer is positive."""
        does = self.server.next(verb)
        if verb == "EHLO" and does == ORDINARY.get(verb, "500 5.5.1 unknown"):
            offers = [*self.server.extensions, *(["STARTTLS"] if self.server.tls and not self.secure else [])]
            lines = ["receiver.test", *offers]
            does = "\r\n".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}" for n, line in enumerate(lines))
        if does == CLOSE:
            self.writer.close()
            raise ConnectionError
        if isinstance(does, Cut):
            self.writer.write(does.octets)
            self.writer.close()
            raise ConnectionError
        if does == SILENCE:
            await asyncio.sleep(3600)
        if isinstance(does, Slow):
            for octet in does.text.encode() + b"\r\n":
                self.writer.write(bytes([octet]))
                await asyncio.sleep(does.pause)
            return True
        self.writer.write(does if isinstance(does, bytes) else f"{does}\r\n".encode())
        await self.writer.drain()
        said = does if isinstance(does, str) else does.decode("latin-1")
        return said.lstrip()[:1] in ("2", "3")
