"""Pools for tests: rules, and what is in the way of their MTA IPs, as a test says."""

from __future__ import annotations

import random
from collections.abc import Callable

from operators.lanes.pools import Pools
from operators.lanes.slots import Wait
from settings.rules import Snapshot

NOW = 1_800_000_000.0


def pools_of(
    snapshot: Snapshot | None = None,
    outlook: Callable[[str], tuple[float, int]] = lambda lane: (0.0, 0),
    paused: Callable[[str], Wait | None] = lambda lane: None,
    ours: Callable[[str], bool] = lambda ip: True,
) -> Pools:
    """The pools of these rules; chance always falls alike."""
    chance = random.Random(7).random
    return Pools(lambda: snapshot or Snapshot(), lambda: NOW, ours, paused, outlook, chance)
