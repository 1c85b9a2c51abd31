"""A sender that remembers: many sessions that inject numbered mail, reconnect when they are cut off, and keep the
numbers of all that was answered 250."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Callable, Sequence

Domain = Callable[[int], str]


class Refused(OSError):
    """A negative answer; the connection is given up."""


class Source:
    """Injects `total` messages over `sessions` connections.

    Attributes:
        confirmed: the numbers whose final dot was answered 250.
        offered: messages that were begun; one that is cut off is not offered again.
        refusals: the negative answers.
    """

    def __init__(
        self,
        port: int,
        total: int,
        sessions: int = 20,
        size: int = 4096,
        domain: Domain = lambda number: "a.example",
        first: int = 0,
        others: Sequence[int] = (),
    ) -> None:
        """`others`: sizes of the next ones; all take turns."""
        self.port, self.total, self.sessions, self.domain = port, total, sessions, domain
        self.confirmed: set[int] = set()
        self.offered = 0
        self.refusals: collections.Counter[str] = collections.Counter()
        self._numbers = itertools.count(first)
        self._bodies = [(b"x" * 76 + b"\r\n") * (octets // 78) for octets in (size, *others)]

    async def run(self) -> None:
        """Until all have been offered."""
        await asyncio.gather(*(self._session() for _ in range(self.sessions)))

    async def _session(self) -> None:
        while self.offered < self.total:
            try:
                await self._converse()
            except (OSError, asyncio.IncompleteReadError) as error:
                if isinstance(error, Refused):
                    self.refusals[str(error)] += 1
                await asyncio.sleep(0.05)

    async def _converse(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.closing(writer):
            await _answer(reader)
            writer.write(b"EHLO source.example\r\n")
            await _answer(reader)
            while self.offered < self.total:
                self.offered += 1
                await self._send(reader, writer, next(self._numbers))

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        recipient = f"user{number}@{self.domain(number)}"
        for line in (b"MAIL FROM:<from@sender.example>", f"RCPT TO:<{recipient}>".encode(), b"DATA"):
            writer.write(line + b"\r\n")
            await _answer(reader)
        body = self._bodies[number % len(self._bodies)]
        writer.write(f"Subject: {number}\r\nX-Number: {number}\r\n\r\n".encode() + body + b".\r\n")
        if (await _answer(reader)).startswith(b"250"):
            self.confirmed.add(number)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[3:4] != b"-":
            if line[:1] in b"45":
                raise Refused(line.decode().rstrip())
            return line
