"""Access: who may use the console and the API. The password, the sessions, and the tries that failed.

Owner of: the files `console-password` (an argon2 hash) and `console-secret` in `data-dir`, both mode 600; the sessions
that were logged out; the clients whose tries failed. A session is a signed cookie, so it outlives a restart; its key
depends on the password, so a changed password ends all sessions.
Bounds: REMEMBER logged out sessions and REMEMBER clients, the oldest is forgotten; two passwords are checked at a time,
in threads, since argon2 takes 40 ms of a core by design.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import hmac
import ipaddress
import math
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import argon2
import msgspec
from itsdangerous import BadSignature, URLSafeTimedSerializer

from settings import Settings, StartError

REMEMBER = 10_000
LIFETIME = 7 * 86_400  # seconds a session is valid
FREE_TRIES = 3  # failed ones before the next must wait
MOST_TRIES = 10  # failed ones before the client is blocked
BLOCKED = 900.0  # seconds a client is blocked, and a failed try is remembered
COOKIE = "mailrace_session"


class TooManyTries(Exception):
    """This client must wait, whatever it knows.

    Args:
        wait: seconds.
    """

    def __init__(self, wait: float) -> None:
        super().__init__(f"Too many failed tries. Try again in {minutes(wait)}.")
        self.headers = {"Retry-After": str(int(wait) + 1)}


class Tries:
    """Failed tries by client, of the password and of tokens together.

    After FREE_TRIES each next one must wait 1, 2, 4... s, after MOST_TRIES BLOCKED s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: collections.OrderedDict[str, tuple[int, float]] = collections.OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds until this client may try again; 0 is now."""
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
        """This client knows the password."""
        self._failed.pop(network(client), None)

    def holder(self, client: str, authorization: str, known: Callable[[str], str | None]) -> str | None:
        """Whose token stands in this header, or None; a wrong one is a failed try.

        A right one does not forgive those of others: a proxy has one address for all who come through it.

        Args:
            client: its address.
            authorization: the header; empty where there is none.
            known: whose token it is, or None.

        Raises:
            TooManyTries: the client must wait first.
        """
        if not authorization:
            return None
        if wait := self.wait(client):
            raise TooManyTries(wait)
        holder = known(authorization)
        if holder is None:
            self.failed(client)
        return holder

    @staticmethod
    def _penalty(count: int) -> float:
        if count >= MOST_TRIES:
            return BLOCKED
        return 2.0 ** (count - FREE_TRIES) if count >= FREE_TRIES else 0.0


class Access:
    """The password and the sessions.

    Args:
        password: plain, or an argon2 hash in PHC form.
        secret: the key that sessions are signed with.
        file: where the password's hash is kept; None where the configuration gives the password.
    """

    def __init__(self, password: str, secret: bytes, tries: Tries | None = None, file: Path | None = None) -> None:
        self.tries = tries or Tries()
        self._secret = secret
        self._file = file
        self._set(password)
        self._ended: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._checking = asyncio.Semaphore(2)

    def _set(self, password: str) -> None:
        self._password = password
        key = hmac.digest(self._secret, password.encode(), hashlib.sha256)
        self._serializer = URLSafeTimedSerializer(key, salt="session")

    @property
    def changeable(self) -> bool:
        """Whether the password can be changed here: not where it stands in the configuration."""
        return self._file is not None

    async def change(self, password: str) -> None:
        """From now on this is the password; all sessions end.

        Raises:
            OSError: it cannot be kept; nothing has changed.
        """
        if self._file is None:
            raise ValueError("the password stands in the configuration (www-password); change it there")
        async with self._checking:
            made = await asyncio.to_thread(argon2.PasswordHasher().hash, password)
            await asyncio.to_thread(_keep, self._file, made)
        self._set(made)

    async def check(self, password: str) -> bool:
        """Whether this is the password."""
        async with self._checking:
            return await asyncio.to_thread(self._matches, password)

    def _matches(self, password: str) -> bool:
        if not self._password.startswith("$argon2"):
            return hmac.compare_digest(password.encode(), self._password.encode())
        try:
            return argon2.PasswordHasher().verify(self._password, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    def begin(self) -> str:
        """A new session: the cookie's value."""
        return str(self._serializer.dumps(secrets.token_urlsafe(16)))

    def valid(self, cookie: str | None) -> bool:
        """Whether this cookie is a session that lasts."""
        if not cookie or cookie in self._ended:
            return False
        try:
            self._serializer.loads(cookie, max_age=LIFETIME)
        except BadSignature:
            return False
        return True

    def end(self, cookie: str) -> None:
        """Log out: the cookie is no session any more."""
        if self.valid(cookie):
            self._ended[cookie] = None
            if len(self._ended) > REMEMBER:
                self._ended.popitem(last=False)


class Opened(msgspec.Struct, frozen=True):
    """The access that the configuration gives, and the password where it was made up just now."""

    access: Access
    generated: str | None


def open_access(settings: Settings) -> Opened:
    """The access that the configuration gives; makes up a password at first start where it gives none.

    Raises:
        StartError: a file in `data-dir` cannot be read or written.
    """
    folder = Path(settings.data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        secret = _kept(folder / "console-secret", lambda: secrets.token_hex(32))
        if settings.www_password and (given := settings.www_password.get_secret_value()):
            return Opened(Access(given, secret.encode()), None)
        generated = "-".join(secrets.token_hex(2) for _ in range(4))
        made = argon2.PasswordHasher().hash(generated)
        kept = _kept(folder / "console-password", lambda: made)
    except OSError as error:
        raise StartError(
            f"data-dir {folder}: {error.strerror}: {error.filename}; the console keeps its keys there"
        ) from None
    file = folder / "console-password"
    return Opened(Access(kept, secret.encode(), file=file), generated if kept == made else None)


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


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The content of a file that only we may read; made where it is missing or empty."""
    try:
        if path.exists() and (text := path.read_text().strip()):
            return text
    except UnicodeDecodeError:
        raise StartError(f"{path}: is no text, so not what Mailrace wrote; remove it, and it is made anew") from None
    made = make()
    _keep(path, made)
    return made


def _keep(path: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
