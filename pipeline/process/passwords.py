"""Passwords and their hashes: argon2, SHA-512 of crypt(3), and what else libcrypt knows, such as yescrypt, which Debian
gives its users. Used in threads, and in the `hasher`."""

from __future__ import annotations

import ctypes
import functools
import hmac

import argon2

ROOM = 262_144  # octets of crypt_data, which differs between libraries; the largest is half of it

_argon2 = argon2.PasswordHasher()


class DamagedHash(ValueError):
    """No password can be checked by it, or there is no memory for it; the text is the error's name."""


def matches(kept: str, password: str) -> bool:
    """Whether this is the password; takes tens of milliseconds. Raises `DamagedHash`."""
    if not kept:
        return False
    try:
        if kept.startswith("$6$"):
            from passlib.hash import sha512_crypt  # takes long, and most have argon2

            return bool(sha512_crypt.verify(password, kept))
        return _argon2.verify(kept, password) if kept.startswith("$argon2") else _crypt(kept, password)
    except (argon2.exceptions.VerifyMismatchError, UnicodeEncodeError):
        return False
    except (argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHashError, ValueError) as error:
        raise DamagedHash(type(error).__name__) from None


def _crypt(kept: str, password: str) -> bool:
    """By crypt(3), which holds no state of its own here."""
    if "\0" in password:
        return False
    try:
        crypt = _library().crypt_r
    except (OSError, AttributeError):
        raise DamagedHash("there is no libcrypt for this kind of hash") from None
    crypt.restype = ctypes.c_char_p
    room = ctypes.create_string_buffer(ROOM)
    made = crypt(password.encode(), kept.encode(), room)
    if not made or made.startswith(b"*"):
        raise DamagedHash("crypt")
    return hmac.compare_digest(made, kept.encode())


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL("libcrypt.so.1")


def answer(kept: str, password: str) -> str:
    """The same as a word: 1, 0, or the name of the error."""
    try:
        return str(int(matches(kept, password)))
    except DamagedHash as error:
        return str(error)
