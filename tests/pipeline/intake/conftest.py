from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.pipeline.intake.harness import House

# The loops differ in how TLS is begun on an open connection, and in how half-closed ones end.
LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
ON_BOTH = ("test_smtp_tls.py", "test_smtp_limits.py")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], object]]:
    """Which loops a test runs on."""
    return LOOPS if item.path.name in ON_BOTH else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.close()
