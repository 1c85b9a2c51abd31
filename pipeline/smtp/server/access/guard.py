"""The guard against guessing: wrong logins cost who gives them, right ones nothing.

Each client address has `most` tries in hand. A right login gives its try back, a wrong one does not; one comes back
every `refill` seconds. Who has none in hand waits in line; what is being checked counts, so that many at once gain
nothing. A wrong answer is told later the more there were, of this address or for this user. A login that was right
before never waits, whatever others of its address do. Nobody's right login makes up for somebody's wrong one.

Bounds: `size` addresses, users and right logins; of more the longest quiet one is forgotten. IPv6 clients count by
/64, which is what one customer has. Passwords are kept as keyed hashes, whose key is gone with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from pipeline.smtp.server.access.crowd import client_of

PATIENCE = 30.0  # seconds in line
SUSPECT = 600.0  # seconds in which an address is one that may be guessing


class TooManyLogins(Exception):
    """The client has waited too long for a try."""


class LoginTry:
    """A login that is being checked. `right`: what came of it; None where that could not be found out."""

    right: bool | None = None


class _Place:
    """What an address, or a user, has used up: `wrong` tries, less one for each `refill` seconds since `since`."""

    def __init__(self) -> None:
        self.wrong = 0.0
        self.since = 0.0
        self.failed = float("-inf")  # when the last one was wrong
        self.checking = 0
        self.line = asyncio.Lock()
        self.returned = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Somebody is being checked here, or waits for it."""
        return bool(self.checking or self.line.locked())

    def now(self, now: float, refill: float) -> float:
        """Wrong tries that still count."""
        self.wrong = max(0.0, self.wrong - (now - self.since) / refill)
        self.since = now
        return self.wrong


class Guard:
    """Wrong logins by client address and by user.

    Args:
        most: tries in hand of an address.
        refill: seconds until a used one is back.
        step: seconds that the first wrong answer is told later; twice as many each time, up to 16 times.
        size: addresses, users and right logins that are remembered.
        patience: seconds that a client waits in line.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        most: int = 10,
        refill: float = 6.0,
        step: float = 0.5,
        size: int = 10_000,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._refill, self._step, self._size = most, refill, step, size
        self._patience, self._clock = patience, clock
        self._addresses: OrderedDict[str, _Place] = OrderedDict()
        self._users: OrderedDict[str, _Place] = OrderedDict()
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._key = secrets.token_bytes(32)

    @contextlib.asynccontextmanager
    async def attempt(self, ip: str, user: str, password: str) -> AsyncIterator[LoginTry]:
        """Check a login inside, and note what came of it; raises `TooManyLogins`."""
        place, login = self._place(self._addresses, client_of(ip)), self._login(user, password)
        attempt = LoginTry()
        if login not in self._right:
            await self._turn(place)
        place.checking += 1
        try:
            yield attempt
        finally:
            place.checking -= 1
            place.returned.set()
            if attempt.right:
                self._remember(login)
            elif attempt.right is False:
                self._right.pop(login, None)
                self._count(place)
                self._count(self._place(self._users, user))
            self._forget(ip, place)

    async def slow(self, ip: str, user: str) -> None:
        """Wait as long as a wrong answer is held back."""
        await asyncio.sleep(self.delay(ip, user))

    def suspects(self, ip: str) -> bool:
        """Whether this address has given a wrong one a while ago at most."""
        place = self._addresses.get(client_of(ip))
        return place is not None and self._clock() - place.failed < SUSPECT

    def delay(self, ip: str, user: str) -> float:
        """Seconds that a wrong answer is held back, by the wrong tries of the address or for the user."""
        now = self._clock()
        places = self._addresses.get(client_of(ip)), self._users.get(user)
        wrong = max((place.now(now, self._refill) for place in places if place), default=0.0)
        return self._step * min(2.0 ** (wrong - 1), 16.0) if wrong else 0.0

    def __len__(self) -> int:
        return len(self._addresses)

    async def _turn(self, place: _Place) -> None:
        try:
            async with asyncio.timeout(self._patience), place.line:
                while (short := place.now(self._clock(), self._refill) + place.checking - self._most + 1) > 0:
                    place.returned.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(place.returned.wait(), short * self._refill)
        except TimeoutError:
            raise TooManyLogins from None

    def _forget(self, ip: str, place: _Place) -> None:
        """Nothing is kept of an address that has nothing to its account."""
        quiet = not place.busy and not place.now(self._clock(), self._refill) and not self.suspects(ip)
        if quiet and self._addresses.get(client_of(ip)) is place:
            del self._addresses[client_of(ip)]

    def _count(self, place: _Place) -> None:
        place.now(self._clock(), self._refill)
        place.wrong += 1
        place.failed = self._clock()

    def _place(self, places: OrderedDict[str, _Place], name: str) -> _Place:
        place = places.setdefault(name, _Place())
        places.move_to_end(name)
        if len(places) > self._size:
            oldest, quiet = places.popitem(last=False)
            if quiet.busy:  # it may not lose count of those who wait
                places[oldest] = quiet
        return place

    def _remember(self, login: bytes) -> None:
        self._right[login] = None
        self._right.move_to_end(login)
        if len(self._right) > self._size:
            self._right.popitem(last=False)

    def _login(self, user: str, password: str) -> bytes:
        return hashlib.blake2b(f"{user}\0{password}".encode(), key=self._key, digest_size=32).digest()
