"""The filters above a table, kept in the address so that it can be shared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal
from urllib.parse import urlencode

import msgspec
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from gui.components.drawing import tag, text
from gui.components.parts import SCRIPTS

LONGEST = 300  # characters of a value
OWN = ("sort", "page", "of")  # of an address, that are no filters


class Field(msgspec.Struct, frozen=True):
    """A filter. With `options`, pairs of value and text, one of them; `search` is where the key `/` goes."""

    name: str
    label: str
    kind: Literal["search", "text", "time", "choice"] = "text"
    placeholder: str = ""
    options: tuple[tuple[str, str], ...] | None = None
    rare: bool = False  # shown when it is set, or asked for


class FilterBar(Element, component=f"{SCRIPTS}/filter_bar.js"):
    """Fields, and what they hold.

    Args:
        fields: left to right.
        values: at the beginning; from the address, so anything.
        changed: told all values that are not empty.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        values: Mapping[str, str],
        changed: Callable[[dict[str, str]], object],
        label: str = "Filters",
    ) -> None:
        super().__init__()
        self._fields = fields
        self._props["fields"] = [msgspec.to_builtins(field) for field in fields]
        self._props["label"] = label
        self._props["values"] = kept(fields, values)
        self.on("change", lambda event: changed(self._said(event)))

    def _said(self, event: GenericEventArguments) -> dict[str, str]:
        said = {str(name): str(value) for name, value in dict(event.args).items()}
        return kept(self._fields, said)

    def hold(self, values: Mapping[str, str]) -> None:
        """Show these values; `changed` is not told."""
        self.run_method("hold", kept(self._fields, values))


def kept(fields: Sequence[Field], values: Mapping[str, str]) -> dict[str, str]:
    """The values that these fields can hold, trimmed, without the empty ones."""
    found = {}
    for field in fields:
        value = values.get(field.name, "").strip()[:LONGEST]
        allowed = field.options is None or value in (option for option, _ in field.options)
        if value and allowed:
            found[field.name] = value
    return found


def mistakes(fields: Sequence[Field], query: Mapping[str, str], more: Collection[str] = ()) -> list[str]:
    """What an address asks for that its view does not know; to ignore it would show more than was meant."""
    known, found = {field.name: field for field in fields}, []
    for name, value in query.items():
        field = known.get(name)
        if field is None:
            if name not in (*OWN, *more):
                found.append(f"{name[:60]!r} is no filter of this view")
        elif field.options is not None and value.strip() not in (option for option, _ in field.options):
            found.append(f"{field.label}: {value[:60]!r} is none of its values")
    return found


def say_mistakes(found: Sequence[str]) -> None:
    """Draw them, where there are some."""
    if found:
        with tag("div", "address-error").props("role=alert"):
            text("strong", "This address cannot be followed as it is.")
            text("span", f"{'; '.join(found)}. What is shown below is not filtered by it.")


def address(path: str, values: Mapping[str, str]) -> str:
    """The address that says this."""
    said = {name: value for name, value in values.items() if value}
    return path + ("?" + urlencode(said, safe=",@/:") if said else "")
