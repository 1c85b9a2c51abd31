"""What is wrong with a log now, and how it is said: at once, every SAY_AGAIN seconds with the count, and when it is
over.

Owns the count of the lines that are lost. Bound: one text and one number.
"""

from __future__ import annotations

from collections.abc import Callable

from operators.deliveries.events import Event, Fault, Notice

Report = Callable[[Event], None]

SAY_AGAIN = 60.0  # seconds


class LogFault:
    """The trouble of one log, or of the way to all of them.

    Args:
        name: the configuration key, for `Fault.where`.
        subject: the file, for the text.
        report: takes events.
        clock: epoch seconds.

    Attributes:
        now: what is wrong, or None.
    """

    def __init__(self, name: str, subject: str, report: Report, clock: Callable[[], float]) -> None:
        self._name, self._subject, self._report, self._clock = name, subject, report, clock
        self.now: str | None = None
        self._lost = 0  # lines, since it began
        self._say_at = 0.0

    def lost(self, lines: int, why: str) -> None:
        """So many lines more are lost; with 0 something is wrong that may cost lines."""
        self._lost += lines
        if self.now is None:
            self._say_at = 0.0
        self.now = why
        self.complain(f"{why}; {self._lost:,} lines are lost so far, mail goes on")

    def complain(self, what: str) -> None:
        """Something went wrong that costs no line."""
        now = self._clock()
        if now >= self._say_at:
            self._say_at = now + SAY_AGAIN
            self._report(Fault(time=now, where=self._name, detail=f"{self._subject}: {what}"))

    def over(self, lines: int = 0) -> None:
        """All is well, again or still; so many lines more were lost until then."""
        if self.now is None:
            return
        self._lost += lines
        text = f"{self._subject} is written again; {self._lost:,} lines were lost"
        self._report(Notice(time=self._clock(), kind="log", text=text, fields={"lost": self._lost}))
        self.now, self._lost = None, 0
