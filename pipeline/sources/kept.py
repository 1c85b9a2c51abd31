"""kept: what was fetched, for the next message that wants it. Owns it. Bound: `most` octets, and for a time each."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable

from operators.mail.message import InvalidMessage

FAILED = 30.0  # seconds that a failure is kept: a server that is down is not asked for each message


class Unfetched(Exception):
    """It could not be fetched just now."""


class Kept:
    """Fetches by name, once for all who ask at the same moment, and keeps what came.

    Args:
        fetch: fetches one; raises `Unfetched`, or `InvalidMessage` where it will never be there.
        most: octets that are kept in all; what has more than a quarter is not kept.
        seconds: for how long each is kept.
        clock: monotonic seconds.
    """

    def __init__(
        self, fetch: Callable[[str], Awaitable[bytes]], most: int, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._fetch, self._most, self._seconds, self._clock = fetch, most, seconds, clock
        self._kept: collections.OrderedDict[str, tuple[float, bytes | Exception]] = collections.OrderedDict()
        self._size = 0
        self._underway: dict[str, asyncio.Future[bytes | Exception]] = {}

    async def __call__(self, name: str) -> bytes:
        """Raises what `fetch` raises."""
        found = self._remembered(name)
        if found is None and (other := self._underway.get(name)) is not None:
            found = await asyncio.shield(other)
        if found is None:
            found = await self._fetched(name)
        if isinstance(found, Exception):
            raise found
        return found

    def _remembered(self, name: str) -> bytes | Exception | None:
        until, found = self._kept.get(name, (0.0, None))
        return found if until > self._clock() else None

    async def _fetched(self, name: str) -> bytes | Exception:
        self._underway[name] = asked = asyncio.get_running_loop().create_future()
        found: bytes | Exception = Unfetched("was interrupted")
        try:
            found = await self._fetch(name)
        except (Unfetched, InvalidMessage) as error:
            found = error
        finally:
            del self._underway[name]
            asked.set_result(found)
        self._keep(name, found)
        return found

    def _keep(self, name: str, found: bytes | Exception) -> None:
        size = _size(name, found)
        self._forget(name)
        if size > self._most // 4:
            return
        seconds = self._seconds if isinstance(found, bytes) else min(FAILED, self._seconds)
        self._kept[name] = (self._clock() + seconds, found)
        self._size += size
        while self._size > self._most:
            self._forget(next(iter(self._kept)))

    def _forget(self, name: str) -> None:
        if (old := self._kept.pop(name, None)) is not None:
            self._size -= _size(name, old[1])


def _size(name: str, found: bytes | Exception) -> int:
    """Octets that keeping it takes."""
    return len(name) + (len(found) if isinstance(found, bytes) else 200)
