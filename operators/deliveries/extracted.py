"""extracted: what a result says of the mail as it was sent: From, To, Subject, all headers, and the addresses split."""

from __future__ import annotations

import itertools
from typing import Any

from operators.mail import head
from operators.mail.encoded_words import decoded
from operators.mail.mailboxes import mailboxes
from operators.mail.message import InvalidMessage, Message
from operators.mail.source import source_of

LARGEST_HEAD = 262_144  # bytes of a header that results list: it is taken apart on the event loop
MOST = 1000  # addresses of To


def extracted(message: Message, source: bytes = b"") -> dict[str, Any]:
    """The properties, by lower-case name; of a field that stands there more than once the first.

    Args:
        source: the mail as it was sent; empty where it was not made.
    """
    headers = _headers(source or _made(message))
    first: dict[str, Any] = {}
    if "from" in headers:
        first["from"] = next(iter(_addresses(headers["from"])), headers["from"])
    if "to" in headers:
        first["to"] = _addresses(headers["to"]) or [headers["to"]]
    if "subject" in headers:
        first["subject"] = decoded(headers["subject"]) or headers["subject"]
    return {
        **first,
        "headers": headers,
        "envelope": _split(message.envelope or ""),
        "recipient": _split(message.recipient),
    }


def _made(message: Message) -> bytes:
    """The mail as it would be sent; where it cannot be made, as it was given."""
    try:
        return source_of(message)
    except (InvalidMessage, ValueError):
        pass
    try:
        return head.settled(message.source())
    except (InvalidMessage, ValueError):
        return b""


def _headers(source: bytes) -> dict[str, str]:
    fields, _ = head.split(source[: min(head.length(source), LARGEST_HEAD)])
    found: dict[str, str] = {}
    for field in fields:
        found.setdefault(head.name_of(field).decode(errors="replace"), head.value_of(field))
    return found


def _addresses(value: str) -> list[str]:
    return [entry.address for entry in itertools.islice(mailboxes(value), MOST) if entry.address]


def _split(address: str) -> dict[str, str]:
    local, _, domain = address.rpartition("@")
    return {"local": local, "domain": domain}


# -- as it was before --------------------------------------------------------------------------------------------------

_ATTRIBUTES = {
    "common": "CN", "country": "C", "locality": "L", "state": "ST", "organization": "O", "unit": "OU",
    "email": "emailAddress", "serial": "serialNumber", "street": "street", "postal": "postalCode",
}  # fmt: skip


def previous(properties: dict[str, Any]) -> dict[str, Any]:
    """A result in the shapes of Mailrace 0.1 (`results-format: previous`), for readers that came to rely on them."""
    said = properties.get("extracted") or {}
    first = {name: said["headers"][name] for name in ("from", "to", "subject") if name in said.get("headers", {})}
    headers = {name: [value] for name, value in said.get("headers", {}).items()}
    attempts = [_before(one) for one in properties.get("results", ())]
    return {**properties, "results": attempts, "extracted": {**said, **first, "headers": headers}}


def _before(attempt: dict[str, Any]) -> dict[str, Any]:
    found = dict(attempt)
    if str(found.get("state", "")).startswith("auth"):
        found["state"] = "auth"
    found.pop("authentication", None)
    if isinstance(cipher := found.get("cipher"), dict):
        found["cipher"] = {name: value for name, value in cipher.items() if name in ("name", "bits", "version")}
    if isinstance(one := found.get("certificate"), dict) and isinstance(one.get("subject"), dict):
        found["certificate"] = {
            "subject": _rfc4514(one["subject"]),
            "issuer": _rfc4514(one["issuer"]),
            "valid-from": one.get("notbefore"),
            "valid-until": one.get("notafter"),
            "altnames": one.get("altnames", []),
            "verified": one.get("verified", False),
        }
    return found


def _rfc4514(name: dict[str, str]) -> str:
    return ",".join(f"{_ATTRIBUTES.get(kind, kind)}={value}" for kind, value in reversed(list(name.items())))
