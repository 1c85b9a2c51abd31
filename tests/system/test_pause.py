"""A paused domain: parked, not in the way of others, still there after kill -9, and back in order.

`python -m tests.system.test_pause --messages 10000` is the full size.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import tempfile

import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.source import Source
from tests.support.waiting import until


def inject(program: Program, count: int, domain: str, first: int) -> None:
    """One session, so that the order is known."""
    source = Source(program.smtp_port, count, 1, 512, lambda number: domain, first)
    asyncio.run(source.run())
    assert len(source.confirmed) == count


def held(api: Api, pause: int) -> int:
    """What the pause holds, as the API says."""
    return int(api.get(f"/pauses/{pause}")["held"])


def scene(folder: pathlib.Path, messages: int) -> list[int]:
    """Pause, park, kill, restart, resume; the numbers in the order in which they arrived."""
    with Mailbox(keep=True) as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN, "domain_maxconnections": 1}
        with Program(folder, **options) as program:
            api = Api(program)
            pause = api.create("pauses", domain="paused.example")["id"]
            inject(program, messages, "paused.example", 0)
            until(lambda: held(api, pause) == messages)
            inject(program, 20, "free.example", 1_000_000)
            until(lambda: mailbox.total == 20)
            until(lambda: api.get("/status")["totals"]["in_memory"] == 0)
            program.kill()
            program.start()
            api = Api(program)
            until(lambda: held(api, pause) == messages)
            assert mailbox.total == 20
            api.delete("pauses", pause)
            until(lambda: mailbox.total == messages + 20, patience=120)
            assert program.stop() == 0
        return [
            int(line.partition(b" ")[2])
            for one in mailbox.messages[20:]
            for line in one.splitlines()
            if line[:9] == b"X-Number:"
        ]


@pytest.mark.system
def test_a_paused_domain_waits_on_disk_and_comes_back_in_order(tmp_path: pathlib.Path) -> None:
    """Its messages hold no credit, other domains go on, a crash changes nothing."""
    assert scene(tmp_path, 600) == list(range(600))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        numbers = scene(pathlib.Path(name), asked.messages)
    print(f"{len(numbers)} came back, in order: {numbers == sorted(numbers)}")
