"""Who may log in: the forms of `smtp-auth`.

A check never holds up the event loop: hashes are computed in threads, at most `_AT_ONCE` together. Where the source
itself fails (file gone, server down) nobody is let in, and the client is told to come back (454, RFC 4954 6).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import argon2
import httpx
from passlib.hash import sha512_crypt

_AT_ONCE = 4
_PATIENCE = 10.0  # seconds for a server or a program to answer
ALLOWED = "hardcoded://user:password,..., file:///path, http://host/path or exec:///path"


class Unavailable(Exception):
    """Passwords cannot be checked now; the text says why, for the log."""


class Credentials(Protocol):
    """Where users and passwords come from."""

    async def check(self, user: str, password: str) -> bool:
        """Whether they belong together; raises `Unavailable`."""


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

    async def check(self, user: str, password: str) -> bool:
        """Compared in constant time."""
        known = self._passwords.get(user)
        return hmac.compare_digest((known or password).encode(), password.encode()) and known is not None


class PasswordFile:
    """`file:///path`: lines `user:hash`, of `openssl passwd -6` or argon2. Read again when it changes.

    Raises:
        ValueError: the file cannot be read, or a line of it is no `user:hash`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = -1
        self._hashes: dict[str, str] = {}
        self._argon2 = argon2.PasswordHasher()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._refresh()

    async def check(self, user: str, password: str) -> bool:
        """An unknown user costs as much time as a known one."""
        async with self._slots:
            try:
                return await asyncio.to_thread(self._check, user, password)
            except ValueError as error:
                raise Unavailable(str(error)) from None

    def _check(self, user: str, password: str) -> bool:
        self._refresh()
        decoy = next(iter(self._hashes.values()), "")
        return self._matches(self._hashes.get(user, decoy), password) and user in self._hashes

    def _matches(self, known: str, password: str) -> bool:
        if known.startswith("$6$"):
            return bool(sha512_crypt.verify(password, known))
        try:
            return bool(known) and self._argon2.verify(known, password)
        except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
            return False

    def _refresh(self) -> None:
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._hashes = _hashes(self._path)
                self._changed = changed
        except OSError as error:
            raise ValueError(f"smtp-auth: {self._path}: {error.strerror}") from None


def _hashes(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, known = line.strip().partition(":")
        if not user or not (known.startswith("$argon2") or sha512_crypt.identify(known)):
            raise ValueError(f"smtp-auth: {path} line {number}: allowed is user:hash, of openssl passwd -6 or argon2")
        found[user] = known
    return found


class Http:
    """`http://host/path`: asked with Basic authentication (RFC 7617); 2xx lets in, 4xx does not."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def check(self, user: str, password: str) -> bool:
        """Redirects are not followed: the password stays with the server that is configured."""
        try:
            async with httpx.AsyncClient(timeout=_PATIENCE) as client:
                answer = await client.get(self._url, auth=httpx.BasicAuth(user, password))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"smtp-auth: {self._url}: {type(error).__name__}") from None
        if not answer.is_success and not answer.is_client_error:
            raise Unavailable(f"smtp-auth: {self._url}: answered {answer.status_code}")
        return answer.is_success


class Program:
    """`exec:///path`: gets user and password as two lines on standard input; exit status 0 lets in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def check(self, user: str, password: str) -> bool:
        """A program that takes longer than ten seconds is killed."""
        async with self._slots:
            quiet = asyncio.subprocess.DEVNULL
            try:
                process = await asyncio.create_subprocess_exec(
                    self._path, stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet
                )
            except OSError as error:
                raise Unavailable(f"smtp-auth: {self._path}: {error.strerror}") from None
            try:
                async with asyncio.timeout(_PATIENCE):
                    await process.communicate(f"{user}\n{password}\n".encode())
            except TimeoutError:
                raise Unavailable(f"smtp-auth: {self._path}: no answer in {_PATIENCE:g} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            return process.returncode == 0
