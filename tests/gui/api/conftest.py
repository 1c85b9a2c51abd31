"""A real machine with its API, both on the test's own loop, and a real receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.gui.api.world import World, running
from tests.support.mailbox import Mailbox


@pytest.fixture
def options() -> dict[str, object]:
    """Keys of the configuration; a module's own fixture of this name gives others."""
    return {}


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A receiver that takes everything."""
    with Mailbox("127.4.0.1") as receiver:
        yield receiver


@pytest.fixture
async def world(tmp_path: Path, mailbox: Mailbox, options: dict[str, object]) -> AsyncIterator[World]:
    """A machine for one test."""
    async with running(tmp_path, mailbox, options) as made:
        yield made
