"""What a client calls itself in EHLO or HELO, as it can stand in Received. Pure functions.

A name tells nothing that could be relied upon (RFC 5321 4.1.4): none is refused, each is made clean.
"""

from __future__ import annotations

import contextlib
import re

from operators.mail.addresses import ascii_domain

LONGEST = 255  # characters (RFC 5321 4.5.3.1.2)
UNKNOWN = "unknown"
_ODD = re.compile(r"[^A-Za-z0-9_.:\[\]-]")


def clean_name(text: str) -> str:
    """The name: an international one in A-labels, what cannot stand in a trace field as `?`; never empty."""
    text = text.strip()[:LONGEST]
    if not text.isascii():
        with contextlib.suppress(ValueError):
            text = ascii_domain(text)
    return _ODD.sub("?", text)[:LONGEST] or UNKNOWN
