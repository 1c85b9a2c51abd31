"""Text from outside, for a terminal, a spreadsheet and the logs: shown, never obeyed, and without its secrets."""

from __future__ import annotations

import re

MASK = "***"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes what begins so for a formula (OWASP, CSV injection)


def visible(text: str, keep: str = "") -> str:
    """The text with every character that a terminal might act on as `\\u001b`, but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else _escaped(letter) for letter in text)


def no_formula(text: str) -> str:
    """The text as a cell of a CSV file: with a quote before it where it would be taken for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def masked(text: str) -> str:
    """The text with everything that looks like a secret as `***`."""
    for pattern, mask in _SECRETS:
        text = pattern.sub(mask, text)
    return text


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else "\N{REPLACEMENT CHARACTER}"


# Each takes time that grows with the text and not with its square: it comes from outside, and the loop waits for it.
_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"(://[^\s:/@]{0,250}):[^\s@]{0,250}@"), rf"\1:{MASK}@"),
    (re.compile(r"\b(AUTH [A-Z0-9-]+) \S+", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(bearer|basic) [\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b((?:password|passwd|secret|token|api[-_]?key)['\"]?\s*[=:]\s*)\S+", re.IGNORECASE), rf"\1{MASK}"),
)
