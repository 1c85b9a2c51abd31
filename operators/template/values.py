"""values: what a template calculates with: JSON values, read as text, number or truth; and the budget that bounds it.

There are None, bool, int, float, str, list and dict, and nothing else: a template reaches no attribute, no function
and no name of the program. Bounds: STEPS of work and CHARACTERS of text for all templates of one message; on a core
of 2023 that is less than 50 ms.
"""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any

STEPS = 40_000
CHARACTERS = 10_000_000
EACH = 5_000  # characters that cost as much as a step
HUGE = 2**63

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?").match
_NUMERIC = re.compile(
    r"\s*[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?\s*"
).fullmatch


class TemplateError(ValueError):
    """The template cannot be used, or wants more than it may have; the text says which, and where."""


class Safe(str):
    """Markup: the template's own text, or what is escaped already."""

    __slots__ = ()


class Printed(list[Any]):
    """A list that is printed as JSON, as the lines of logs show it; a mail shows none."""


class Budget:
    """What the templates of one message may still use."""

    __slots__ = ("characters", "steps")

    def __init__(self, steps: int = STEPS, characters: int = CHARACTERS) -> None:
        self.steps, self.characters = steps, characters

    def step(self, count: int = 1) -> None:
        """So many pieces of work. Raises `TemplateError`."""
        self.steps -= count
        if self.steps < 0:
            raise TemplateError("does more than a template may: it was stopped")

    def text(self, length: int) -> None:
        """Text of this length is read or made; call it before that. Raises `TemplateError`."""
        self.characters -= length
        self.steps -= length // EACH
        if self.characters < 0 or self.steps < 0:
            raise TemplateError(f"works on more text than {CHARACTERS:,} characters: it was stopped")


def as_text(value: Any) -> str:
    """The value as it is printed; lists and objects are empty."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False) if isinstance(value, Printed) else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.5f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
    return str(value)


def as_number(value: Any) -> int | float:
    """The number that a value is, or begins with; 0 where there is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return bounded(value)
    if isinstance(value, str) and (found := _NUMBER(value)) is not None:
        text = found[0].strip()
        return bounded(int(text) if text.lstrip("+-").isdigit() else float(text))
    return 0


def bounded(value: int | float) -> int | float:
    """The number; beyond 64 bits an approximate one, and nothing where there is no such number."""
    if isinstance(value, int):
        return value if -HUGE <= value < HUGE else float(max(-(10**300), min(value, 10**300)))
    return value if math.isfinite(value) else 0


def whole(value: Any) -> int:
    """The number without its fraction."""
    return int(as_number(value))


def true(value: Any) -> bool:
    """Whether a condition holds: not empty, and not zero."""
    if isinstance(value, str):
        return value not in ("", "0", "false")
    return bool(value)


def numeric(value: Any) -> bool:
    """Whether a value is compared as a number."""
    return isinstance(value, int | float) or (isinstance(value, str) and _NUMERIC(value) is not None)


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1: as numbers where both are, else as text."""
    if numeric(left) and numeric(right):
        a, b = as_number(left), as_number(right)
        return (a > b) - (a < b)
    one, other = as_text(left), as_text(right)
    return (one > other) - (one < other)


def member(value: Any, key: Any) -> Any:
    """`value.key` or `value[key]`: of a list by its place, of an object by its name, else by its place."""
    if isinstance(value, list):
        place = key if isinstance(key, int) else int(key) if isinstance(key, str) and key.isdecimal() else -1
        return value[place] if 0 <= place < len(value) else None
    if not isinstance(value, dict):
        return None
    name = as_text(key)
    if name in value:
        return value[name]
    if (dashed := name.replace("_", "-")) in value:
        return value[dashed]
    if isinstance(key, int) and 0 <= key < len(value):
        return list(value.values())[key]
    return None


def escaped(text: str) -> Safe:
    """For HTML, in text and in attributes."""
    return text if isinstance(text, Safe) else Safe(html.escape(text))
