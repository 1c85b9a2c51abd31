"""What a worker holds now, for the head's views: its lanes, its connections, its queue, its faults. No state."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import psutil

from pipeline.machine.machine import Machine

LANES = 2000
NAMES = 20
_process = psutil.Process()


def status(machine: Machine) -> dict[str, Any]:
    """As it goes over the link."""
    lanes = sorted(machine.lanes.all(), key=lambda lane: -lane.memory)[:LANES]
    slots, queue = machine.slots, machine.queue
    return {
        "lanes": [
            [
                lane.name, lane.ip, lane.group, list(lane.domains)[:NAMES], len(lane.waiting), lane.in_flight,
                lane.window, int(lane.pace), lane.waits_for, lane.waits_until, *slots.of(lane.name),
            ]
            for lane in lanes
        ],
        "slots": [slots.open, slots.idle, slots.attempting],
        "connections": dict(itertools.islice(slots.states().items(), LANES)),
        "queue": [queue.lent, queue.free],
        "parked": dict(queue.parked()),
        "waiting": machine.depth.waiting,
        "states": [state.text for state in machine.health.states()],
        "proxies": machine.egress.down,
        "dry": dict(machine.effects.dry),
        "load": _process.cpu_percent(),
        "memory": _process.memory_info().rss,
        "withdrawals": msgspec.to_builtins(machine.withdrawals),
        "sessions": machine.intake.connections,
    }  # fmt: skip
