"""`mailrace cluster`: which instances answer, as a table or JSON. It joins the exchange, asks, and leaves."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cluster.exchange import ClusterExchange
from pipeline.cluster.roster import Roster
from pipeline.cluster.words import HELLO, Announcement, NotUnderstood, read
from settings import ConfigurationErrors, Settings, StartError

CONNECTING = 10.0  # seconds
LOOK = 0.02  # seconds
WIDE = 400  # columns, so that nothing is cut where the output is no terminal


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationErrors([f"cluster: {message}"])


def cluster(settings: Settings, arguments: Sequence[str]) -> int:
    """Show who answers within `cluster-timeout`; 0 where somebody did.

    Raises:
        ConfigurationErrors: the command line cannot be used.
        StartError: there is no cluster, or its broker cannot be reached.
    """
    parser = _Parser(prog="mailrace cluster", description="Which instances of the cluster answer.")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    wanted = parser.parse_args(arguments)
    if settings.cluster_broker is None:
        raise StartError("cluster: this instance is alone: cluster-address and rabbitmq-address are empty")
    found = asyncio.run(_found(settings))
    if wanted.format == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        Console(soft_wrap=True, width=WIDE).print(_table(found) if found else "no instance has answered")
    return 0 if found else 1


async def _found(settings: Settings) -> list[Announcement]:
    roster = Roster("", "", time.monotonic, lambda kind, text: None)

    def heard(body: bytes) -> None:
        try:
            word = read(body)
        except NotUnderstood:
            return
        exchange.came_back()
        if word.announce is not None:
            roster.announced(word.announce)

    exchange = ClusterExchange(settings, f"mailrace cluster {settings.server_id}", heard, lambda: exchange.say(HELLO))
    exchange.start()
    try:
        await _joined(exchange)
        await asyncio.sleep(settings.cluster_timeout)
        if not roster.live() and exchange.trouble is not None:
            raise StartError(f"cluster: {exchange.trouble}")
    finally:
        await exchange.close()
    return [one.said for one in roster.live()]


async def _joined(exchange: ClusterExchange) -> None:
    end = time.monotonic() + CONNECTING
    while not exchange.is_joined:
        if (exchange.trouble and exchange.tried >= exchange.addresses) or time.monotonic() > end:
            raise StartError(f"cluster: {exchange.trouble or 'the broker does not answer'}")
        await asyncio.sleep(LOOK)


def _table(found: Sequence[Announcement]) -> Table:
    table = Table("instance", "state", "console", box=None, pad_edge=False)
    for heading in ("workers", "load", "delivered/min", "in memory"):
        table.add_column(heading, justify="right")
    for heading in ("outbox", "MTA IPs", "version"):
        table.add_column(heading)
    for one in found:
        figures = (one.figures.get("delivered", 0), one.figures.get("in_memory", 0))
        shown = ", ".join(one.ips[:5]) + (f" and {len(one.ips) - 5}" if len(one.ips) > 5 else "")
        cells = [one.id, one.state, one.url, str(one.workers), f"{one.load:.2f}", *map("{:,}".format, figures)]
        table.add_row(*(Text(cell) for cell in [*cells, one.outbox, shown, one.version]))  # as text, not as markup
    return table
