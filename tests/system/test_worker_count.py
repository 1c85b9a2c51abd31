"""Fewer workers, and more again, while mail is queued: all of it is delivered, once.

python -m tests.system.test_worker_count [--queued 100000] [--counts 4,1,4]
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import tempfile
import time
from collections.abc import Sequence

import pytest

from pipeline.queues import queue_file
from tests.bench.bounded import fill
from tests.support.mailbox import Mailbox
from tests.support.program import Program

STILL = 60.0  # seconds without a message after which no more is expected


class CountRun:
    """Mail in the queues of the first workers; each number of workers delivers its part of it, the last one the rest.

    Attributes:
        rows: of each number of workers: seconds until it took mail, messages delivered, seconds, seconds of its stop.
    """

    def __init__(self, folder: pathlib.Path, queued: int, counts: Sequence[int]) -> None:
        self.folder, self.queued, self.counts = folder, queued, counts
        self.rows: list[tuple[int, float, int, float, float]] = []

    def run(self) -> None:
        """All of it."""
        share = self.queued // self.counts[0]
        for number in range(self.counts[0]):
            asyncio.run(fill(queue_file(self.folder / "var", number + 1), share, first=number * share))
        with Mailbox() as self.mailbox:
            for turn, count in enumerate(self.counts, 1):
                wanted = self.queued if turn == len(self.counts) else self.queued * turn // len(self.counts)
                self.rows.append(self._turn(count, wanted))

    def _turn(self, count: int, wanted: int) -> tuple[int, float, int, float, float]:
        begin, before = time.monotonic(), self.mailbox.total
        sink = f"127.0.0.1:{self.mailbox.port}"  # one address for all domains, which its limit is not for
        with Program(self.folder, delivery_sink=sink, workers=count, ip_maxconnections=0) as program:
            ready = time.monotonic()
            self._wait(wanted)
            over, took = time.monotonic(), self.mailbox.total - before
            assert program.stop(90) == 0
        return count, ready - begin, took, over - ready, time.monotonic() - over

    def _wait(self, wanted: int) -> None:
        """Until so many have come, or none for a while."""
        last, since = -1, time.monotonic()
        while (now := self.mailbox.total) < wanted and time.monotonic() - since < STILL:
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.02)

    @property
    def lost(self) -> int:
        """Messages that never came."""
        return self.queued - len(self.mailbox.accepted)

    @property
    def doubles(self) -> int:
        """Messages that came once too often."""
        return self.mailbox.total - len(self.mailbox.accepted)

    def table(self) -> str:
        """What came of it."""
        lines = [
            f"{count} workers: up in {up:.1f} s, {took:,} delivered in {seconds:.0f} s, stopped in {end:.1f} s"
            for count, up, took, seconds, end in self.rows
        ]
        return "\n".join([*lines, f"{self.queued:,} queued, {self.lost} lost, {self.doubles} doubles"])


@pytest.mark.system
def test_all_is_delivered_once_by_however_many(tmp_path: pathlib.Path) -> None:
    """The one takes up what three had; three go on with what it has left."""
    run = CountRun(tmp_path, 600, (3, 1, 3))
    run.run()
    assert (run.lost, run.doubles) == (0, 0)
    assert not list((tmp_path / "var").glob("worker-*/queue.db-wal"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--counts", default="4,1,4")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        whole = CountRun(pathlib.Path(name), given.queued, [int(count) for count in given.counts.split(",")])
        whole.run()
        print(whole.table())
