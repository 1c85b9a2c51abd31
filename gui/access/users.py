"""Users: who may look, operate or administer, each by a name of their own, which the audit has.

Three sources, asked in this order: the list kept here (made under Settings), `www-auth`, and a trusted proxy that names
the user in `www-user-header`. A name that is not in the list has the role that `www-role` says. The one password of the
console stays what it was: an administrator called `console`.

Owner of: the file `console-users` in `data-dir`, mode 600, with argon2 hashes. Bound: MOST users.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import argon2
import msgspec

from pipeline.views.credentials import AuthUnavailable, Credentials
from settings import StartError
from settings.store import ROLES, Role

FILE = "console-users"
MOST = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,59}")
SHORTEST = 8  # characters of a password
CONSOLE = "console"  # who has the one password


@functools.cache
def decoy() -> str:
    """A hash to compare with where there is no user of a name, so that this takes as long."""
    return argon2.PasswordHasher().hash("nobody has this")


class User(msgspec.Struct, frozen=True):
    """One user. `hash` is empty where somebody else checks the password: `www-auth`, or a proxy."""

    name: str
    role: Role
    hash: str = ""

    @property
    def mark(self) -> str:
        """Changes with the password, and ends its sessions."""
        return hashlib.sha256(self.hash.encode()).hexdigest()[:8] if self.hash else ""


class Users:
    """The users of this console.

    Args:
        path: the file; None: nothing is kept.
        external: `www-auth`.
        role: of names that are not in the list.

    Raises:
        StartError: the file cannot be read.
    """

    def __init__(
        self,
        path: Path | None = None,
        external: Credentials | None = None,
        role: Role = "administer",
        keep: Callable[[Path, str], None] | None = None,
    ) -> None:
        self._path, self.external, self._role, self._keep = path, external, role, keep
        try:
            found = msgspec.json.decode(path.read_bytes(), type=list[User]) if path and path.exists() else []
        except (OSError, msgspec.DecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no list of users"
            raise StartError(f"{path}: {reason}; the users of the console are kept there") from None
        self._users = {user.name: user for user in found}

    def all(self) -> list[User]:
        """The list, by name."""
        return [self._users[name] for name in sorted(self._users)]

    def get(self, name: str) -> User | None:
        """One of the list."""
        return self._users.get(name)

    def role(self, name: str) -> Role:
        """What a user may."""
        if name == CONSOLE:
            return "administer"
        if not NAME.fullmatch(name):  # of a provider: its session has the role
            return "read"
        user = self._users.get(name)
        return user.role if user else self._role

    def mark(self, name: str) -> str:
        """What a session of this user has to carry; a user of the list that is gone has none."""
        user = self._users.get(name)
        return user.mark if user else ""

    def put(self, name: str, role: str, password: str = "") -> User:
        """Add a user, or change one; without a password the one before stays.

        Raises:
            ValueError: `field: what is allowed`.
            OSError: it cannot be kept.
        """
        if not NAME.fullmatch(name) or name == CONSOLE:
            raise ValueError("name: allowed are letters, digits, and . _ @ + - after the first, 60 at most")
        if role not in ROLES:
            raise ValueError(f"role: allowed is one of {', '.join(ROLES)}")
        if password and len(password) < SHORTEST:
            raise ValueError(f"password: at least {SHORTEST} characters")
        before = self._users.get(name)
        if before is None and len(self._users) >= MOST:
            raise ValueError(f"name: there are {MOST} users already")
        made = argon2.PasswordHasher().hash(password) if password else before.hash if before else ""
        if not made and self.external is None and not self._named_by_proxy:
            raise ValueError("password: is needed: neither www-auth nor a proxy checks this user's")
        user = User(name, role, made)  # type: ignore[arg-type]
        self._store({**self._users, name: user})
        return user

    _named_by_proxy = False

    def named_by_proxy(self) -> None:
        """A proxy says who somebody is, so that users need no password of ours."""
        self._named_by_proxy = True

    def remove(self, name: str) -> bool:
        """From now on there is no such user; False where there was none. Raises OSError."""
        if name not in self._users:
            return False
        self._store({other: user for other, user in self._users.items() if other != name})
        return True

    def hash(self, name: str) -> str:
        """Of the password of a user of the list, where we keep one; else empty."""
        user = self._users.get(name)
        return user.hash if user else ""

    async def elsewhere(self, name: str, password: str, suspect: bool) -> bool:
        """What `www-auth` says; where it does not answer nobody is let in. Raises `AuthUnavailable`."""
        if self.external is None or not NAME.fullmatch(name) or name == CONSOLE:
            return False
        return await self.external.check(name, password, suspect=suspect)

    def _store(self, users: dict[str, User]) -> None:
        kept: Sequence[User] = list(users.values())
        if self._path is not None and self._keep is not None:
            self._keep(self._path, msgspec.json.encode(kept).decode())
        self._users = users


__all__ = ["CONSOLE", "AuthUnavailable", "User", "Users"]
