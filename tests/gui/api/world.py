"""What the tests of the API stand on: the client of a running machine, and how to serve one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.responses import PlainTextResponse

from gui.access.access import Access
from gui.access.tokens import Tokens, open_tokens
from gui.api import application
from gui.api.door import Door
from pipeline.machine.machine import Machine
from pipeline.views.facade import Facade
from settings import load
from tests.support.mailbox import Mailbox
from tests.support.program import free_port

ACCESS = Access("secret", b"key")


class World:
    """A machine, and a client of its API with a token named `tester`."""

    def __init__(self, machine: Machine, tokens: Tokens, url: str, facade: Facade, app: Any) -> None:
        self.machine, self.tokens, self.url, self.facade, self.app = machine, tokens, url, facade, app
        self.token = tokens.make("tester")
        # There is no TLS to verify, and to load the roots for it takes 20 ms.
        self.stranger = httpx.AsyncClient(base_url=url, verify=False)
        headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=20, verify=False)

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, content: Any = None, status: int = 201) -> Any:
        answer = await self.client.post(path, json=content)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def send(self, *recipients: str, **properties: Any) -> list[str]:
        """Queue a message to each."""
        mail = {"envelope": "me@example.org", "mime": "From: me@example.org\r\nSubject: Hi\r\n\r\nHello\r\n"}
        sent = await self.post("/messages", [{"recipient": to, **mail, **properties} for to in recipients], 202)
        return list(sent["ids"])


async def until(holds: Callable[[], Awaitable[Any] | Any], patience: float = 20.0) -> Any:
    """Wait until this is so; returns what it was."""
    async with asyncio.timeout(patience):
        while True:
            found = holds()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(folder: Path, mailbox: Mailbox, options: Mapping[str, object] | None = None) -> AsyncIterator[World]:
    """A machine whose mail for fine.example goes to the mailbox, with its API."""
    keys = {
        "data-dir": folder,
        "www-ip": "127.0.0.1",
        "smtp-port": free_port(),
        "smtp-default-ips": "127.0.0.1",
        "delivery-port": mailbox.port,
        "dns-server": "127.0.0.1:9",
        "dns-timeout": 0.2,
        "dns-attempts": 1,
        "shutdown-timeout": 2,
        "server-id": "mx1.example",
        **(options or {}),
    }
    machine = Machine(load([f"--{key}={value}" for key, value in keys.items()], None, None))
    await machine.start()
    facade = Facade(machine)
    tokens = open_tokens(machine.settings)
    app = application(facade, tokens)
    async with served(Door(PlainTextResponse("the console"), app, tokens, ACCESS)) as url:
        world = World(machine, tokens, url, facade, app)
        await world.post("/dns", {"name": "fine.example", "addresses": ["127.4.0.1"]})
        yield world
        await world.client.aclose()
        await world.stranger.aclose()
    facade.close()
    await machine.stop()


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An application on a port of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listening])  # not `serve`, which looks every 0.1 s whether it is to end
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        await server.shutdown(sockets=[listening])
        listening.close()
