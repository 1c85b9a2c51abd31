"""Rates and connection limits as the receiver sees them, on real time.

`python -m tests.system.test_rate` runs 60 a minute for 130 s, then 600.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import pathlib
import tempfile
import time

import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.source import Source
from tests.support.waiting import until


def most_in(window: float, moments: list[float]) -> int:
    """The most of them in any window of so many seconds."""
    return max(bisect.bisect_left(moments, begin + window) - index for index, begin in enumerate(moments))


@pytest.mark.system
def test_the_receiver_sees_the_limits_and_their_change(tmp_path: pathlib.Path) -> None:
    """600 a minute are at most ten in any second, over at most two connections; without the rule all comes at once."""
    with Mailbox() as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN}
        with Program(tmp_path, **options) as program:
            api = Api(program)
            rule = api.create("throttles", domain="a.example", domain_messages=600, domain_connections=2)
            asyncio.run(Source(program.smtp_port, 200).run())
            until(lambda: mailbox.total >= 45)  # of ten a second
            seen = list(mailbox.moments)
            assert most_in(1.0, seen) <= 11  # the network may bring one late
            assert mailbox.most_open <= 2
            api.delete("throttles", rule["id"])
            until(lambda: mailbox.total >= 200, patience=20)
            assert mailbox.total == 200


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, Mailbox() as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN}
        with Program(pathlib.Path(name), **options) as program:
            api = Api(program)
            slow = api.create("throttles", domain="a.example", domain_messages=60)
            asyncio.run(Source(program.smtp_port, 400).run())
            time.sleep(130)
            seen = list(mailbox.moments)
            gaps = sorted(later - earlier for earlier, later in itertools.pairwise(seen))
            most, least, longest = most_in(60, seen), gaps[0], gaps[-1]
            print(f"60 a minute: {len(seen)} in 130 s, most in 60 s {most}, gaps {least:.3f} to {longest:.3f} s")
            api.create("throttles", ip="127.0.0.1", domain="a.example", domain_messages=600)
            before, begin = mailbox.total, time.monotonic()
            time.sleep(10)
            later = [moment for moment in mailbox.moments[before:] if moment > begin]
            print(f"600 a minute: the next after {later[0] - begin:.3f} s, {len(later)} in 10 s")
