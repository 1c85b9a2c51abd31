"""Tries that failed: a wrong credential costs whoever gives it, and never the one who has a right one.

A token is random, so a right one is let in at any time: it costs nothing to compare, and cannot be guessed. A password
can be guessed, so those of one client are bounded: ALLOWANCE wrong ones, and one more each REFILL seconds; until then
a right one is let in. The same wrong one again is no new guess, costs nothing, and is not even looked at: a script
with an old password keeps nobody out. A client is an address, or a browser that has been logged in before: nobody at
its address can keep it out. After FREE_TRIES wrong ones their answers come later.

Owner of: the clients whose tries failed, at most REMEMBER; the oldest is forgotten.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections.abc import Callable

import msgspec

REMEMBER = 10_000
FREE_TRIES = 3  # failed ones before the next must wait
MOST_TRIES = 10  # failed ones before the client is told to stay away
BLOCKED = 900.0  # seconds of that, and in which a failed try is remembered
ALLOWANCE = 60  # wrong passwords of one client
REFILL = 15.0  # seconds until it may give another
SAME = 16  # wrong ones of a client that are known again
LATER = 1.0  # seconds that the answer to a wrong one waits at most


class TooManyTries(Exception):
    """This client must wait.

    Args:
        wait: seconds.
    """

    def __init__(self, wait: float) -> None:
        super().__init__(f"Too many failed tries. Try again in {minutes(wait)}.")
        self.wait = wait
        self.headers = {"Retry-After": str(int(wait) + 1)}


class Tries:
    """Wrong tokens by client. After FREE_TRIES each is told to wait 1, 2, 4... s, after MOST_TRIES BLOCKED s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: collections.OrderedDict[str, tuple[int, float]] = collections.OrderedDict()

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._failed)

    def wait(self, client: str) -> float:
        """Seconds until this client should try again; 0 is now."""
        count, last = self._failed.get(network(client), (0, 0.0))
        return max(0.0, last + self._penalty(count) - self._clock()) if count else 0.0

    def failed(self, client: str) -> None:
        """A try of this client failed."""
        key, now = network(client), self._clock()
        count, last = self._failed.get(key, (0, now))
        self._failed[key] = (count + 1 if now - last < BLOCKED else 1, now)
        self._failed.move_to_end(key)
        if len(self._failed) > REMEMBER:
            self._failed.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """This client knows a right one."""
        self._failed.pop(network(client), None)

    @staticmethod
    def _penalty(count: int) -> float:
        if count >= MOST_TRIES:
            return BLOCKED
        return 2.0 ** (count - FREE_TRIES) if count >= FREE_TRIES else 0.0


class _Client(msgspec.Struct):
    """Wrong passwords of one client: how many are counted now, since when, and what they were."""

    spent: float
    time: float
    wrong: collections.deque[bytes]


class Guesses:
    """Wrong passwords by client."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(16)
        self._clients: collections.OrderedDict[str, _Client] = collections.OrderedDict()

    def known_wrong(self, client: str, password: str) -> bool:
        """Whether this client has given this wrong password before."""
        found = self._clients.get(client)
        return found is not None and self._digest(password) in found.wrong

    def has_failed(self, client: str) -> bool:
        """Whether a wrong one of this client is remembered."""
        return client in self._clients

    def wait(self, client: str) -> float:
        """Seconds until another password of this client is looked at; 0 is now."""
        return max(0.0, (self._spent(client) - ALLOWANCE + 1) * REFILL)

    def failed(self, client: str, password: str) -> float:
        """Count a wrong one; seconds that its answer should wait."""
        spent = self._spent(client) + 1
        found = self._clients.setdefault(client, _Client(0, 0, collections.deque(maxlen=SAME)))
        found.spent, found.time = spent, self._clock()
        found.wrong.append(self._digest(password))
        self._clients.move_to_end(client)
        if len(self._clients) > REMEMBER:
            self._clients.popitem(last=False)
        return min(LATER, 0.1 * 2 ** (spent - FREE_TRIES)) if spent > FREE_TRIES else 0.0

    def succeeded(self, client: str) -> None:
        """This client knows the password."""
        self._clients.pop(client, None)

    def forget(self) -> None:
        """What was wrong may be right now: the password has changed."""
        for client in self._clients.values():
            client.wrong.clear()

    def _spent(self, client: str) -> float:
        found = self._clients.get(client)
        return max(0.0, found.spent - (self._clock() - found.time) / REFILL) if found else 0.0

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(errors="replace"), hashlib.sha256)


def network(client: str) -> str:
    """The address that tries are counted for: IPv4 alone, IPv6 by its /64, which one client has whole."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def minutes(seconds: float) -> str:
    """A wait, as one says it."""
    return f"{math.ceil(seconds)} s" if seconds < 60 else f"{math.ceil(seconds / 60)} minutes"
