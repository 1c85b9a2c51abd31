"""Who may log in: the forms of `smtp-auth`.

A check never holds up the event loop: hashes are computed in threads, those of who may be guessing in one of their own.
Where the source itself fails (file gone, server down) nobody is let in, and the client is told to come back (454,
RFC 4954 6).
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx
from passlib.hash import sha512_crypt

from pipeline.process.children import ChildFailed, ask
from pipeline.process.hashing import HashingLane, HumbleLane
from pipeline.process.passwords import DamagedHash, matches

_AT_ONCE = 4  # programs, of each kind of client
_PATIENCE = 10.0  # seconds for a server or a program to answer
ALLOWED = "hardcoded://user:password,..., file:///path, users://name,name*, http://host/path or exec:///path"
SHADOW = Path("/etc/shadow")


class AuthUnavailable(Exception):
    """Passwords cannot be checked now; the text says why, for the log."""


class Credentials(Protocol):
    """Where users and passwords come from."""

    async def check(self, user: str, password: str, *, suspect: bool = False) -> bool:
        """Whether they belong together; raises `AuthUnavailable`.

        Args:
            suspect: wrong ones have come from there; it waits behind others of its kind, and for nobody else.
        """


def parse(auth: str, username: str = "", password: str = "") -> Credentials | None:
    """The credentials that the configuration names, or None where anybody may send.

    Raises:
        ValueError: one line that says what is wrong; it holds no password.
    """
    if username and not auth:
        return Hardcoded({username: password})
    if not auth:
        return None
    scheme, _, rest = auth.partition("://")
    if scheme == "hardcoded":
        return Hardcoded(dict(_pair(entry) for entry in rest.split(",")))
    if scheme in ("http", "https"):
        return Http(auth)
    if scheme == "exec" and rest.startswith("/"):
        return Program(Path(rest))
    if scheme == "file" and rest.startswith("/"):
        return PasswordFile(Path(rest))
    if scheme == "users" and rest.strip(", "):
        return PasswordFile(SHADOW, SystemUsers([name.strip() for name in rest.split(",") if name.strip()]))
    raise ValueError(f"smtp-auth: allowed is {ALLOWED}")


def _pair(entry: str) -> tuple[str, str]:
    user, colon, password = entry.partition(":")
    if not colon or not user or not password:
        raise ValueError("smtp-auth: hardcoded:// takes user:password, with commas between several")
    return user.strip(), password


class Hardcoded:
    """`hardcoded://user:password,user2:password2`: in the configuration itself."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = passwords

    async def check(self, user: str, password: str, *, suspect: bool = False) -> bool:
        """Compared in constant time."""
        known = self._passwords.get(user)
        return hmac.compare_digest((known or password).encode(), password.encode()) and known is not None


class PasswordFile:
    """`file:///path`: lines `user:hash`, of `openssl passwd -6` or argon2. Read again when it changes.

    Args:
        path: the file.
        read: the hash of each user in it.

    Raises:
        ValueError: the file cannot be read, or a line of it is no `user:hash`.
    """

    def __init__(self, path: Path, read: Callable[[Path], dict[str, str]] | None = None) -> None:
        self._path, self._read = path, read or _hashes
        self._changed = -1
        self._hashes: dict[str, str] = {}
        self._reading, self._lane, self._suspects = HashingLane(), HashingLane(), HumbleLane()
        self._key = secrets.token_bytes(32)
        self._proven: dict[str, bytes] = {}  # of users in the file, whose password was right with the hash of now
        self._refresh()

    async def check(self, user: str, password: str, *, suspect: bool = False) -> bool:
        """An unknown user costs as much time as a known one; who was right before costs none."""
        try:
            await self._reading.run(self._refresh)
            known = self._hashes.get(user, "")
            proof = _proof(self._key, known, password)
            if known and self._proven.get(user) == proof:
                return True
            if not suspect:
                return await self._lane.run(self._proves, user, known, proof, password)
            right = await self._suspects.matches(known or self._decoy(), password) and bool(known)
        except DamagedHash as error:
            raise AuthUnavailable(f"smtp-auth: {self._path}: {error}") from None
        except ValueError as error:
            raise AuthUnavailable(str(error)) from None
        if right:
            self._proven[user] = proof
        return right

    def _proves(self, user: str, known: str, proof: bytes, password: str) -> bool:
        if known and self._proven.get(user) == proof:  # by one that was in line before
            return True
        right = matches(known or self._decoy(), password) and bool(known)
        if right:
            self._proven[user] = proof
        return right

    def _decoy(self) -> str:
        return next(iter(self._hashes.values()), "")

    def _refresh(self) -> None:
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._hashes = self._read(self._path)
                self._changed = changed
                self._proven.clear()
        except OSError as error:
            raise ValueError(f"smtp-auth: {self._path}: {error.strerror}") from None


def _proof(key: bytes, known: str, password: str) -> bytes:
    return hashlib.blake2b(f"{known}\0{password}".encode(), key=key, digest_size=32).digest()


def _hashes(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, known = line.strip().partition(":")
        if not user or not (known.startswith("$argon2") or sha512_crypt.identify(known)):
            raise ValueError(f"smtp-auth: {path} line {number}: allowed is user:hash, of openssl passwd -6 or argon2")
        found[user] = known
    return found


class SystemUsers:
    """`users://joe,client*`: users of this machine, as shadow(5) has them; not those that are locked, or expired."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, path: Path) -> dict[str, str]:
        """The hashes of those that may log in."""
        today = time.time() / 86_400
        lines = [line.split(":") for line in _read(path).splitlines()]
        return {
            line[0]: line[1]
            for line in lines
            if len(line) > 7
            and line[1].startswith("$")
            and not (line[7].isdecimal() and int(line[7]) <= today)
            and any(fnmatch.fnmatchcase(line[0], name) for name in self._names)
        }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"smtp-auth: {path}: is not UTF-8") from None


class Http:
    """`http://host/path`: asked with Basic authentication (RFC 7617); 2xx lets in, 401 and 403 do not.

    Anything else is no answer to the question, a fault of the server or of the address. Its body is not read, and no
    proxy of the environment gets the password.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._shown = re.sub(r"//[^/]*@", "//", url)

    async def check(self, user: str, password: str, *, suspect: bool = False) -> bool:
        """Redirects are not followed: the password stays with the server that is configured."""
        try:
            async with (
                asyncio.timeout(_PATIENCE),
                httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client,
                client.stream("GET", self._url, auth=httpx.BasicAuth(user, password)) as answer,
            ):
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as error:
            raise AuthUnavailable(f"smtp-auth: {self._shown}: {type(error).__name__}") from None
        if not 200 <= status < 300 and status not in (401, 403):
            raise AuthUnavailable(f"smtp-auth: {self._shown}: answered {status}")
        return status < 300


# What a program says that could not find out: EX_TEMPFAIL, qmail's checkpassword, and what a shell says (sysexits.h).
_FAILED = {75, 111, *range(126, 256)}


class Program:
    """`exec:///path`: gets user and password as two lines on standard input; exit status 0 lets in.

    Ended by a signal, or with the status of a temporary fault, it has not answered. It is started in `/`, in a process
    group of its own, and of our environment it sees the locale, the time zone and PATH: the rest may hold our secrets.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots, self._suspects = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)

    async def check(self, user: str, password: str, *, suspect: bool = False) -> bool:
        """A program that takes longer than ten seconds is killed."""
        async with self._suspects if suspect else self._slots:
            try:
                status = await ask(self._path, f"{user}\n{password}\n".encode(), _PATIENCE)
            except ChildFailed as error:
                raise AuthUnavailable(f"smtp-auth: {self._path}: {error}") from None
            except TimeoutError:
                raise AuthUnavailable(f"smtp-auth: {self._path}: no answer in {_PATIENCE:g} s") from None
        if status < 0 or status in _FAILED:
            raise AuthUnavailable(f"smtp-auth: {self._path}: ended with {status}")
        return status == 0
