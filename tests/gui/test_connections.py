"""The console's connections, by themselves; `tests/system/test_console_attacked.py` attacks them in a program."""

from __future__ import annotations

import asyncio
from typing import Any

from gui.access.connections import EACH, SAID, STANDS, Connections
from pipeline.process.supervisor import supervisor


class Peer(asyncio.Transport):
    """A stranger who only connects."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_want_of_room_is_a_fault_and_stands_in_the_views() -> None:
    """K11, K13: with how many had to go; a browser's few connections are none, and it ends by itself."""
    clock = Clock()
    connections = Connections(clock=clock)
    connections.start()
    for _ in range(EACH + 5):
        connections.enter(Peer())
    clock.now += SAID
    connections.sweep()
    assert connections.trouble is None
    for _ in range(EACH + 100):
        connections.enter(Peer())
    clock.now += SAID
    connections.sweep()
    assert [fault for fault in supervisor().faults if "too many connections" in fault]
    clock.now += STANDS
    assert connections.trouble is None
    connections.stop()
