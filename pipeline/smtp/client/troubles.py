"""What keeps mail from leaving and is no receiver's doing: this machine has run out of something, or a smarthost does
not take a login. Each is said when it begins, a minute at most apart, and stands among the faults until it is over.

Bound: REMEMBER logins; a login that nobody has tried for STALE seconds is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from operators.deliveries.delivery import Target
from operators.deliveries.events import Event, Fault
from operators.deliveries.outcome import Outcome
from operators.deliveries.replies import clean

SAY_AGAIN = 60.0  # seconds
STALE = 4 * 3600.0  # seconds
REMEMBER = 100

Key = tuple[str, int, str]  # of a login: address, port, user


class DeliveryTroubles:
    """The faults that stand now.

    Args:
        report: told of each, at most once a minute.
        clock: monotonic seconds.
    """

    def __init__(self, report: Callable[[Event], None], clock: Callable[[], float]) -> None:
        self._report, self._clock = report, clock
        self._short = ""  # of what this machine has too little
        self._put_off = 0  # deliveries since that began
        self._logins: dict[Key, tuple[str, float]] = {}  # what to say, and when it was so last
        self._said: dict[object, float] = {}
        self._log = structlog.get_logger("delivery")

    @property
    def lines(self) -> list[str]:
        """What is wrong now, a line each."""
        now = self._clock()
        short = [f"{self._put_off} deliveries were put off: {self._short}"] if self._short else []
        return [*short, *(text for text, last in self._logins.values() if now - last < STALE)]

    def short(self, why: str) -> None:
        """A delivery was put off, since this machine has no descriptor, port or memory for its connection."""
        self._short = why
        self._put_off += 1
        self._say(None, "connections", f"{why}; {self._put_off} deliveries were put off so far")

    def refused(self, target: Target, user: str, outcome: Outcome) -> None:
        """A smarthost did not take a login, or offered no TLS for it."""
        answer = f"{outcome.code or ''} {outcome.description}".strip()
        name = clean(user, 100)
        text = f"no login at the smarthost {target.host}:{target.port} as {name!r}, its mail waits: {answer}"
        key = (target.address, target.port, user)
        self._logins[key] = (text[:500], self._clock())
        while len(self._logins) > REMEMBER:
            del self._logins[next(iter(self._logins))]
        self._say(key, "smarthost", text[:500])

    def made(self, target: Target, login: tuple[str, str] | None) -> None:
        """A connection was made."""
        if self._short:
            self._short, self._put_off = "", 0
            self._said.pop(None, None)
        if login is not None:
            key = (target.address, target.port, login[0])
            self._logins.pop(key, None)
            self._said.pop(key, None)

    def _say(self, key: object, where: str, text: str) -> None:
        now = self._clock()
        if now - self._said.get(key, -SAY_AGAIN) < SAY_AGAIN:
            return
        if len(self._said) > REMEMBER:
            self._said.clear()
        self._said[key] = now
        self._log.warning(text, kind=where)
        self._report(Fault(time=time.time(), where=where, detail=text))
