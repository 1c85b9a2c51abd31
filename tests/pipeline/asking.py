"""Asking a resolver, and a clock for what it remembers."""

from __future__ import annotations

import asyncio

from operators.deliveries.delivery import Route
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.routes import Found
from pipeline.dns.resolver import Resolver


class Clock:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def find(resolver: Resolver, name: str, port: int | None = None) -> Found:
    future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
    resolver.lookup(name, future.set_result, port)
    return await future


async def targets(resolver: Resolver, name: str, port: int | None = None) -> list[tuple[str, str]]:
    found = await find(resolver, name, port)
    assert isinstance(found, Route), found
    return [(target.host, target.address) for target in found.targets]


async def outcome(resolver: Resolver, name: str, port: int | None = None) -> tuple[str, str, Next]:
    found = await find(resolver, name, port)
    assert isinstance(found, Outcome), found
    return found.state, found.result, found.next
