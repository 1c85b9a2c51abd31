"""Patterns: one kind of text matching for flood patterns, local addresses and DKIM patterns.

Case never matters. Regular expressions and wildcards run on RE2, whose time grows with the text and not with what
the expression asks for: none can be made to hang the machine. Bounds: MAXIMUM characters of pattern, MEMORY bytes
for its program (a larger one is refused when it is entered), TEXT characters of what it is matched against.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import re2

Matcher = Callable[[str], bool]
Type = Literal["exact", "substring", "wildcard", "regex"]
TypeOrGlobal = Literal["exact", "substring", "wildcard", "regex", "global"]

MAXIMUM = 500
MEMORY = 1 << 20
TEXT = 4096
FEW = 4  # patterns that are tried one by one
SHORT, KNOWN = 200, 1000  # characters of a text whose matches are remembered, and how many texts are, of each index
MEMORY_OF_ALL = 16 << 20  # bytes for the automaton of many


@functools.lru_cache(maxsize=10_000)
def compile_pattern(type_: TypeOrGlobal, pattern: str) -> Matcher:
    """A function that tells whether a text matches.

    `exact`: the whole text. `substring`: anywhere in it. `wildcard`: the whole text, with `*`, `?`, `[abc]` and
    `[!abc]` as in shells. `regex`: RE2 syntax, anywhere in it unless anchored; a dot matches line ends too.
    `global`: everything.

    Raises:
        ValueError: not a pattern of that type; the text says why, and what is allowed.
    """
    if len(pattern) > MAXIMUM:
        raise ValueError(f"has {len(pattern)} characters; allowed are {MAXIMUM}")
    if type_ == "global":
        return _everything
    if not pattern:
        raise ValueError(f"is empty; allowed is text for a pattern of type {type_}")
    folded = pattern.casefold()
    if type_ == "exact":
        return lambda text: text[:TEXT].casefold() == folded
    if type_ == "substring":
        return lambda text: folded in text[:TEXT].casefold()
    return _expression(pattern) if type_ == "regex" else _expression(_translate(pattern))


class Tried(NamedTuple):
    """One of many patterns: RE2 source, whether it is for text without case, and how it is tried by itself."""

    source: str
    folded: bool
    alone: Matcher


def tried(type_: TypeOrGlobal, pattern: str) -> Tried:
    """A pattern as one of many. Raises `ValueError` as `compile_pattern`."""
    alone = compile_pattern(type_, pattern)
    if type_ in ("exact", "substring"):
        return literal(pattern, whole=type_ == "exact", alone=alone)
    source = {"global": "", "wildcard": _translate(pattern)}.get(type_, pattern)
    return Tried(source, False, alone)


def literal(text: str, whole: bool, alone: Matcher) -> Tried:
    """A text, anywhere in another or all of it, whatever its case."""
    source = re2.escape(_readable(text.casefold()))
    return Tried(rf"\A{source}\z" if whole else source, True, alone)


class PatternIndex:
    """Many patterns, tried on a text together: the time does not grow with their number. Few are tried one by one.

    What a short text has matched is remembered: senders, subjects and answers come again and again.

    Args:
        patterns: in their order.
        limit: characters of a text that are looked at.
    """

    def __init__(self, patterns: Sequence[Tried], limit: int = TEXT) -> None:
        self._patterns, self._limit = patterns, limit
        self._known: dict[str, Sequence[int]] = {}
        self._sets: list[tuple[bool, list[int], Any]] = []
        if len(patterns) > FEW:
            for folded in (True, False):
                numbers = [number for number, one in enumerate(patterns) if one.folded is folded]
                if numbers:
                    self._sets.append((folded, numbers, _set([patterns[number].source for number in numbers])))

    def matching(self, text: str) -> Sequence[int]:
        """The numbers of the patterns that match, ascending."""
        found = self._known.get(text)
        if found is None:
            found = self._look(text[: self._limit])
            if len(text) <= SHORT:
                if len(self._known) >= KNOWN:
                    self._known.clear()
                self._known[text] = found
        return found

    def _look(self, text: str) -> Sequence[int]:
        if not self._sets:
            return self._one_by_one(text)
        found: list[int] = []
        for folded, numbers, patterns in self._sets:
            hits = patterns.Match(_readable(text.casefold() if folded else text))
            if len(numbers) not in hits:  # the last one always matches: RE2 has had too little memory
                return self._one_by_one(text)
            found += [numbers[hit] for hit in hits if hit < len(numbers)]
        found.sort()
        return found

    def _one_by_one(self, text: str) -> list[int]:
        return [number for number, one in enumerate(self._patterns) if one.alone(text)]


def _set(sources: Sequence[str]) -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = MEMORY_OF_ALL
    found = re2.Set.SearchSet(options)
    for source in (*sources, ""):
        found.Add(source)
    found.Compile()
    return found


def _everything(text: str) -> bool:
    return True


def _expression(source: str) -> Matcher:
    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        search = re2.compile(source, options).search
    except re2.error as error:
        raise ValueError(f"does not compile: {_reason(error)}; allowed is RE2 syntax, without look-around") from None
    return lambda text: search(_readable(text[:TEXT])) is not None


def _readable(text: str) -> str:
    """Answers are kept as received: bytes that are no UTF-8 are surrogates in them, which RE2 does not take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _translate(wildcard: str) -> str:
    """A shell wildcard as RE2. (`fnmatch.translate` writes look-aheads, which RE2 has not.)"""
    parts = [r"\A"]
    at = 0
    while at < len(wildcard):
        character = wildcard[at]
        end = wildcard.find("]", at + 2 + (wildcard[at + 1 : at + 2] == "!")) if character == "[" else -1
        if end > 0:
            parts.append(_class(wildcard[at + 1 : end]))
            at = end
        else:
            parts.append({"*": ".*", "?": "."}.get(character) or re2.escape(character))
        at += 1
    return "".join(parts) + r"\z"


def _class(inside: str) -> str:
    negated = "^" if inside.startswith("!") else ""
    inside = inside[len(negated) :].replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]").replace("^", r"\^")
    return f"[{negated}{inside}]"
