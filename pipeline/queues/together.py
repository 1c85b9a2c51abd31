"""Together: operations wait a moment for others, so that they share a commit, which costs as much as five messages.

After PostgreSQL's commit_delay and commit_siblings; but how many are to be waited for is learned. No more can come
than were under way at once the last time; where fewer come in time, no more are waited for the next time. So sessions
in step wait for each other and no longer, and one alone never waits.

Owner of: operations that are not handed over yet. Bound: MOST.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

SIBLINGS = 3  # operations that come together where more are to be expected: one session's are two
MOST = 64  # operations that wait for no more

T = TypeVar("T")


class Together(Generic[T]):
    """Operations on their way to the writer.

    Args:
        loop: whose turns they share at least.
        patience: seconds that they wait for others at most.
        hand_over: takes those that share a commit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float, hand_over: Callable[[list[T]], None]) -> None:
        self._loop, self._patience, self._to = loop, patience, hand_over
        self._asked: list[T] = []
        self._under_way = self._expected = 0
        self._planned: asyncio.Handle | None = None
        self._waits = False  # for others, beyond this turn of the loop

    def add(self, operation: T) -> None:
        """One more."""
        self._asked.append(operation)
        self._under_way += 1
        self._expected = max(self._expected, self._under_way)
        if len(self._asked) == 1:
            self._plan()
        elif self._waits and len(self._asked) >= min(self._expected, MOST):
            self._soon()

    def done(self, count: int) -> None:
        """So many have been committed, or have failed."""
        self._under_way -= count

    def hand_over(self) -> None:
        """Wait for no more. All at once, since to wake the writer's thread costs 15 us."""
        if self._planned is not None:
            self._planned.cancel()
        self._waits = False
        asked, self._asked = self._asked, []
        if asked:
            self._to(asked)

    def _plan(self) -> None:
        if self._patience and self._expected >= SIBLINGS:
            self._waits = True
            self._planned = self._loop.call_later(self._patience, self._late)
        else:
            self._soon()

    def _soon(self) -> None:
        """At the end of this turn of the loop."""
        if self._planned is not None:
            self._planned.cancel()
        self._waits = False
        self._planned = self._loop.call_soon(self.hand_over)

    def _late(self) -> None:
        self._expected = len(self._asked)
        self.hand_over()
