"""An SMTP intake on a real queue, and a client that speaks octets."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from operators.deliveries.events import Event
from operators.mail.message import joined
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.segments import file_of
from pipeline.smtp.server.access.guard import Guard
from pipeline.smtp.server.server import SmtpIntake
from settings import load


class Caller:
    """A client on a raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply; its lines joined by newlines, "" where the connection was closed."""
        lines = []
        while line := await asyncio.wait_for(self.reader.readline(), 20):
            lines.append(line.decode().removesuffix("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    async def say(self, line: str | bytes) -> str:
        """Send a command line, and its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def says(self, *lines: str | bytes) -> list[str]:
        """The replies to several lines, one after the other."""
        return [await self.say(line) for line in lines]

    async def mail(self, content: bytes, *recipients: str, sender: str = "a@example.org", options: str = "") -> str:
        """One transaction; `content` is sent as it is, with the end that it has. The reply to it."""
        assert (await self.say(f"MAIL FROM:<{sender}>{options}")).startswith("250")
        for recipient in recipients or ("b@example.net",):
            assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await self.say("DATA")).startswith("354")
        self.send(content)
        return await self.reply()

    async def starttls(self, trusted: ssl.SSLContext) -> None:
        assert (await self.say("STARTTLS")).startswith("220")
        await self.writer.start_tls(trusted, server_hostname="localhost")

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 20)


class House:
    """A running intake. `events` is what it reported."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self.queue: Any = EmbeddedQueue(self.path)
        self.events: list[Event] = []
        self.folder = folder
        self._callers: list[Caller] = []

    async def open(self, *, is_local: Callable[[str], bool] = lambda _: False, **keys: Any) -> SmtpIntake:
        """Start it; a key `smtp_maxsize=1000` is the option `--smtp-maxsize 1000`."""
        options = {"smtp_port": 0, "data_dir": self.folder, "server_id": "mx1", **keys}
        if "smtp_certificate" in options:
            options.setdefault("smtp_privatekey", options["smtp_certificate"])
        argv = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        await self.queue.start()
        self.intake = SmtpIntake(
            load(argv, system_file=None),
            self.queue,
            self.events.append,
            is_local=is_local,
            hostname="mx.example.com",
            guard=Guard(step=0.0),
            clock=lambda: 1_700_000_000.0,
        )
        await self.intake.start()
        return self.intake

    async def call(self, *, greet: bool = True, port: int = 0, tls: ssl.SSLContext | None = None) -> Caller:
        """Connect; with `greet` also read the greeting and say EHLO."""
        name = "localhost" if tls else None
        ip, number = self.intake.addresses[port]
        caller = Caller(*await asyncio.open_connection(ip, number, ssl=tls, server_hostname=name))
        self._callers.append(caller)
        if greet:
            assert (await caller.reply()).startswith("220")
            assert (await caller.say("EHLO client.example")).startswith("250")
        return caller

    def queued(self, name: str = "outbox") -> list[dict[str, Any]]:
        """What is on a queue, oldest first."""
        with sqlite3.connect(self.path) as database:
            rows = database.execute(
                "SELECT body, segment, start, octets FROM messages WHERE queue = ? ORDER BY id", (name,)
            ).fetchall()
        return [self._whole(*row) for row in rows]

    def _whole(self, body: bytes, segment: int | None, start: int, octets: int) -> dict[str, Any]:
        if segment is None:
            return dict(json.loads(body))
        content = Path(file_of(self.path, segment)).read_bytes()[start : start + octets]
        return joined(json.loads(body), content)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until the condition holds; the test's own time-out bounds it."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0)

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def close(self) -> None:
        for caller in self._callers:
            caller.writer.close()
        if hasattr(self, "intake"):
            await self.intake.close(grace=1.0)
        await self.queue.close()
