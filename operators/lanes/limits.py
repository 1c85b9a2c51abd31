"""Limits: what a lane may do (from `settings.rules.limits`), and the pacer that spreads a rate evenly."""

from __future__ import annotations

import math

from settings.rules.limits import Limits

__all__ = ["GRACE", "WINDOW", "Limits", "Pacer"]

WINDOW = 60.0  # seconds a rate is given for
GRACE = 0.05  # seconds a late permit may be late without losing its place on the grid


class Pacer:
    """Spreads `limit` permits evenly over a minute: in no window of 60 s are there more than `limit`.

    The permits lie on a grid of (60 + GRACE) / limit seconds. A permit taken up to GRACE late keeps the grid, so
    that timer jitter costs no rate; the GRACE in the interval pays for that, so the window never has one too many.
    A changed limit holds from the next permit.
    """

    __slots__ = ("_last", "_ready", "limit")

    def __init__(self, limit: float = 0) -> None:
        self.limit = limit
        self._last = -math.inf
        self._ready = -math.inf

    def ready(self, limit: float) -> float:
        """Monotonic seconds at which the next permit can be taken, under this limit; -inf is at once."""
        if limit != self.limit:
            self.limit = limit
            self._ready = self._last + self.interval
        return self._ready

    def want(self, limit: float) -> float:
        """As `ready`, of a lane that has mail: a pacer of several workers asks for permits then."""
        return self.ready(limit)

    def take(self, now: float) -> None:
        """Use a permit at `now`, which is not before `ready()`."""
        self._last = now
        self._ready = (self._ready if now - self._ready <= GRACE else now) + self.interval

    def give_back(self, at: float) -> bool:
        """The permit of `at` was not used: it can be taken later. False: another one was taken since."""
        if self._last != at:
            return False
        self._ready = at
        return True

    def let_go(self) -> None:
        """No connection is at hand: a pacer of several workers gives its permits to those that have one."""

    @property
    def interval(self) -> float:
        """Seconds between two permits."""
        return (WINDOW + GRACE) / self.limit if self.limit else 0.0
