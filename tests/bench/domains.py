"""100,000 destination domains through the lanes: resident memory before, at most, and when they are at rest again.

Before is after WARM domains, with which all that remembers a bounded number of them is full: what the console tells of
lanes and domains, and the answers of DNS.
"""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import time

from operators.lanes.lanes import REST
from tests.bench.table import Row, markdown
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.source import Source

MB = 2**20
WARM = 12_000


def rows(domains: int = 100_000, warm: int = WARM) -> list[Row]:
    """For the table: memory at rest after so many domains, against memory at rest before."""
    with tempfile.TemporaryDirectory() as name, Mailbox() as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "connection_maxidle": 1, "ip_maxconnections": 0}
        with Program(pathlib.Path(name), **options) as program:

            def flow(count: int, first: int) -> None:
                wanted = mailbox.total + count
                asyncio.run(Source(program.smtp_port, count, 20, 1024, lambda n: f"d{n}.example", first).run())
                while mailbox.total < wanted:
                    time.sleep(0.1)

            flow(warm, 0)
            time.sleep(REST + 5)
            before = program.resident()
            flow(domains, warm)
            most = program.resident()
            time.sleep(REST + 10)
            after = program.resident()
    what = f"resident memory at rest, after mail to {domains:,} domains"
    return [Row(what, f"{after / MB:.0f} MB; {most / MB:.0f} MB while it flowed", f"{after / before:.2f} of before")]


if __name__ == "__main__":
    print(markdown(rows()))
