"""headers: changes in a message's header block, byte for byte elsewhere. Pure functions.

A field is its lines as they stand, folded or not (RFC 5322 2.2); what is not changed is not rewritten, so the rest
of the message arrives as it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from operators.mail.fields import field
from operators.mail.head import name_of, split
from operators.mail.message import InvalidMessage

CHANGES = ("remove", "replace", "update", "prepend", "append")
_ADD = "add"  # MailerQ's other name of `append`


def change(source: bytes, changes: Mapping[str, Any]) -> bytes:
    """Apply a message's `headers` property.

    `remove` (names) takes fields away; `replace` sets a field, whether it was there or not; `update` sets it only
    where it was there; `prepend` and `append` add fields at the top and at the end. In this order.

    Raises:
        Invalid: an unknown change, or a name or value that cannot stand in a header.
    """
    for name in changes:
        if name not in CHANGES and name != _ADD:
            raise InvalidMessage(f"headers: no change {name!r}: there are {', '.join(CHANGES)}")
    fields, rest = split(source)
    fields = _without(fields, [name.lower() for name in _names(changes.get("remove", []))])
    for kind in ("replace", "update"):
        for name, value in pairs(f"headers.{kind}", changes.get(kind, {})):
            fields = _set(fields, name, value, always=kind == "replace")
    top = [field(name, value) for name, value in pairs("headers.prepend", changes.get("prepend", {}))]
    added = [*pairs("headers.append", changes.get("append", {})), *pairs("headers.add", changes.get(_ADD, {}))]
    end = [field(name, value) for name, value in added]
    return b"".join([*top, *fields, *end]) + (rest or b"\r\n")


def _without(fields: Sequence[bytes], names: Sequence[str]) -> list[bytes]:
    gone = {name.encode(errors="replace") for name in names}
    return [one for one in fields if name_of(one) not in gone]


def _set(fields: list[bytes], name: str, value: str, *, always: bool) -> list[bytes]:
    new = field(name, value)
    places = [index for index, one in enumerate(fields) if name_of(one) == name_of(new)]
    if not places:
        return [*fields, new] if always else fields
    gone = set(places[1:])
    kept = [one for index, one in enumerate(fields) if index not in gone]
    kept[places[0]] = new
    return kept


def _names(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidMessage("headers.remove: must be a list of header names")
    return names


def pairs(where: str, value: Any) -> list[tuple[str, str]]:
    """Name and value of each field of an object; a list as value is several fields."""
    if not isinstance(value, Mapping):
        raise InvalidMessage(f"{where}: must be an object of header names and values")
    found = [(name, one) for name, many in value.items() for one in (many if isinstance(many, list) else [many])]
    if not all(isinstance(one, str) for _, one in found):
        raise InvalidMessage(f"{where}: values must be strings, or lists of strings")
    return found
