"""Taking all rules out as one JSON document, and in again. Private keys stay where they are.

The document is `{"mailrace-rules": 1, "throttles": [...], ...}`, each rule as the API shows it, without
its id and what is computed. Taken in, a rule replaces the one that is about the same thing, or is created; rules that
are not in the document stay. A DKIM key that is not here already needs its private key, as `key`, or `generate`.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from settings.rules.models import KINDS
from settings.rules.snapshot import Snapshot
from settings.rules.validate import FieldError, InvalidRule

FORMAT = "mailrace-rules"
VERSION = 1
OURS = {"id", "record", "instance"}

Entry = tuple[str, Mapping[str, Any]]


class Imported(msgspec.Struct, frozen=True):
    """What an import came to; `errors` has a line for each rule that was left out."""

    created: int
    updated: int
    unchanged: int
    errors: tuple[str, ...]


def exported(snapshot: Snapshot) -> dict[str, Any]:
    """All rules as one JSON document."""
    document: dict[str, Any] = {FORMAT: VERSION}
    for kind in KINDS:
        document[kind] = [{n: v for n, v in rule.shown().items() if n not in OURS} for rule in snapshot.rules(kind)]
    return document


def entries_of(document: Mapping[str, Any]) -> tuple[list[Entry], list[str]]:
    """The rules of a document, in order, and a line for each part of it that is none.

    Raises:
        Invalid: it is no such document at all.
    """
    if not isinstance(document, Mapping) or document.get(FORMAT) != VERSION:
        raise InvalidRule([FieldError(FORMAT, f"is not {VERSION}; allowed are documents that Mailrace has exported")])
    entries: list[Entry] = []
    errors = [
        f"{kind}: is no kind of rule; there are {', '.join(KINDS)}" for kind in document if kind not in {FORMAT, *KINDS}
    ]
    for kind in KINDS:
        rules = document.get(kind, [])
        if not isinstance(rules, list):
            errors.append(f"{kind}: is no list")
            continue
        errors += [f"{kind}[{i}]: is no object" for i, rule in enumerate(rules) if not isinstance(rule, Mapping)]
        entries += [(kind, rule) for rule in rules if isinstance(rule, Mapping)]
    return entries, errors


def imported(entries: Sequence[Entry], done: Sequence[str], errors: Sequence[str]) -> Imported:
    """The summary of an import, from what was done with each entry."""
    places: dict[str, int] = {}
    lines = list(errors)
    for (kind, _), result in zip(entries, done, strict=True):
        place = places[kind] = places.get(kind, -1) + 1
        if result.startswith("error: "):
            lines.append(f"{kind}[{place}]: {result.removeprefix('error: ')}")
    counts = collections.Counter(done)
    return Imported(counts["created"], counts["updated"], counts["unchanged"], tuple(lines))
