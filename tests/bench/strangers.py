"""A healthy domain's rate beside three that hang, refuse and crawl, against its rate alone. Same offered load."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import time

from tests.support.source import Source
from tests.support.strangers import HOSTS, STRANGERS, scene


async def offer(port: int, domains: tuple[str, ...], rate: int, seconds: float, first: int) -> None:
    """`rate` messages a second in all, spread over the domains."""
    begin, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < seconds:
        if due := int(elapsed * rate) - sent:
            source = Source(port, due, 5, 2048, lambda n: domains[n % len(domains)], first + sent)
            await source.run()
            sent += source.offered
        await asyncio.sleep(0.02)


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


def measure(rate: int = 200, seconds: float = 15.0) -> list[tuple[str, str]]:
    """Rows for the table: what, and the ratio."""
    alone, beside = healthy_rate(False, rate, seconds), healthy_rate(True, rate, seconds)
    return [
        (
            f"a healthy domain's rate beside one that hangs, one that refuses, one that crawls, {rate}/s offered to each side",
            f"{beside / alone:.0%} of its rate alone ({alone:.0f}/s)",
        )
    ]


if __name__ == "__main__":
    for what, figure in measure():
        print(f"{what}: {figure}")
