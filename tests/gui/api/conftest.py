"""A real machine with its API, both on the test's own loop, and a real receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from gui.api import application
from gui.api.door import Door
from gui.api.tokens import open_tokens
from pipeline.facade import Facade
from pipeline.machine import Machine
from settings import load
from tests.gui.api.world import ACCESS, World, free_port, served
from tests.support.mailbox import Mailbox


@pytest.fixture
def options() -> dict[str, object]:
    """Keys of the configuration; a module's own fixture of this name gives others."""
    return {}


@pytest.fixture
def mailbox() -> Any:
    """A receiver that takes everything."""
    with Mailbox("127.4.0.1") as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path, mailbox: Mailbox, options: dict[str, object]) -> AsyncIterator[World]:
    """A machine whose mail for fine.example goes to the mailbox."""
    keys = {
        "data-dir": tmp_path,
        "www-ip": "127.0.0.1",
        "smtp-port": free_port(),
        "smtp-default-ips": "127.0.0.1",
        "delivery-port": mailbox.port,
        "dns-server": "127.0.0.1:9",
        "dns-timeout": 0.2,
        "dns-attempts": 1,
        "shutdown-timeout": 2,
        "server-id": "mx1.example",
        **options,
    }
    machine = Machine(load([f"--{key}={value}" for key, value in keys.items()], None, None))
    await machine.start()
    facade = Facade(machine)
    app, tokens = application(facade), open_tokens(machine.settings)
    async with served(Door(PlainTextResponse("the console"), app, tokens, ACCESS)) as url:
        made = World(machine, tokens, url, facade, app)
        await made.post("/dns", {"name": "fine.example", "addresses": ["127.4.0.1"]})
        yield made
        await made.client.aclose()
        await made.stranger.aclose()
    facade.close()
    await machine.stop()
