"""A day's delivery log of the demo, without waiting for a day: what the notebooks show, and tests ask questions of.

Owns nothing: it writes into the folder that it is given, through the delivery log itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from pathlib import Path

from operators.events import Event, Received
from pipeline.demo.day import Day
from pipeline.log.names import JSON_LINES, rotated
from pipeline.log.writer import DeliveryLog

MIDNIGHT = 1_794_873_600.0  # Tuesday, 17 November 2026, UTC
MAXSIZE = 8_000_000  # bytes: some of the day is Parquet already
TURN = 500  # events between two turns of the loop: what the journal holds in memory is bounded
PATIENCE = 10.0  # seconds that the last conversion to Parquet may take


def write(folder: Path, messages: int = 45_000, seed: int = 1) -> Path:
    """Write a day's log into a folder, which takes a few seconds; returns the path of its send-log.

    The received-log lies beside it. The same arguments give the same records. Raises `LogUnavailable`.

    Args:
        folder: where to; made where it is not there.
        messages: about how many are sent in the day.
        seed: of everything that is left to chance.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as own:  # a notebook's thread has a running loop already
        sent, received = own.submit(asyncio.run, _write(folder, messages, seed)).result()
    _wait(sent, received)
    return sent


async def _write(folder: Path, messages: int, seed: int) -> tuple[Path, Path]:
    day = Day(MIDNIGHT, messages, seed)
    sent, received = folder / "send.jsonl", folder / "received.jsonl"
    said: list[Event] = []
    log = DeliveryLog(
        sent, received, maxsize=MAXSIZE, history=0, instance="demo", report=said.append, clock=lambda: day.now
    )
    log.start()
    for number, event in enumerate(day.events()):
        if isinstance(event, Received):
            log.received(event)
        else:
            log.attempt(*event)
        if number % TURN == 0:
            await asyncio.sleep(0)
    await log.close()
    assert not said, said
    return sent, received


def _wait(*logs: Path) -> None:
    """Until every rotated file is Parquet: `close` does not wait for that, and files that change are read twice."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and any(path.suffix == JSON_LINES for log in logs for path in rotated(log)):
        time.sleep(0.02)
