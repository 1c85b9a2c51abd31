"""A rules database with its tables and nothing in them: to make one takes twice as long as a test with it."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from settings.store import RuleStore

FILE = "rules.db"


@functools.cache
def _empty() -> bytes:
    async def make(folder: Path) -> None:
        store = RuleStore("", folder)
        await store.start()
        await store.close()

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as other:  # this thread may have a loop
        other.submit(asyncio.run, make(Path(name))).result()
        return (Path(name) / FILE).read_bytes()


def put_database(folder: Path) -> None:
    """Put an empty one into this `data-dir`, where there is none."""
    if not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(_empty())
