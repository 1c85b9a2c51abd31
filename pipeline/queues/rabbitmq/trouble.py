"""What goes wrong with single queues on RabbitMQ: counted, said when it begins and once a minute, a fault meanwhile.

Bound: MOST queues are told apart; what is more is counted as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MOST = 50
SAY_AGAIN = 60.0  # seconds; and how long it is a fault after the last time


class _Case:
    """One kind of trouble with one queue."""

    def __init__(self) -> None:
        self.count, self.said_at, self.last, self.text = 0, -SAY_AGAIN, 0.0, ""


class Trouble:
    """All of it.

    Args:
        report: told (kind, text).
        clock: seconds.
    """

    def __init__(self, report: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._clock = report, clock
        self._cases: dict[tuple[str, str], _Case] = {}

    def note(self, queue: str, what: str, why: str) -> None:
        """Once more. `what`: of "3 ..." the rest, in the present tense."""
        now = self._clock()
        key = (queue, what)
        if key not in self._cases and len(self._cases) >= MOST:
            key = ("others", what)
        case = self._cases.setdefault(key, _Case())
        case.count += 1
        case.last, case.text = now, f"{case.count:,} {what}: {why}"
        if now - case.said_at >= SAY_AGAIN:
            case.said_at = now
            self._report("queue-refused", case.text)

    def of(self, queue: str) -> str | None:
        """What went wrong with this queue within the last minute, and is not over."""
        now = self._clock()
        cases = (case for (name, _), case in self._cases.items() if name == queue and now - case.last <= SAY_AGAIN)
        return next((case.text for case in cases), None)

    def over(self, queue: str) -> None:
        """This queue has taken a message again."""
        if self._cases:
            for key in [key for key in self._cases if key[0] == queue]:
                del self._cases[key]

    @property
    def faults(self) -> list[str]:
        """What went wrong within the last minute, a line each. Older cases are forgotten."""
        now = self._clock()
        for key in [key for key, case in self._cases.items() if now - case.last > SAY_AGAIN]:
            del self._cases[key]
        return [case.text for case in self._cases.values()]
