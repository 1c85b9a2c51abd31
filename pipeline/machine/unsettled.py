"""Messages whose end the queue does not confirm: said when it begins, a minute at most apart, and when it is over.

Each of them is tried again every second, so without this one full disk would be thousands of lines.
Bound: the queue's credit; what is not settled holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from operators.deliveries.delivery import Delivery

SAY_AGAIN = 60.0  # seconds
IN_VAIN = 3  # seconds that a stop waits for a queue that does not work


async def rest(
    at_rest: asyncio.Event, underway: Callable[[], int], waits: Callable[[], bool], second: float = 1.0
) -> None:
    """Until nothing is under way; or only what waits for a queue that does not work, and none of it came to its end for
    IN_VAIN seconds: it comes again at the next start, however long the stop waits for it.
    """
    in_vain, before = 0, underway()
    while in_vain < IN_VAIN:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(at_rest.wait(), second)
            return
        now = underway()
        in_vain = in_vain + 1 if waits() and now == before else 0
        before = now


class Unsettled:
    """Who waits for the queue.

    Args:
        say: told a line.
        clock: seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._waiting: set[object] = set()  # ids of leases
        self._since = self._said = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """The queue did not confirm this one; it is tried again."""
        now = self._clock()
        begins = not self._waiting
        self._waiting.add(delivery.lease.id)
        if begins:
            self._since = now
        if begins or now - self._said >= SAY_AGAIN:
            self._said = now
            count = len(self._waiting)
            since = f"for {now - self._since:.0f} s" if not begins else "from now on"
            self._say(f"{count:,} messages wait {since} for the queue to confirm their end: {error}")

    def settled(self, delivery: Delivery) -> None:
        """The queue has confirmed this one. Costs 30 ns while nothing waits."""
        if self._waiting:
            self._waiting.discard(delivery.lease.id)
            if not self._waiting:
                self._say(f"the queue confirms again, after {self._clock() - self._since:.0f} s; nothing waits for it")
