"""Passwords and their hashes: argon2, and SHA-512 of crypt(3). Used in threads, and in the `hasher`."""

from __future__ import annotations

import argon2

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
        return _argon2.verify(kept, password)
    except (argon2.exceptions.VerifyMismatchError, UnicodeEncodeError):
        return False
    except (argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHashError, ValueError) as error:
        raise DamagedHash(type(error).__name__) from None


def answer(kept: str, password: str) -> str:
    """The same as a word: 1, 0, or the name of the error."""
    try:
        return str(int(matches(kept, password)))
    except DamagedHash as error:
        return str(error)
