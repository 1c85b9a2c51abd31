"""A million suppressions: import with progress, start, memory, look-up, search, export; with workers.

    python -m tests.bench.suppressions [--entries 1000000] [--workers 4] [--folder /dev/shm]

The import goes through the API, as an operator does it. CPU seconds say more than the others on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import tempfile
import time

import psutil

from settings.rules.suppression import SuppressionIndex
from settings.store import RuleStore
from tests.bench.table import Row, markdown
from tests.support.api import TOKEN, Api
from tests.support.program import Program

LOOKS = 20_000
PATIENCE = 900.0


def _csv(entries: int) -> bytes:
    return b"value\n" + b"".join(b"someone.else%d@domain%d.example\n" % (n, n % 5000) for n in range(entries))


def _processes(program: Program) -> list[psutil.Process]:
    assert program.process is not None
    head = psutil.Process(program.process.pid)
    return [head, *head.children(recursive=True)]


def _memory(program: Program) -> list[float]:
    """MB of each process's own, the largest first."""
    found = []
    for process in _processes(program):
        try:
            found.append(process.memory_full_info().uss / 2**20)
        except psutil.Error:
            continue
    return sorted(found, reverse=True)


def _cpu(program: Program) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _processes(program))


def _import(api: Api, entries: int) -> tuple[float, int]:
    """Seconds, and how many different figures of progress were seen."""
    begun, seen = time.monotonic(), set()
    answer = api.client.post(
        "/suppressions/import", content=_csv(entries), headers={"Content-Type": "text/csv"}, timeout=PATIENCE
    )
    where = answer.raise_for_status().headers["location"].removeprefix("/api/v1")
    while (job := api.get(where))["state"] not in ("done", "failed") and time.monotonic() < begun + PATIENCE:
        seen.add(job["looked"])
        time.sleep(0.2)
    assert (job["state"], job["created"]) == ("done", entries), job
    return time.monotonic() - begun, len(seen)


async def _look_up(folder: pathlib.Path, entries: int) -> tuple[float, float]:
    """CPU microseconds of a look-up that finds nothing, and of one that finds an entry in the index."""
    store = RuleStore("", folder)
    await store.start()
    index: SuppressionIndex = store.suppressions.index
    assert len(index) == entries
    found = []
    for name in ("nobody%d@domain%d.example", "someone.else%d@domain%d.example"):
        addresses = [name % (n, n % 5000) for n in range(LOOKS)]
        begun = time.process_time()
        for address in addresses:
            index.candidates(address)
        found.append((time.process_time() - begun) / LOOKS * 1e6)
    await store.close()
    return found[0], found[1]


def rows(entries: int = 1_000_000, workers: int = 4, folder: str | None = None) -> list[Row]:
    """For the table of `docs/tuning.md`."""
    options = {"api_token": TOKEN, "workers": workers}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = pathlib.Path(name)
        with Program(path, **options) as program:
            api, before = Api(program), _memory(program)
            cpu = _cpu(program)
            took, steps = _import(api, entries)
            cpu = _cpu(program) - cpu
            print(f"import {took:.0f} s, {cpu:.0f} s CPU, {steps} steps", flush=True)
            begun = time.monotonic()
            page = api.get("/suppressions?containing=else77777@")
            search = time.monotonic() - begun
            assert "else77777@" in str(page) or entries < 77_777
            begun = time.monotonic()
            size = len(api.client.get("/suppressions/export", timeout=PATIENCE).content)
            export = time.monotonic() - begun
            print(f"search {search:.2f} s, export of {size / 2**20:.0f} MB {export:.0f} s", flush=True)
        begun = time.monotonic()
        with Program(path, **options) as program:
            start, own = time.monotonic() - begun, _cpu(program)
            time.sleep(3)
            after = _memory(program)
            print(f"start {start:.1f} s, {own:.1f} s CPU; memory {after}, before {before}", flush=True)
        (path / "empty").mkdir()
        begun = time.monotonic()
        with Program(path / "empty", **options) as program:
            empty, without = time.monotonic() - begun, _cpu(program)
        missing, there = asyncio.run(_look_up(path / "var", entries))
    grown = [round(more - less) for more, less in zip(after[: workers + 1], before[: workers + 1], strict=True)]
    load = f"load {psutil.getloadavg()[0]:.0f}"
    return [
        Row(f"import of {entries:,} by the API, {workers} workers", f"{took:.0f} s, {cpu:.0f} s CPU", f"{steps} steps"),
        Row("start with them, and with none", f"{start:.1f} s and {empty:.1f} s", f"CPU {own:.1f} and {without:.1f} s"),
        Row("memory of the head and each worker", f"+{grown} MB", ""),
        Row("look-up, nothing there and an entry", f"{missing:.1f} and {there:.1f} us CPU", ""),
        Row("search of a text, first page", f"{search:.2f} s", ""),
        Row(f"export of {size / 2**20:.0f} MB", f"{export:.0f} s", load),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--folder")
    wanted = parser.parse_args()
    print(markdown(rows(wanted.entries, wanted.workers, wanted.folder)))


if __name__ == "__main__":
    main()
