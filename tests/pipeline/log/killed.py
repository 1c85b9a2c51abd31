"""Run by tests in a process of its own, to be killed: `writer FOLDER` prints the number of the writer's process, logs
attempts, and prints the number of each that may be settled; `archive FOLDER STEP` tidies up and is killed at its
STEP-th change on disk."""

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

from pipeline.log.schema import Attempt
from pipeline.log.writing.conversion import Archive
from pipeline.log.writing.delivery_log import DeliveryLog
from tests.pipeline.log.records import accepted, delivery

FULL = 500_000  # bytes: half a ring


async def writer(folder: Path) -> None:
    """Log as fast as the writer writes, with rotations; a few hundred lines are in the ring at any moment."""
    log = DeliveryLog(
        folder / "send.jsonl",
        None,
        maxsize=100_000,
        history=0,
        instance="mx1",
        report=lambda event: print(event, file=sys.stderr),
    )
    log.start()
    os.write(1, f"{log.writer.pid}\n".encode())
    for number in itertools.count():
        log.attempt(delivery(number), accepted(), time.time())
        os.write(1, f"{number}\n".encode())
        while log.buffer.inside > FULL:  # noqa: ASYNC110 - mail is a hundred times slower
            await asyncio.sleep(0.001)


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
