"""What the delivery log's tests share: a log in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.log.writing.delivery_log import DeliveryLog
from tests.support.waiting import comes as until  # noqa: F401 - for the tests here

Make = Callable[..., DeliveryLog]


def logged(path: Path) -> list[str]:
    """The message-ids in a file; none where it is not there."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [msgspec.json.decode(line)["message_id"] for line in lines if line.endswith(b"\n")]


@pytest.fixture
def said() -> list[Any]:
    """What the log reports."""
    return []


@pytest.fixture
def send_log(tmp_path: Path) -> Path:
    """Where the log is."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "send.jsonl"


@pytest.fixture
async def make(send_log: Path, said: list[Any]) -> AsyncIterator[Make]:
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
