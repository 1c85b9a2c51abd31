"""Intake while delivery is busy: mail taken a second, and how long a 250 takes at half of that rate.

    python -m tests.bench.busy [--slow 6000] [--messages 2000]

Idle is with nothing else queued; busy is while mail to so many slow receivers, 100 ms and TLS, is being delivered.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from tests.bench.real import INJECTORS, WORKS, Net, mailrace, receivers, send
from tests.bench.table import Row, markdown
from tests.support.program import MAILRACE

WORK = WORKS["6000-tls"]


def taken(port: int, messages: int, pace: float = 0.0) -> tuple[float, list[float]]:
    """(messages a second, seconds that each 250 took), to one receiver; `pace`: so many a second."""
    numbers = [[port, first, messages, INJECTORS, WORK.size, 1, pace / INJECTORS] for first in range(INJECTORS)]
    begin = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.injector", *map(str, one)], stdout=subprocess.PIPE, text=True
        )
        for one in numbers
    ]
    took = [float(line) for process in running for line in process.communicate()[0].split()]
    return messages / (time.perf_counter() - begin), sorted(took)


def rows(slow: int = 6000, messages: int = 2000) -> list[Row]:
    """For the table."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        with receivers(folder, WORK) as net, mailrace(folder, WORK, net, MAILRACE) as (port, _):
            assert isinstance(net, Net)
            taken(port, 200)
            idle, _ = taken(port, messages)
            while net.count() < 200 + messages:
                time.sleep(0.1)
            send(port, WORK, slow)
            before = net.count()
            busy, _ = taken(port, messages)
            left = slow + messages - (net.count() - before)
            _, took = taken(port, messages // 2, idle / 2)
    what = f"accepted while mail to {slow:,} slow receivers is delivered ({left:,} were left then)"
    p99 = took[len(took) * 99 // 100] * 1000
    return [
        Row(what, f"{busy:.0f}/s, idle {idle:.0f}/s", f"{busy / idle:.0%} (80 % wanted)"),
        Row("a 250 at half of the idle rate, meanwhile", f"p99 {p99:.0f} ms", "100 ms wanted"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--slow", type=int, default=6000)
    parser.add_argument("--messages", type=int, default=2000)
    asked = parser.parse_args()
    print(markdown(rows(asked.slow, asked.messages)))
