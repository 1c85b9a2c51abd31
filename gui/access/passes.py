"""Passes: who is logged in at one instance of a cluster is let in at another that has the same password.

A pass is a signed text for one instance and one address of it, good for SECONDS and once. The other's clock may be
behind ours: a pass from as far in the future is good, too. It names the user, who
has the same name and the same role there, or logs in. Its key is worked out of the
password (scrypt, so that a pass does not make guessing cheap); where that differs, the other asks for its own.
Bound: REMEMBER passes that were used.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import secrets
import time

from itsdangerous import BadData, URLSafeTimedSerializer

from gui.access.access import Access
from gui.access.users import CONSOLE

SECONDS = 30
LONGEST_PASS = 2048  # characters
REMEMBER = 1000
COST = {"n": 2**14, "r": 8, "p": 1}


class Passes:
    """Of one console.

    Args:
        access: whose password it is.
        instance: this instance's name.
    """

    def __init__(self, access: Access, instance: str) -> None:
        self._access, self._instance = access, instance
        self._made: tuple[str, URLSafeTimedSerializer] | None = None
        self._used: collections.deque[str] = collections.deque(maxlen=REMEMBER)

    async def make(self, instance: str, url: str, user: str = CONSOLE) -> str:
        """A pass for another instance, whose console is there."""
        signer = await self._signer()
        return str(signer.dumps([instance, url, secrets.token_urlsafe(9), user, self._access.users.role(user)]))

    async def admits(self, given: str, url: str) -> str | None:
        """The user whose pass for this console this is, which is used then; None: it lets nobody in."""
        if not given or len(given) > LONGEST_PASS or given in self._used:
            return None
        try:
            found, made = (await self._signer()).loads(given, return_timestamp=True)
        except BadData:
            return None
        if abs(time.time() - made.timestamp()) > SECONDS + 1:  # a second more: it is made with whole ones
            return None
        if not isinstance(found, list) or len(found) != 5 or found[:2] != [self._instance, url]:
            return None
        self._used.append(given)
        return found[3] if self._is_here(found[3], found[4]) else None

    def _is_here(self, user: str, role: str) -> bool:
        """Whether a user has a name here as well, and may do the same: nobody becomes more by going elsewhere."""
        users = self._access.users
        known = user == CONSOLE or users.get(user) is not None or users.external is not None
        return known and users.role(user) == role

    async def _signer(self) -> URLSafeTimedSerializer:
        password = self._access.password
        if self._made is None or self._made[0] != password:
            key = await asyncio.to_thread(hashlib.scrypt, password.encode(), salt=b"mailrace cluster", **COST)
            self._made = password, URLSafeTimedSerializer(key, salt="pass")
        return self._made[1]
