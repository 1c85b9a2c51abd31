"""Who is at the other end of a session, and what the messages say of it. Pure functions and values.

What a client calls itself tells nothing that could be relied upon (RFC 5321 4.1.4): no name is refused, each is made
clean.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Any

import msgspec

from operators.mail.addresses import ascii_domain

LONGEST = 255  # characters of a name (RFC 5321 4.5.3.1.2)
UNKNOWN = "unknown"
_ODD = re.compile(r"[^A-Za-z0-9_.:\[\]-]")


class SmtpPeer(msgspec.Struct, frozen=True):
    """What is known of a client; STARTTLS, EHLO and AUTH replace it.

    Attributes:
        local, remote: (IP, port) of our end and of the client's.
        secure: over TLS.
        name: what it calls itself in EHLO or HELO; "" before that.
        extended: it said EHLO.
        user: who is logged in, or "".
    """

    local: tuple[str, int]
    remote: tuple[str, int]
    secure: bool
    name: str = ""
    extended: bool = False
    user: str = ""

    @property
    def ip(self) -> str:
        """Its address."""
        return self.remote[0]

    def connection(self) -> dict[str, Any]:
        """The `connection` property of messages."""
        return {
            "local-ip": self.local[0],
            "local-port": self.local[1],
            "remote-ip": self.remote[0],
            "remote-port": self.remote[1],
            "secure": self.secure,
            "user": self.user,
        }

    def protocol(self, smtputf8: bool) -> str:
        """The name in Received (RFC 3848, RFC 6531 4.3)."""
        if not self.extended:
            return "SMTP"
        return ("UTF8SMTP" if smtputf8 else "ESMTP") + "S" * self.secure + "A" * bool(self.user)

    def received(self, by: str, smtputf8: bool, id_: str, date: str) -> bytes:
        """The trace field (RFC 5321 4.4)."""
        tag = "IPv6:" if ":" in self.ip else ""
        return (
            f"Received: from {self.name} ([{tag}{self.ip}])\r\n"
            f"\tby {by} with {self.protocol(smtputf8)} id {id_};\r\n\t{date}\r\n"
        ).encode()


def address(name: tuple[Any, ...] | None) -> tuple[str, int]:
    """(IP, port) of a socket name; an IPv4 client of an IPv6 socket has its IPv4 address."""
    if not name:
        return "", 0  # gone before it was greeted
    ip = ipaddress.ip_address(name[0].partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip), name[1]


def clean_name(text: str) -> str:
    """A name as it can stand in Received: an international one in A-labels, anything odd as `?`; never empty."""
    text = text.strip()[:LONGEST]
    if not text.isascii():
        with contextlib.suppress(ValueError):
            text = ascii_domain(text)
    return _ODD.sub("?", text)[:LONGEST] or UNKNOWN
