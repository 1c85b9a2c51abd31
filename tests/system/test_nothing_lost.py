"""Nothing is lost: SIGKILL at random moments while mail flows.

`python -m tests.system.test_nothing_lost` is the full size.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import random
import tempfile
import time
from collections.abc import Sequence

import pytest

from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.source import Source


async def kill_now_and_then(program: Program, source: Source, mailbox: Mailbox, kills: int, seed: int) -> int:
    """Kill and restart the program `kills` times while the source sends; returns the connections open at the kills."""
    chance, open_then = random.Random(seed), 0
    sending = asyncio.create_task(source.run())
    for number in range(1, kills + 1):
        due = source.total * number // (kills + 1)
        while source.offered < due:  # noqa: ASYNC110  # the source counts, it does not tell
            await asyncio.sleep(0.005)
        await asyncio.sleep(chance.random() * 0.2)
        open_then += mailbox.open
        program.kill()
        await asyncio.to_thread(program.start)
    await sending
    return open_then


def survive(
    folder: pathlib.Path, messages: int, kills: int, seed: int, others: Sequence[int] = ()
) -> tuple[Source, Mailbox, int]:
    """Run it until all that was confirmed has arrived, or nothing more comes."""
    with Mailbox() as mailbox, Program(folder, delivery_sink=f"127.0.0.1:{mailbox.port}") as program:
        source = Source(program.smtp_port, messages, others=others)
        open_then = asyncio.run(kill_now_and_then(program, source, mailbox, kills, seed))
        wanted, end = {str(number) for number in source.confirmed}, time.monotonic() + 30
        while not wanted <= mailbox.accepted.keys() and time.monotonic() < end:
            time.sleep(0.1)
        assert program.stop() == 0
    return source, mailbox, open_then


@pytest.mark.system
@pytest.mark.parametrize("seed", [1, 2])
def test_every_mail_that_was_answered_250_arrives(tmp_path: pathlib.Path, seed: int) -> None:
    """Large or small, whatever the moment; and no more duplicates than connections were open at the kills."""
    source, mailbox, open_then = survive(tmp_path, messages=1000, kills=3, seed=seed, others=[4096] * 8 + [500_000])
    assert len(source.confirmed) > 800
    assert {str(number) for number in source.confirmed} <= mailbox.accepted.keys()
    assert mailbox.total - len(mailbox.accepted) <= open_then


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--large", type=int, default=0, help="octets of every other mail")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source, mailbox, open_then = survive(
            pathlib.Path(name), asked.messages, asked.kills, asked.seed, [asked.large] * bool(asked.large)
        )
    lost = {str(number) for number in source.confirmed} - mailbox.accepted.keys()
    print(
        f"offered {source.offered}, answered 250 {len(source.confirmed)}, lost {len(lost)}, "
        f"duplicates {mailbox.total - len(mailbox.accepted)} with {open_then} connections open at the kills"
    )
