"""What a form or a table needs to know of a kind's fields, read from its model: there is no second definition."""

from __future__ import annotations

import functools
from typing import Any, Literal

import msgspec

from settings.rules.validate import model_of, read_only

Input = Literal["text", "whole", "number", "choice", "flag", "time", "texts", "patterns", "secret"]


class FormField(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a rule.

    Attributes:
        name: as in the API.
        label, help, unit: for people; `group` is the part of the form that it belongs to.
        input: what is entered; `texts` are several texts, `patterns` are objects of `type` and `pattern`.
        choices: all that is allowed, where it is a choice.
        minimum, maximum: of a number.
        length: most characters of a text.
        default: what an empty field means; None where it means nothing given.
        required: it may not be empty.
        read_only: shown, never entered.
        write_only: entered, never shown.
    """

    name: str
    label: str
    help: str = ""
    unit: str = ""
    group: str = ""
    input: Input = "text"
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    length: int | None = None
    default: Any = None
    required: bool = False
    read_only: bool = False
    write_only: bool = False


@functools.cache
def fields(kind: str) -> tuple[FormField, ...]:
    """A kind's fields in the order to show them, its live figures last. Raises `NoSuchRule`."""
    model = model_of(kind)
    shown = model.model_json_schema(mode="serialization")["properties"]
    schema = model.model_json_schema(mode="validation")
    entered = schema["properties"]
    ours = read_only(model)
    found = [
        _field(name, {**shown.get(name, {}), **entered.get(name, {})}, name in schema.get("required", ()), name in ours)
        for name in dict.fromkeys((*entered, *shown))
    ]
    live = [
        FormField(name=name, label=name.replace("_", " ").title(), help=text, read_only=True)
        for name, text in model.live.items()
    ]
    return (*found, *live)


def _field(name: str, schema: dict[str, Any], required: bool, ours: bool) -> FormField:
    kind = next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), schema)
    return FormField(
        name=name,
        label=schema.get("title", name),
        help=schema.get("description", ""),
        unit=schema.get("unit", ""),
        group=schema.get("group", ""),
        input=_input(kind),
        choices=tuple(kind.get("enum", ())),
        minimum=kind.get("minimum"),
        maximum=kind.get("maximum"),
        length=kind.get("maxLength", schema.get("maxLength")),
        default=schema.get("default"),
        required=required,
        read_only=ours,
        write_only=bool(schema.get("write_only")),
    )


def _input(schema: dict[str, Any]) -> Input:
    if "enum" in schema:
        return "choice"
    if schema.get("input") == "texts":
        return "texts"
    if schema.get("type") == "array":
        return "patterns" if "$ref" in schema.get("items", {}) else "texts"
    formats: dict[str, Input] = {"date-time": "time", "password": "secret"}
    types: dict[str, Input] = {"integer": "whole", "number": "number", "boolean": "flag"}
    return formats.get(schema.get("format", "")) or types.get(schema.get("type", ""), "text")
