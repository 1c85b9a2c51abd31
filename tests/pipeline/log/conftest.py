"""What the delivery log's tests share: a log in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from operators.events import Event
from pipeline.log.writer import DeliveryLog

Make = Callable[..., DeliveryLog]


@pytest.fixture
def said() -> list[Event]:
    """What the log reports."""
    return []


@pytest.fixture
def send_log(tmp_path: Path) -> Path:
    """Where the log is."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "send.jsonl"


@pytest.fixture
async def make(send_log: Path, said: list[Event]) -> AsyncIterator[Make]:
    """Makes a started log; all are closed in the end."""
    made: list[DeliveryLog] = []

    def start(maxsize: int = 0, history: int = 20) -> DeliveryLog:
        received = send_log.with_name("received.jsonl")
        log = DeliveryLog(send_log, received, maxsize=maxsize, history=history, instance="mx1", report=said.append)
        log.start()
        made.append(log)
        return log

    yield start
    for log in made:
        await log.close()
