"""A healthy domain's rate beside three that hang, refuse and crawl, against its rate alone. Same offered load."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import time

from tests.bench.table import Row, markdown
from tests.support.source import Source
from tests.support.strangers import STRANGERS, scene


async def offer(port: int, domains: tuple[str, ...], rate: int, seconds: float, first: int) -> int:
    """`rate` messages a second in all, spread over the domains; how many were taken."""
    begin, sent, taken = time.monotonic(), 0, 0
    while (elapsed := time.monotonic() - begin) < seconds:
        if due := int(elapsed * rate) - sent:
            source = Source(port, due, 5, 2048, lambda n: domains[n % len(domains)], first + sent)
            await source.run()
            sent += source.offered
            taken += len(source.confirmed)
        await asyncio.sleep(0.02)
    return taken


def healthy_rate(strangers: bool, rate: int, seconds: float) -> float:
    """Messages a second that reach the healthy domain, of `rate` offered to it."""
    with tempfile.TemporaryDirectory() as name, scene(pathlib.Path(name)) as stage:

        async def run() -> None:
            port = stage.program.smtp_port
            offers = [offer(port, ("healthy.example",), rate, seconds, 0)]
            if strangers:
                offers.append(offer(port, STRANGERS, rate, seconds, 10_000_000))
            await asyncio.gather(*offers)

        asyncio.run(run())
        before, end = -1, time.monotonic() + seconds
        while stage.mailbox.total != before and time.monotonic() < end:
            before = stage.mailbox.total
            time.sleep(0.5)
        return stage.mailbox.total / seconds


def rows(rate: int = 200, seconds: float = 15.0) -> list[Row]:
    """For the table: the healthy domain's rate, and its ratio to the rate alone."""
    alone, beside = healthy_rate(False, rate, seconds), healthy_rate(True, rate, seconds)
    what = f"a healthy domain beside three that hang, refuse and crawl, {rate}/s offered to it and to them"
    return [Row(what, f"{beside:.0f}/s", f"{beside / alone:.0%} of its rate alone")]


if __name__ == "__main__":
    print(markdown(rows()))
