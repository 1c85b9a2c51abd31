"""The catalogue of shipped rules beside the operator's own: which are adopted, and how one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from settings.rules import Rule, Snapshot
from settings.rules.shipped import CATALOGUE, PROVIDERS
from settings.rules.validate import counterpart, parse
from settings.store import RuleStore, Who


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A shipped rule. `state`: off, adopted, or changed: the operator's rule about the same is another."""

    number: int
    provider: str
    kind: str
    values: Mapping[str, Any]
    source: str
    state: str
    rule: int | None = None


class ShippedProvider(msgspec.Struct, frozen=True):
    """A shipped provider, and whether one of the operator's replaces it."""

    name: str
    patterns: tuple[str, ...]
    replaced: bool


def entries(snapshot: Snapshot) -> list[CatalogueEntry]:
    """All of the catalogue."""
    found = []
    for number, one in enumerate(CATALOGUE):
        mine = counterpart(one.kind, one.values, snapshot)
        state = "off" if mine is None else "adopted" if _same(mine, one.kind, one.values) else "changed"
        found.append(
            CatalogueEntry(
                number=number,
                provider=one.provider,
                kind=one.kind,
                values=one.values,
                source=one.source,
                state=state,
                rule=mine.id if mine is not None else None,
            )
        )
    return found


def _same(mine: Rule, kind: str, values: Mapping[str, Any]) -> bool:
    shipped, own = parse(kind, values).shown(), mine.shown()
    return all(own[name] == value for name, value in shipped.items() if name not in ("id", "order"))


def providers(snapshot: Snapshot) -> list[ShippedProvider]:
    """The shipped providers."""
    own = {getattr(rule, "name", "") for rule in snapshot.rules("providers")}
    return [ShippedProvider(name, patterns, name in own) for name, patterns in PROVIDERS.items()]


async def adopt(store: RuleStore, who: Who, provider: str = "", number: int | None = None) -> list[Rule]:
    """Make rules of a provider's entries, or of one. Raises as `RuleStore.create`."""
    done = []
    for entry in entries(store.snapshot):
        if entry.state == "adopted" or (entry.number != number if number is not None else entry.provider != provider):
            continue
        if entry.rule is None:
            done.append(await store.create(entry.kind, entry.values, who))
        else:
            done.append(await store.update(entry.kind, entry.rule, entry.values, who))
    return done
