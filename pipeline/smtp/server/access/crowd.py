"""The open sessions: how many at once, and which one is closed where one more connects.

Bounds: `most` sessions together, `each` of one client (IPv6: of a /64). Where a bound is reached, the newcomer takes
the place of one that does nothing: first one that has not greeted, then one that has been idle for long. A session
with a transaction never goes. So connections that are only held open keep nobody out.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from typing import Protocol

from pipeline.smtp.server.refusal import Refusal

IDLE = 10.0  # seconds after which an idle session gives up its place to another one
KEPT = 60.0  # the same, for one that is logged in
STANDS = 60.0  # seconds for which a bound that was reached is a fault


class Member(Protocol):
    """What the crowd knows of a session."""

    @property
    def ip(self) -> str:
        """The client's address."""

    @property
    def idle(self) -> bool:
        """Between two transactions."""

    @property
    def greeted(self) -> bool:
        """It has said EHLO or HELO."""

    def idle_for(self) -> float:
        """Seconds without a command; 0 within a transaction."""

    @property
    def patience(self) -> float:
        """Seconds that it may be idle where others wait."""

    def leave(self, line: str) -> None:
        """Say `line` and close."""


class Crowd:
    """The sessions, in the order in which they came."""

    def __init__(self, most: int, each: int) -> None:
        self.most, self.each = most, each
        self.sessions: dict[Member, str] = {}  # with the client that each counts for
        self._clients: Counter[str] = Counter()
        self._crowded, self._crowded_at = 0, float("-inf")  # how often a bound was reached, and when last

    @property
    def trouble(self) -> str | None:
        """What to say while a bound is reached; None where it is not."""
        if time.monotonic() - self._crowded_at >= STANDS:
            return None
        bounds = f"{self.most:,} in all, {self.each:,} of one address"
        return f"too many connections ({bounds}): {self._crowded:,} times one was closed or refused"

    def __len__(self) -> int:
        return len(self.sessions)

    def enter(self, session: Member) -> None:
        """A session has begun. It is counted before it is let in."""
        client = client_of(session.ip)
        self.sessions[session] = client
        self._clients[client] += 1

    def leave(self, session: Member) -> None:
        """A session has ended. May be told twice."""
        client = self.sessions.pop(session, None)
        if client is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def admit(self, session: Member) -> None:
        """Let it in, in place of another one where that is needed; raises `Refusal` where there is no place."""
        client = self.sessions.get(session, "")
        if len(self.sessions) > self.most:
            self._replace(session, None, "421 4.7.0 Too many connections, try again later")
        if self._clients[client] > self.each:
            self._replace(session, client, "421 4.7.0 Too many connections from your address, try again later")

    def _replace(self, newcomer: Member, client: str | None, refusal: str) -> None:
        self._crowded += 1
        self._crowded_at = time.monotonic()
        others = [one for one, its in self.sessions.items() if one is not newcomer and client in (None, its)]
        gone = next((one for one in others if not one.greeted), None)
        if gone is None:
            gone = max(others, key=lambda one: one.idle_for() - one.patience, default=None)
            if gone is None or gone.idle_for() < gone.patience:
                raise Refusal(refusal, close=True)
        self.leave(gone)
        gone.leave("421 4.4.2 Nothing came, and others wait")


def client_of(ip: str) -> str:
    """The client that an address counts for."""
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ":" in ip else ip
