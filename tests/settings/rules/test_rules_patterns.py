"""Patterns: what each type matches, and that none can hang the machine."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings.rules.patterns import compile_pattern

CASES = [
    ("exact", "421 4.7.0 Slow down", "421 4.7.0 slow DOWN", True),
    ("exact", "slow down", "421 4.7.0 slow down", False),
    ("substring", "Too Many", "450 too many connections", True),
    ("substring", "a.c", "abc", False),
    ("wildcard", "*@example.com", "Someone@EXAMPLE.com", True),
    ("wildcard", "*@example.com", "someone@example.com.org", False),
    ("wildcard", "info-?@*", "info-1@example.com", True),
    ("wildcard", "info-?@*", "info-12@example.com", False),
    ("wildcard", "[ab]@*", "b@example.com", True),
    ("wildcard", "[!ab]@*", "b@example.com", False),
    ("wildcard", "[a-c]x", "bx", True),
    ("wildcard", "[", "[", True),
    ("wildcard", "a.c", "abc", False),
    ("wildcard", "4*end", "451 first line\nsecond line end", True),
    ("regex", r"^4\d\d .*too (many|fast)", "452 4.5.3 Too many", True),
    ("regex", "many", "too many", True),
    ("regex", "^many", "too many", False),
    ("regex", "first.*second", "first\nsecond", True),
    ("regex", "GRÜSSE", "viele grüsse", True),
    ("regex", "b", "a\udcffb", True),
    ("global", "", "anything", True),
]


@pytest.mark.parametrize(("type_", "pattern", "text", "expected"), CASES)
def test_each_type_matches_as_it_says(type_: str, pattern: str, text: str, expected: bool) -> None:
    """Exact and wildcards are about the whole text, substring and regex about any part; case never matters."""
    assert compile_pattern(type_, pattern)(text) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pattern", ["(", "(?=a)b", r"(a)\1", "a{2000}", "[[:nope:]]", "", "x" * 501, "((a{100}){10}){9}" * 20]
)
def test_a_regex_that_does_not_compile_is_refused(pattern: str) -> None:
    """Bad syntax, what RE2 leaves out, and programs that are too large: one line that says what is allowed."""
    with pytest.raises(ValueError, match="allowed"):
        compile_pattern("regex", pattern)


@pytest.mark.parametrize("pattern", ["(x+x+)+y", "(a|aa)+$", "(.*)*$b", "(x*)*y", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_a_regex_built_to_hang_others_answers_at_once(pattern: str) -> None:
    """Catastrophic for engines that go back: Python's takes longer than the sun will last."""
    matches = compile_pattern("regex", pattern)
    started = time.process_time()
    for text in ("x" * 100_000, "a" * 100_000 + "!"):
        matches(text)
    assert time.process_time() - started < 1  # milliseconds; the bound only tells them from for ever


def test_a_wildcard_built_to_hang_others_answers_at_once() -> None:
    """Wildcards have the same engine."""
    started = time.process_time()
    assert not compile_pattern("wildcard", "*a" * 200 + "b")("a" * 100_000)
    assert time.process_time() - started < 1


@given(st.text("ab*?[]!-.^\\", max_size=12), st.text("ab*?[]!-.^\\\n", max_size=8))
def test_wildcards_match_what_the_shell_matches(pattern: str, text: str) -> None:
    """The same as Python's fnmatch, but for the reversed ranges that the shells do not agree on."""
    try:
        matches = compile_pattern("wildcard", pattern)
    except ValueError:
        return
    assert matches(text) == fnmatch.fnmatchcase(text, pattern)
