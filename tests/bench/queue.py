"""The embedded queue: cycles of publish, consume and settle, in groups, against one commit for each call.

Both are durable, on the same disk, in the same run, in turn; what counts is the ratio. `--busy` lets another thread
burn Python all the time, as a busy event loop does to the queue's threads.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import statistics
import tempfile
import threading
import time

import uvloop

from operators.deliveries.delivery import Lease
from pipeline.queues.contract import Settlement
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.file import Store, Work
from tests.bench.table import Row, markdown

BODY = b"x" * 4096
PUBLISHERS = 50
CREDIT = 500


def one_by_one(path: pathlib.Path, cycles: int) -> float:
    """Cycles a second where each publication and each settlement is a commit of its own."""
    store = Store(path, writes=True)
    begin = time.perf_counter()
    for _ in range(cycles):
        publication, settlement = Work(), Work()
        publication.add("outbox", BODY, 0.0, begin)
        id = store.write(publication)
        store.take([id])
        settlement.done(id)
        store.write(settlement)
    elapsed = time.perf_counter() - begin
    store.close()
    return cycles / elapsed


async def in_groups(path: pathlib.Path, cycles: int) -> float:
    """Cycles a second of PUBLISHERS who publish again once they are confirmed, and a consumer who settles at once."""
    queue = EmbeddedQueue(path)
    await queue.start()
    finished = asyncio.Event()
    published = settled = 0

    def publish(error: Exception | None = None) -> None:
        nonlocal published
        assert error is None
        if published < cycles:
            published += 1
            queue.publish([("outbox", BODY)], publish)

    def count(error: Exception | None) -> None:
        nonlocal settled
        assert error is None
        settled += 1
        if settled == cycles:
            finished.set()

    def settle(lease: Lease) -> None:
        queue.settle(lease, Settlement(), count)

    queue.consume(CREDIT).subscribe(settle)
    begin = time.perf_counter()
    for _ in range(PUBLISHERS):
        publish()
    await finished.wait()
    elapsed = time.perf_counter() - begin
    await queue.close()
    return cycles / elapsed


def rows(cycles: int = 10_000, rounds: int = 3) -> list[Row]:
    """For the table: medians of rounds that alternate."""
    single, grouped = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            single.append(one_by_one(pathlib.Path(folder) / "single.db", cycles // 10))
            grouped.append(uvloop.run(in_groups(pathlib.Path(folder) / "grouped.db", cycles)))
    ratio = statistics.median(many / one for many, one in zip(grouped, single, strict=True))
    what = f"queue: publish, lend, settle, 4 KB, {PUBLISHERS} publishers, durable"
    return [Row(what, f"{statistics.median(grouped):,.0f}/s", f"{ratio:.0f} times one commit a call")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="beside a thread that never rests")
    arguments = parser.parse_args()
    stop = threading.Event()
    if arguments.busy:
        threading.Thread(target=_spin, args=(stop,)).start()
    try:
        print(markdown(rows(arguments.cycles, arguments.rounds)))
    finally:
        stop.set()


def _spin(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(100))


if __name__ == "__main__":
    main()
