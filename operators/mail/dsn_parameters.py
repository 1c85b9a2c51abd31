"""The DSN parameters of SMTP (RFC 3461 4): how the values are written, read and bounded. Pure functions."""

from __future__ import annotations

import re

ENVID = 100  # characters of ENVID as it is written (RFC 3461 4.4)
ORCPT = 500  # characters of ORCPT (RFC 3461 4.2)
NOTIFY = "NEVER, or some of SUCCESS, FAILURE, DELAY"
RET = "FULL or HDRS"

_WORDS = {"SUCCESS", "FAILURE", "DELAY"}
# RFC 3461 4 has capitals only; senders write small ones, too, and mean the same. What we write has capitals.
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*").fullmatch

is_address_type = re.compile(r"[A-Za-z0-9-]{1,32}").fullmatch  # before the semicolon of ORCPT


def notify(value: str) -> str:
    """NOTIFY in upper case (RFC 3461 4.1). Raises `ValueError`, which says what is allowed."""
    words = [word.strip() for word in value.upper().split(",")]
    if words != ["NEVER"] and not (_WORDS.issuperset(words) and len(words) <= len(_WORDS)):
        raise ValueError(NOTIFY)
    return ",".join(words)


def ret(value: str) -> str:
    """RET in upper case (RFC 3461 4.3). Raises `ValueError`, which says what is allowed."""
    if value.upper() not in ("FULL", "HDRS"):
        raise ValueError(RET)
    return value.upper()


def envid(value: str) -> str:
    """ENVID as a user writes it, before it is xtext (RFC 3461 4.4). Raises `ValueError`, which says what is allowed."""
    if not re.fullmatch(f"[!-~]{{1,{ENVID}}}", value):
        raise ValueError(f"1 to {ENVID} printable ASCII characters")
    return value


def to_xtext(text: str) -> str:
    """Any text as xtext (RFC 3461 4)."""
    octets = text.encode("utf-8", "replace")
    return "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in octets)


def from_xtext(value: str, most: int) -> str:
    """What xtext says. Raises `ValueError`: it is none, is longer than `most`, or holds more than printable ASCII.

    `+0D+0A` would be an injection later on.
    """
    if not value or len(value) > most or not _XTEXT(value):
        raise ValueError(f"is xtext of at most {most} characters")
    plain = re.sub(r"\+([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), value)
    if not plain.isascii() or not plain.isprintable():
        raise ValueError("holds a character that is not printable ASCII")
    return plain
