"""Explain: the rules of every kind that are for a lane's mail."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.views.state.applying import applying
from settings.rules import Pool, Snapshot
from settings.rules.models import PoolMember
from settings.rules.validate import parse

IP, OTHER = "192.0.2.1", "192.0.2.2"
FITTING: list[tuple[str, dict[str, Any]]] = [
    ("errors", {"tag": "news"}),
    ("errors", {"pool": "mine", "domain": "gmail"}),
    ("errors", {"remote_ip": "198.51.100.1"}),
    ("pauses", {"domain": "a.example"}),
    ("throttles", {"tag": "news", "domain_messages": 5}),
    ("floods", {"name": "f", "pattern": "x", "domain": "gmail"}),
    ("responses", {"name": "r", "ip": IP}),
    ("rewrites", {"name": "w", "delay": 5}),
    ("redirects", {"from_ip": IP, "to_ip": OTHER}),
    ("redirects", {"from_ip": OTHER, "to_ip": IP, "domain": "a.example"}),
    ("providers", {"name": "gmail", "patterns": ["*.google.com"]}),
    ("mta-names", {"ip": IP, "name": "one"}),
    ("dns", {"name": "a.example", "addresses": ["198.51.100.1"]}),
    ("tags", {"name": "news"}),
    ("warmups", {"schedule": "slow", "pool": "mine"}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("errors", {"domain": "b.example"}),
    ("errors", {"ip": OTHER}),
    ("errors", {"remote_ip": "198.51.100.9"}),
    ("pauses", {"domain": "a.example", "until": "2000-01-01T00:00:00Z"}),
    ("responses", {"name": "r", "pool": "theirs"}),
    ("redirects", {"from_ip": OTHER, "to_ip": "192.0.2.3"}),
    ("providers", {"name": "yahoo", "patterns": ["*.yahoodns.net"]}),
    ("warmups", {"schedule": "slow", "ip": OTHER}),
]


def found(kind: str, values: dict[str, Any]) -> list[tuple[str, int]]:
    rule = parse(kind, values).model_copy(update={"id": 7})
    pool = Pool(id=1, name="mine", members=(PoolMember(ip=IP),))
    snapshot = Snapshot({"pools": [pool], kind: [rule]})
    rules = applying(snapshot, IP, "gmail", {"a.example"}, {"198.51.100.1"}, 1_800_000_000.0)
    return [(one.kind, one.id) for one in rules if one.kind != "pools"]


@pytest.mark.parametrize(("kind", "values"), FITTING)
def test_a_rule_for_the_lane_is_named(kind: str, values: dict[str, Any]) -> None:
    """By MTA IP, pool, domain, provider or remote IP; one for a tag says so."""
    assert found(kind, values) == [(kind, 7)]


@pytest.mark.parametrize(("kind", "values"), OTHERS)
def test_a_rule_for_others_is_not(kind: str, values: dict[str, Any]) -> None:
    """Nor one that has ended."""
    assert found(kind, values) == []
