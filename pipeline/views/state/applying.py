"""The rules that are for a lane's mail, of every kind, with what each does in words. Pure functions.

Limits, pauses and floods in force have places of their own beside this list; here is what may act on a message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from settings.rules import Snapshot
from settings.rules.words import rule_words

MOST = 100  # rules of a lane


class AppliedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is for a lane's mail. `tag`: only that tag's; `domain`: only that one's, of several in the lane."""

    kind: str
    id: int
    name: str
    tag: str | None = None
    domain: str | None = None


class _LaneTraits(msgspec.Struct, frozen=True):
    ip: str
    pool: str
    group: str
    domains: Collection[str]
    remotes: Collection[str]


def applying(
    snapshot: Snapshot, ip: str, group: str, domains: Collection[str], remotes: Collection[str], now: float
) -> list[AppliedRule]:
    """The rules for a lane, by kind."""
    lane = _LaneTraits(ip, snapshot.pool_of(ip), group, domains, remotes)
    found = []
    for kind, rule in _for(snapshot, lane):
        if not rule.ended(now):
            found.append(
                AppliedRule(
                    kind=kind,
                    id=rule.id,
                    name=rule_words(kind, rule.shown()),
                    tag=getattr(rule, "tag", None),
                    domain=getattr(rule, "domain", None),
                )
            )
        if len(found) == MOST:
            break
    return found


def _for(snapshot: Snapshot, lane: _LaneTraits) -> Iterator[tuple[str, Any]]:
    for kind in ("errors", "pauses", "throttles", "floods", "warmups", "responses", "rewrites"):
        yield from ((kind, rule) for rule in snapshot.rules(kind) if _selects(rule, lane))
    for rule in snapshot.redirects:
        if lane.ip in (rule.from_ip, rule.to_ip) and _aims(rule, lane):
            yield "redirects", rule
    named = {"pools": ("name", lane.pool), "providers": ("name", lane.group), "mta-names": ("ip", lane.ip)}
    for kind, (field, value) in named.items():
        yield from ((kind, rule) for rule in snapshot.rules(kind) if value and getattr(rule, field) == value)
    yield from (("dns", rule) for rule in snapshot.dns if rule.name in lane.domains)
    yield from (("tags", rule) for rule in snapshot.rules("tags"))


def _selects(rule: Any, lane: _LaneTraits) -> bool:
    source = getattr(rule, "ip", None) in (None, lane.ip) and getattr(rule, "pool", None) in (None, lane.pool)
    return source and _aims(rule, lane)


def _aims(rule: Any, lane: _LaneTraits) -> bool:
    remote = getattr(rule, "remote_ip", None)
    if remote is not None:
        return remote in lane.remotes
    return rule.domain is None or rule.domain == lane.group or rule.domain in lane.domains
