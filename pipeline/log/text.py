"""Text from outside, for a terminal and a spreadsheet: shown, never obeyed."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes what begins so for a formula (OWASP, CSV injection)


def visible(text: str, keep: str = "") -> str:
    """The text with every character that a terminal might act on as `\\u001b`, but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else _escaped(letter) for letter in text)


def no_formula(text: str) -> str:
    """The text as a cell of a CSV file: with a quote before it where it would be taken for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else "\N{REPLACEMENT CHARACTER}"
