"""Run by tests in a process of its own, to be killed: `writer FOLDER` logs attempts and prints the number of each
that may be settled; `archive FOLDER STEP` tidies up and is killed at its STEP-th change on disk."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.log.archive import Archive
from pipeline.log.schema import Attempt
from pipeline.log.writer import DeliveryLog
from tests.pipeline.log.records import accepted, delivery


async def writer(folder: Path) -> None:
    """Log as fast as it goes, with 200 at once, and rotations."""
    log = DeliveryLog(
        folder / "send.jsonl",
        None,
        maxsize=100_000,
        history=0,
        instance="mx1",
        report=lambda event: print(event, file=sys.stderr),
    )
    log.start()
    credit = asyncio.Semaphore(200)

    def settle(number: int) -> None:
        os.write(1, f"{number}\n".encode())
        credit.release()

    for number in itertools.count():
        await credit.acquire()
        log.attempt(delivery(number), accepted(), time.time(), None, lambda number=number: settle(number))


def archive(folder: Path, step: int) -> None:
    """Die by SIGKILL just before the step-th change."""
    left = itertools.count(step, -1)

    def deadly(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **named: Any) -> Any:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **named)

        return changed

    os.fsync = deadly(os.fsync)
    Path.replace = deadly(Path.replace)  # type: ignore[method-assign]
    Path.unlink = deadly(Path.unlink)  # type: ignore[method-assign]
    Archive(folder / "send.jsonl", Attempt, 3).tidy()


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        asyncio.run(writer(Path(sys.argv[2])))
    else:
        archive(Path(sys.argv[2]), int(sys.argv[3]))
