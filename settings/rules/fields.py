"""The types that rule fields have: each cleans what was entered, or refuses it and says what is allowed.

Everything here is pure. No text with a control character (CR, LF, NUL and kin) passes any of these types, so no rule
can add a line to an SMTP dialogue, a header or a log.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import idna
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1035 2.3.1, RFC 1123 2.1
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
HEADER = re.compile(r"[!-9;-~]{1,200}")  # RFC 5322 2.2: printable ASCII without the colon
STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
POOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST = 1_000_000_000  # of anything that is counted: it fits the integers of every database

T = TypeVar("T")


def quoted(value: str) -> str:
    """What was entered, for an error's line: escaped, and not longer than a line."""
    return repr(value if len(value) <= 80 else f"{value[:80]}...")


def one_line(value: str) -> str:
    """The text without spaces around it; raises `ValueError` where it has a control character."""
    if CONTROL.search(value):
        raise ValueError("has a control character; allowed is text on one line, without CR, LF or NUL")
    return value.strip()


def ip_address(value: str) -> str:
    """An IP address as it is usually written: IPv6 compressed, IPv4-mapped ones as IPv4."""
    try:
        address = ipaddress.ip_address(one_line(value))
    except ValueError:
        raise ValueError(
            f"{quoted(value)} is no IP address; allowed are IPv4 and IPv6, such as 192.0.2.1 or 2001:db8::1"
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise ValueError(f"{quoted(value)} has a zone; allowed are addresses without one")
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{quoted(value)} is not the address of one host; allowed are unicast addresses")
    return str(address)


def domain_name(value: str) -> str:
    """A domain as it is looked up: A-labels (RFC 5891), lower case, no final dot; or a literal (RFC 5321 4.1.3)."""
    text = one_line(value).rstrip(".").lower()
    if text.startswith("["):
        return _address_literal(text)
    name = text if text.isascii() else _ascii(text)
    labels = name.split(".")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"{quoted(value)} is no domain name; allowed are labels of letters, digits and hyphens with dots between"
        )
    if labels[-1].isdigit():
        raise ValueError(
            f"{quoted(value)} is no domain name but looks like an IP address; allowed are names such as example.com"
        )
    return name


def _address_literal(text: str) -> str:
    inside = text.removeprefix("[").removesuffix("]").removeprefix("ipv6:")
    try:
        ipaddress.ip_address(inside)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is no address literal; allowed are [192.0.2.1] and [IPv6:2001:db8::1]"
        ) from None
    return text


def _ascii(text: str) -> str:
    try:
        return idna.encode(text, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(f"{quoted(text)} is no domain name: {error}") from None


def lookup_name(name: str) -> str:
    """A domain from a message as rules keep theirs. Never raises: what is no domain matches no rule.

    Nearly every domain is ASCII, lower case and without a final dot already; the checks for that cost 0.1 us.
    """
    if name.isascii():
        return name.rstrip(".").lower()
    try:
        return domain_name(name)
    except ValueError:
        return name.lower()


def selector(value: str) -> str:
    """A DKIM selector: labels with dots between (RFC 6376 3.1)."""
    text = one_line(value).lower()
    if len(text) > 200 or not all(LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(
            f"{quoted(value)} is no selector; allowed are labels of letters, digits and hyphens with dots between"
        )
    return text


def enhanced_status(value: str) -> str:
    """An enhanced status code (RFC 3463 2)."""
    text = one_line(value)
    if not STATUS.fullmatch(text):
        raise ValueError(f"{quoted(value)} is no enhanced status; allowed are such as 5.7.1 or 4.2.2")
    return text


def header_name(value: str) -> str:
    """A header's name (RFC 5322 2.2)."""
    text = one_line(value)
    if not HEADER.fullmatch(text):
        raise ValueError(
            f"{quoted(value)} is no header name; allowed are printable ASCII characters without spaces and colons"
        )
    return text


def pool_name(value: str) -> str:
    """A pool's name, as messages give it."""
    text = one_line(value)
    if not POOL.fullmatch(text):
        raise ValueError(f"{quoted(value)} is no name of a pool; allowed are 1 to 64 letters, digits, - and _")
    return text


def ehlo_name(value: str) -> str:
    """What may stand after EHLO: a domain, or an address literal (RFC 5321 4.1.1.1)."""
    return domain_name(value)


def utc(value: datetime.datetime) -> datetime.datetime:
    """The time in UTC, whole seconds; one without a zone is in UTC already."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value.astimezone(datetime.UTC).replace(microsecond=0)


def iso(value: datetime.datetime) -> str:
    """ISO 8601 with a Z."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _a_time(value: Any) -> Any:
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        raise ValueError(f"{quoted(value)} is no time; allowed is ISO 8601, such as 2030-01-31T12:00:00Z")
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _none_if_empty(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip(" ") else value


def _split(value: Any) -> Any:
    """`a, b` as a form sends it -> ["a", "b"]; None -> []."""
    if value is None:
        return []
    if isinstance(value, str):
        return [part for part in re.split(r"[,; ]+", value) if part]
    return value


def _unique(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


Maybe = Annotated[T | None, BeforeValidator(_none_if_empty)]
"""Empty, or a T: the empty text of a form is None."""

Several = Annotated[tuple[T, ...], BeforeValidator(_split), AfterValidator(_unique)]
"""Any number of T, each once, in order; also from one text with commas between."""

Line = Annotated[str, AfterValidator(one_line)]
Ip = Annotated[str, AfterValidator(ip_address)]
Domain = Annotated[str, AfterValidator(domain_name)]
Selector = Annotated[str, AfterValidator(selector)]
HeaderName = Annotated[str, AfterValidator(header_name)]
Status = Annotated[str, AfterValidator(enhanced_status)]
PoolName = Annotated[str, AfterValidator(pool_name)]
EhloName = Annotated[str, AfterValidator(ehlo_name)]
Time = Annotated[
    datetime.datetime, BeforeValidator(_a_time), AfterValidator(utc), PlainSerializer(iso, when_used="json")
]
Count = Annotated[int, Field(ge=0, le=MOST), BeforeValidator(_whole)]
Permanent = Annotated[int, Field(ge=500, le=599), BeforeValidator(_whole)]
Code = Annotated[int, Field(ge=200, le=599), BeforeValidator(_whole)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False), BeforeValidator(_whole)]
Security = Literal["off", "opportunistic", "required", "verified"]
