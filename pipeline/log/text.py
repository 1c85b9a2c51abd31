"""Text from outside, for a terminal: shown, never obeyed."""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    """The text with every character that a terminal might act on as `\\u001b`, but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else "\N{REPLACEMENT CHARACTER}"
