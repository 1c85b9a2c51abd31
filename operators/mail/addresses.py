"""addresses: whether a text can stand between the angle brackets of MAIL and RCPT, and how it is written there.

Pure functions; nothing is held but the last 4096 domains in their ASCII form.
"""

from __future__ import annotations

import functools
import ipaddress
import re

import idna

MAX_PATH = 254  # octets: the 256 of RFC 5321 4.5.3.1.3 less the angle brackets
MAX_LOCAL = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # an underscore is no host name, but occurs
_UTF8 = r"\u0080-\U0010ffff"

# What nearly all addresses are; everything else goes the long way round (0.8 against 5 microseconds).
_COMMON = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*", re.ASCII).fullmatch
_DOTTED = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_UTF8}.-]+").fullmatch
_QUOTED = re.compile(rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*"').fullmatch
_TAGGED = re.compile(r"([A-Za-z0-9-]*[A-Za-z0-9]):([!-Z^-~]+)").fullmatch
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII).fullmatch


def valid_path(address: str) -> bool:
    """Whether it is a mailbox (RFC 5321 4.1.2, RFC 6531 3.3) that can be sent in MAIL and RCPT; "" is not one."""
    if len(address) <= MAX_PATH and _COMMON(address):
        local, _, domain = address.rpartition("@")
        return len(local) <= MAX_LOCAL and len(domain) <= MAX_DOMAIN
    local, at, domain = address.rpartition("@")
    if not at or not address.isprintable() or len(address.encode(errors="replace")) > MAX_PATH:
        return False
    return _valid_local(local) and _valid_domain(domain)


def loosely(address: str) -> str:
    """The address with its local part quoted (RFC 5321 4.1.2), where that makes a mailbox of it; else as it is.

    The local part may be any printable ASCII then: `a b@`, `a,b@`, `a@b@`.
    """
    local, _, domain = address.rpartition("@")
    if not local or not (local.isascii() and local.isprintable()):
        return address
    quoted = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + f'"@{domain}'
    return quoted if valid_path(quoted) else address


def ascii_domain(domain: str) -> str:
    """The domain in A-labels (RFC 5891 5), lower case where it was not ASCII.

    Raises:
        ValueError: it is no domain name.
    """
    return domain if domain.isascii() else _encoded(domain)


def path(address: str) -> tuple[str, bool]:
    """The address as MAIL and RCPT carry it, and whether that needs SMTPUTF8 (RFC 6531 3.2).

    Only the local part decides: beside an ASCII one, an international domain is sent in A-labels. Dots that an atom may
    not have (`abc..def@`, `abc.@`) are sent quoted, and a domain without its final dot (RFC 5321 2.3.5, 4.1.2).

    Raises:
        ValueError: its domain is no domain name.
    """
    if _COMMON(address):
        return address, False
    local, _, domain = address.rpartition("@")
    if _misplaced_dots(local):
        local = f'"{local}"'
    written = f"{local}@{without_dot(domain)}" if local else address
    if written.isascii():
        return written, False
    if not local.isascii():
        return written, True
    return f"{local}@{ascii_domain(without_dot(domain))}", False


def without_dot(domain: str) -> str:
    """A domain, or an address, without the dot of the root at its end."""
    return domain.removesuffix(".")


def _misplaced_dots(local: str) -> bool:
    return not local.startswith('"') and (".." in local or local[:1] == "." or local[-1:] == ".")


@functools.lru_cache(4096)
def _encoded(domain: str) -> str:
    return idna.encode(domain, uts46=True).decode()


def _valid_local(local: str) -> bool:
    if not 0 < len(local.encode()) <= MAX_LOCAL:
        return False
    if local.startswith('"'):
        return _QUOTED(local) is not None
    return _DOTTED(local) is not None  # dots anywhere, which mobile providers gave out: `path` quotes them


def _valid_domain(domain: str) -> bool:
    if not 0 < len(domain.encode()) <= MAX_DOMAIN:
        return False
    if domain.startswith("["):
        return domain.endswith("]") and _valid_literal(domain[1:-1])
    try:
        return _DOMAIN(ascii_domain(domain)) is not None
    except ValueError:
        return False


def _valid_literal(text: str) -> bool:
    """An address literal's inside (RFC 5321 4.1.3)."""
    try:
        if text[:5].lower() == "ipv6:":
            return "%" not in text and bool(ipaddress.IPv6Address(text[5:]))
        if _TAGGED(text):
            return True
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False
