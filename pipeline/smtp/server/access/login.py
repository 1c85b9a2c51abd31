"""AUTH: user and password from the exchange (RFC 4954, PLAIN of RFC 4616, and LOGIN), and whether they are right."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable

from pipeline.smtp.server.access.auth import AuthUnavailable
from pipeline.smtp.server.access.guard import TooManyLogins
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.shared import Shared

Ask = Callable[[str], Awaitable[bytes]]  # a challenge, base64 already; the client's line
LONGEST = 1000  # characters of both; hashing takes time, and libraries have bounds of their own
UNCHECKED = "454 4.7.0 Passwords cannot be checked now, try again later"


async def credentials(arg: str, ask: Ask) -> tuple[str, str]:
    """User and password; raises `Refusal`."""
    words = arg.split()
    if not 0 < len(words) <= 2 or words[0].upper() not in ("PLAIN", "LOGIN"):
        raise Refusal("504 5.5.4 AUTH takes PLAIN or LOGIN, and at most one word more")
    first = words[1].encode() if len(words) == 2 else None
    read = _plain if words[0].upper() == "PLAIN" else _login
    try:
        user, password = (octets.decode() for octets in await read(first, ask))
    except UnicodeDecodeError:
        raise Refusal("501 5.5.2 User and password are UTF-8") from None
    if not user or not (user + password).isprintable():
        raise Refusal("501 5.5.2 User and password are printable text")
    if len(user) + len(password) > LONGEST:
        raise Refusal(f"501 5.5.2 User and password have at most {LONGEST} characters")
    return user, password


async def _plain(first: bytes | None, ask: Ask) -> tuple[bytes, bytes]:
    parts = _decoded(first or await ask("")).split(b"\0")
    if len(parts) != 3:
        raise Refusal("501 5.5.2 AUTH PLAIN is base64 of NUL, user, NUL and password")
    return parts[1], parts[2]  # before them: whom to act as, which is nobody else here


async def _login(first: bytes | None, ask: Ask) -> tuple[bytes, bytes]:
    user = _decoded(first or await ask("VXNlcm5hbWU6"))
    return user, _decoded(await ask("UGFzc3dvcmQ6"))


def _decoded(line: bytes) -> bytes:
    line = line.strip()
    if line == b"*":  # RFC 4954 4
        raise Refusal("501 5.7.0 Auth aborted")
    try:
        return b"" if line == b"=" else b64decode(line, validate=True)
    except binascii.Error:
        raise Refusal("501 5.5.2 Can't decode base64") from None


async def check(shared: Shared, ip: str, user: str, password: str) -> None:
    """Whether they are right; raises `Refusal` where they are not, or where that cannot be found out."""
    guard, source = shared.guard, shared.credentials
    assert source is not None
    try:
        async with guard.attempt(ip, user, password) as attempt:
            attempt.right = await source.check(user, password, suspect=guard.suspects(ip))
    except TooManyLogins:
        raise Refusal("421 4.7.0 Too many failed logins, try again later", close=True) from None
    except AuthUnavailable as error:
        shared.trouble("smtp-auth", str(error))
        raise Refusal(UNCHECKED) from None
    except Exception as error:  # a fault of ours is no wrong password
        shared.fault("smtp-auth", error)
        raise Refusal(UNCHECKED) from None
    if not attempt.right:
        await guard.slow(ip, user)
        raise Refusal("535 5.7.8 User or password is wrong")
