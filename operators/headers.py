"""headers: changes in a message's header block, byte for byte elsewhere. Pure functions.

A field is its lines as they stand, folded or not (RFC 5322 2.2); what is not changed is not rewritten, so the rest
of the message arrives as it was sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.header import Header
from typing import Any

from operators.message import Invalid

_FIELDS = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*(?:\n|\Z))*+|[^\n]+").findall  # a line, and those that continue it
_NAME = re.compile(rb"[!-9;-~]+").fullmatch  # RFC 5322 2.2: printable, no colon
_UNSAFE = re.compile(r"[\r\n\0]")
CHANGES = ("remove", "replace", "update", "prepend", "append")


def length(source: bytes) -> int:
    """Bytes of the header fields, the last one's CRLF included: up to the empty line, or all where there is none."""
    end = 0 if source.startswith(b"\r\n") else source.find(b"\r\n\r\n") + 2
    return len(source) if end == 1 else end


def split(source: bytes) -> tuple[list[bytes], bytes]:
    """The header fields, each with its CRLF, and the rest: from the empty line on. Lines must end in CRLF."""
    end = length(source)
    return _FIELDS(source[:end]), source[end:]


def name_of(field: bytes) -> bytes:
    """A field's name, lower case."""
    return field.partition(b":")[0].strip().lower()


def change(source: bytes, changes: Mapping[str, Any]) -> bytes:
    """Apply a message's `headers` property.

    `remove` (names) takes fields away; `replace` sets a field, whether it was there or not; `update` sets it only
    where it was there; `prepend` and `append` add fields at the top and at the end. In this order.

    Raises:
        Invalid: an unknown change, or a name or value that cannot stand in a header.
    """
    for name in changes:
        if name not in CHANGES:
            raise Invalid(f"headers: no change {name!r}: there are {', '.join(CHANGES)}")
    fields, rest = split(source)
    fields = _without(fields, [name.lower() for name in _names(changes.get("remove", []))])
    for kind in ("replace", "update"):
        for name, value in _pairs(kind, changes.get(kind, {})):
            fields = _set(fields, name, value, always=kind == "replace")
    top = [_field(name, value) for name, value in _pairs("prepend", changes.get("prepend", {}))]
    end = [_field(name, value) for name, value in _pairs("append", changes.get("append", {}))]
    return b"".join([*top, *fields, *end]) + (rest or b"\r\n")


def _without(fields: Sequence[bytes], names: Sequence[str]) -> list[bytes]:
    gone = {name.encode() for name in names}
    return [field for field in fields if name_of(field) not in gone]


def _set(fields: list[bytes], name: str, value: str, *, always: bool) -> list[bytes]:
    places = [index for index, field in enumerate(fields) if name_of(field) == name.lower().encode()]
    if not places:
        return [*fields, _field(name, value)] if always else fields
    kept = [field for index, field in enumerate(fields) if index not in places[1:]]
    kept[places[0]] = _field(name, value)
    return kept


def _field(name: str, value: str) -> bytes:
    if not _NAME(name.encode(errors="replace")):
        raise Invalid(f"headers: {name!r} is no header name")
    if _UNSAFE.search(value):
        raise Invalid(f"headers: the value of {name} has a line break or NUL in it")
    text = value if value.isascii() else Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
    return f"{name}: {text}\r\n".encode()


def _names(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Invalid("headers.remove: must be a list of header names")
    return names


def _pairs(kind: str, value: Any) -> list[tuple[str, str]]:
    """Name and value of each field of an object; a list as value is several fields."""
    if not isinstance(value, Mapping):
        raise Invalid(f"headers.{kind}: must be an object of header names and values")
    pairs = [(name, one) for name, many in value.items() for one in (many if isinstance(many, list) else [many])]
    if not all(isinstance(one, str) for _, one in pairs):
        raise Invalid(f"headers.{kind}: values must be strings, or lists of strings")
    return pairs
