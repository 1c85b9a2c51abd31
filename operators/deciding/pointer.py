"""pointer: JSON Pointers (RFC 6901) into a message's properties. Pure functions; what is changed is copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MISSING = object()


def looked_up(value: Any, path: Sequence[str]) -> Any:
    """What stands there, or MISSING."""
    for name in path:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            return MISSING
    return value


def replaced(value: Any, path: Sequence[str], new: Any) -> Any:
    """A copy with `new` there; objects on the way are made, and what is neither object nor list is replaced by one."""
    if not path:
        return new
    name, rest = path[0], path[1:]
    if isinstance(value, list):
        places = list(value)
        if name == "-":
            return [*places, replaced({}, rest, new)]
        if name.isascii() and name.isdigit() and int(name[:9]) < len(places):
            places[int(name[:9])] = replaced(places[int(name[:9])], rest, new)
        return places
    inside = value if isinstance(value, dict) else {}
    return {**inside, name: replaced(inside.get(name, {}), rest, new)}
