"""lenient: a message's properties in the forms that programs write them, as the typed ones. Pure functions.

`loosened` is called only where the strict reading failed, so a message that is as documented costs nothing there.
Lenient in form alone: what a property means is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
OLDER = {"textVersion": "text", "htmlVersion": "html"}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}(\.0*)?\s*").fullmatch


def loosened(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with numbers for digits, booleans for 0 and 1, lists for texts, and without what is null."""
    found = {name: value for name, value in properties.items() if value is not None}
    for name, read in _READ.items():
        if name in found and (value := read(found[name])) is not found[name]:
            if value is None:
                del found[name]
            else:
                found[name] = value
    return found


def lifted(properties: dict[str, Any]) -> dict[str, Any]:
    """A message whose `mime` is an object: its `dkim` is the message's, and older names of parts are those of today."""
    mime = properties["mime"]
    if not any(name in mime for name in ("dkim", *OLDER)):
        return properties
    parts = {OLDER.get(name, name): value for name, value in mime.items() if name != "dkim"}
    given = [one for one in (properties.get("dkim"), mime.get("dkim")) if one is not None]
    keys = [key for one in given for key in (one if isinstance(one, list) else [one])]
    return {**properties, "mime": parts, **({"dkim": keys} if keys else {})}


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return None if not value.strip() else int(float(value)) if _WHOLE(value) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        return None if not value.strip() else _TRUTH.get(value.strip().lower(), value)
    return bool(value) if value in (0, 1) else value


def _numbers(value: Any) -> Any:
    if isinstance(value, str):
        value = [one for one in value.split(",") if one.strip()]
    return [_number(one) for one in value] if isinstance(value, list) else [value]


def _one_or_more(value: Any) -> Any:
    """Texts: one alone is a list of one, whatever is in it."""
    if isinstance(value, list):
        return [_text(one) for one in value if one is not None]
    return [_text(value)] if isinstance(value, str | int | float) else value


def _addresses(value: Any) -> Any:
    """MTA IPs: what is no list is as good as none, so documented."""
    return value if isinstance(value, list) else None


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _joined(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    return _text(value)


def _within(**readers: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An object, with these of its properties read; PHP writes an empty one as an empty list."""

    def read(value: Any) -> Any:
        if value == []:
            return None
        if not isinstance(value, dict):
            return value
        kept = {name: readers[name](one) if name in readers else one for name, one in value.items() if one is not None}
        return {name: one for name, one in kept.items() if one is not None}

    return read


def _object(value: Any) -> Any:
    return None if value == [] else value


def _server(value: Any) -> Any:
    """A smarthost: never taken for none, or its mail would go to the world. Its host has older names."""
    if isinstance(value, dict) and value.get("hostname") is None:
        name = next((one for one in ("name", "host") if value.get(one)), None)
        if name is not None:
            value = {
                "hostname": value[name],
                **{key: one for key, one in value.items() if key not in ("hostname", name)},
            }
    return value if value == [] else _within(port=_number, username=_text, password=_text)(value)


def _names(value: Any) -> Any:
    """Queues, by kind; false and an empty name turn one off, as null does."""
    if not isinstance(value, dict):
        return _object(value)
    return {kind: None if name is False or name == "" else name for kind, name in value.items()}


def _when(value: Any) -> Any:
    return {"time": value} if isinstance(value, str) else _within()(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "message-id": _text,
    "keepmime": _flag,
    "smtputf8": _flag,
    "ips": _addresses,
    "pool": _text,
    "nextattempt": _when,
    "delayed": _when,
    "maxattempts": _number,
    "retries": _numbers,
    "priority": _number,
    "tags": _one_or_more,
    "dsn": _within(notify=_joined, ret=_text, orcpt=_text, envid=_text),
    "smarthost": _server,
    "data": _object,
    "headers": _object,
    "queues": _names,
    "dkim": _object,
}
