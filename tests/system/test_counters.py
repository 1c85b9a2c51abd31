"""The counter identity, while everything happens at once, and after a restart."""

from __future__ import annotations

import asyncio
import pathlib
import threading
import time

import pytest

from tests.support.api import TOKEN, Api
from tests.support.source import Source
from tests.support.strangers import HOSTS, scene

ENDS = ("delivered", "retried", "failed", "refused", "returned", "in_memory", "parked", "removed")


def holds(status: dict[str, dict[str, int]]) -> bool:
    """processed = delivered + retried + failed + refused + returned + in memory + parked + removed."""
    totals = status["totals"]
    return totals["processed"] == sum(totals[name] for name in ENDS)


@pytest.mark.system
def test_the_counters_add_up_at_every_look(tmp_path: pathlib.Path) -> None:
    """Healthy, hanging, refusing and crawling receivers, a pause, a redirect, a flood pattern, and a crash."""
    domains = tuple(HOSTS)
    with scene(tmp_path, api_token=TOKEN, rabbitmq_qos=100) as stage:
        api, program = Api(stage.program), stage.program
        api.create("redirects", from_ip="127.0.0.1", to_ip="127.0.0.2", domain="healthy.example")
        api.create("floods", name="all", type="wildcard", pattern="*", pause=1, reduced=1)
        source = Source(program.smtp_port, 1500, 10, domain=lambda number: domains[number % 4])
        sending = threading.Thread(target=lambda: asyncio.run(source.run()))
        sending.start()
        looks = []
        for step in range(40):
            looks.append(api.get("/status"))
            if step == 10:
                pause = api.create("pauses", domain="healthy.example")["id"]
            if step == 25:
                api.delete("pauses", pause)
            time.sleep(0.1)
        sending.join()
        assert all(holds(look) for look in looks)
        assert looks[-1]["totals"]["redirected"] > 0
        program.kill()
        program.start()
        looks = [Api(program).get("/status") for _ in range(5)]
        assert all(holds(look) for look in looks)
        assert looks[-1]["totals"]["processed"] > 0
