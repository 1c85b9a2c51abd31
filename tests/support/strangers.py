"""Receivers that do not behave: one that hangs, one that refuses, one that crawls; beside one that is well."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.demo.nameserver import NameServer
from tests.support.loop import Loop
from tests.support.mailbox import Mailbox
from tests.support.program import Program

HOSTS = {
    "healthy.example": "127.3.0.1",
    "hangs.example": "127.3.0.2",
    "refuses.example": "127.3.0.3",
    "crawls.example": "127.3.0.4",
}
STRANGERS = tuple(HOSTS)[1:]


@dataclass
class Scene:
    """A program that delivers to these receivers; `mailbox` is the healthy one."""

    program: Program
    mailbox: Mailbox


@contextlib.contextmanager
def scene(folder: pathlib.Path, hanging: int = 0, **options: object) -> Iterator[Scene]:
    """All receivers on one port, and a name server that knows them. `hanging`: so many more, `h0.example` and so on."""
    with Mailbox(HOSTS["healthy.example"]) as mailbox, Loop() as loop, contextlib.ExitStack() as stack:
        names = NameServer()
        loop.run(names.start())
        for domain, address in HOSTS.items():
            names.add(domain, "A", address)
        for number in range(hanging):
            address = f"127.4.{number // 250}.{number % 250 + 1}"
            names.add(f"h{number}.example", "A", address)
            stack.enter_context(socket.create_server((address, mailbox.port), backlog=100))
        stack.enter_context(socket.create_server((HOSTS["hangs.example"], mailbox.port), backlog=1000))
        loop.run(asyncio.start_server(_crawl, HOSTS["crawls.example"], mailbox.port, backlog=1000))
        server = f"{names.address}:{names.port}"
        program = Program(folder, dns_server=server, delivery_port=mailbox.port, **options)
        yield Scene(stack.enter_context(program), mailbox)


async def _crawl(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give and take a byte a second."""
    with contextlib.suppress(OSError):
        for byte in b"220 crawls.example ESMTP\r\n" + b"250 Ok\r\n" * 100:
            writer.write(bytes([byte]))
            await reader.read(1)
            await asyncio.sleep(1)
