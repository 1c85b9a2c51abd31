"""Showing the configuration: the values in force, and the reference of all keys."""

from __future__ import annotations

from collections.abc import Iterator

from settings.config.keys import FIELDS, Settings, more
from settings.config.values import kind_of, show


def effective(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """(key, value, origin) of every key, in order; secrets masked."""
    for name in FIELDS:
        yield name.replace("_", "-"), show(getattr(settings, name)), settings.origin(name)


def reference() -> str:
    """The Markdown table of all keys, as the README has it."""
    rows = [_row(name) for name in FIELDS]
    return "\n".join(["| key | default | meaning | allowed |", "|---|---|---|---|", *rows])


def _row(name: str) -> str:
    field, notes = FIELDS[name], more(name)
    default = notes["shown"] or (f"`{text}`" if (text := show(field.default)) else "empty")
    cells = (f"`{name.replace('_', '-')}`", default, field.description or "", kind_of(field).allowed)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
