"""Another process: publishes for ever, 20 at once, and prints the number of each message that is confirmed.

python publisher.py FILE
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from pipeline.queues.embedded.embedded import EmbeddedQueue


async def main(path: Path) -> None:
    queue = EmbeddedQueue(path)
    await queue.start()
    numbers = itertools.count()

    def publish_next() -> None:
        number = next(numbers)

        def confirmed(error: Exception | None) -> None:
            assert error is None
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            publish_next()

        queue.publish([("outbox", b"%d" % number), ("copies", b"%d" % number)], confirmed)

    for _ in range(20):
        publish_next()
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1])))
