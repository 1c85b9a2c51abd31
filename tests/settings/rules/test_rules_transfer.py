"""Export and import of all rules, and what forms know of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from settings.rules import KINDS, InvalidRule
from settings.rules.form import fields
from settings.rules.validate import read_only
from settings.store import RuleStore, Who
from tests.support.database import put_database

WHO = Who("anna")
RULES: list[tuple[str, dict[str, Any]]] = [
    ("throttles", {"domain": "a.example", "queue": 5}),
    ("floods", {"name": "x", "pattern": "y"}),
    ("pauses", {"tag": "news"}),
    ("redirects", {"from_ip": "192.0.2.1", "to_ip": "192.0.2.2"}),
    ("errors", {"tag": "news", "code": 554, "extended": "5.7.1"}),
    ("providers", {"name": "mine", "patterns": ["*.mine.example"]}),
    ("tags", {"name": "news", "weight": 5}),
    ("classes", {"name": "c", "pattern": "x", "meaning": "policy"}),
    ("responses", {"name": "r", "meaning": "spam-block", "another_ip": True, "add_tags": ["hot"]}),
    ("rewrites", {"name": "w", "when": "subject contains sale", "set_pool": "warm"}),
    ("dkim-keys", {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}),
    ("locals", {"pattern": "x@a.example"}),
    ("mta-names", {"ip": "192.0.2.1", "name": "x"}),
    ("dns", {"name": "a.example", "addresses": ["192.0.2.1"]}),
    ("schedules", {"name": "slow", "steps": ["1=50", "2=100/domain_connections=2"]}),
    ("warmups", {"schedule": "slow", "pool": "gold", "domain": "gmail"}),
    ("pools", {"name": "gold", "members": ["192.0.2.1", "192.0.2.2=3"]}),
    ("alerts", {"name": "bad", "email": ["ops@a.example"]}),
]


async def filled(store: RuleStore) -> dict[str, Any]:
    for kind, values in RULES:
        await store.create(kind, values, WHO, reason="because")
    document: dict[str, Any] = json.loads(json.dumps(store.export()))
    return document


async def test_what_was_exported_changes_nothing_where_it_came_from(store: RuleStore) -> None:
    """Importing one's own export is no change, however often."""
    document = await filled(store)
    before = store.snapshot
    result = await store.import_rules(document, WHO)
    assert (result.created, result.updated, result.unchanged, result.errors) == (0, 0, len(RULES), ())
    assert store.snapshot is before


async def test_an_export_makes_the_same_rules_elsewhere(store: RuleStore, tmp_path: Path) -> None:
    """All of them but DKIM keys, whose private half did not travel; that is said."""
    document = await filled(store)
    (tmp_path / "other").mkdir()
    put_database(tmp_path / "other")
    other = RuleStore("", tmp_path / "other")
    await other.start()
    result = await other.import_rules(document, WHO)
    assert result.created == len(RULES) - 1 and len(result.errors) == 1
    assert "dkim-keys[0]: key: is missing" in result.errors[0]
    for kind in KINDS:
        if kind != "dkim-keys":
            mine, theirs = ([rule.shown() | {"id": 0} for rule in one.list(kind)] for one in (store, other))
            assert theirs == mine
    await other.close()


async def test_what_cannot_be_imported_is_named_and_the_rest_goes_on(store: RuleStore) -> None:
    """A line says where each mistake is."""
    document = {
        "mailrace-rules": 1,
        "throttles": [{"domain": "a.example"}, {"domain": "no domain"}, 5, {"domain": "b.example"}],
        "redirects": [{"from_ip": "192.0.2.1", "to_ip": "192.0.2.2"}, {"from_ip": "192.0.2.2", "to_ip": "192.0.2.1"}],
        "dns": {},
        "nothing": [],
    }
    result = await store.import_rules(document, WHO)
    assert (result.created, len(store.list("throttles")), len(store.list("redirects"))) == (3, 2, 1)
    starts = (
        "nothing: is no kind",
        "throttles[2]: is no object",
        "dns: is no list",
        "throttles[1]: domain: ",
        "redirects[1]: to_ip: makes a loop",
    )
    assert len(result.errors) == len(starts)
    assert all(any(error.startswith(start) for error in result.errors) for start in starts)


async def test_an_imported_rule_replaces_the_one_about_the_same(store: RuleStore) -> None:
    """It keeps its id, and the audit has the change."""
    await store.create("throttles", {"domain": "a.example", "queue": 5}, WHO)
    result = await store.import_rules({"mailrace-rules": 1, "throttles": [{"domain": "A.example", "queue": 6}]}, WHO)
    (rule,) = store.list("throttles")
    assert (result.updated, rule.id, rule.shown()["queue"]) == (1, 1, 6)
    assert [record.action for record in await store.audit()] == ["update", "create"]


@pytest.mark.parametrize("document", [{}, {"mailrace-rules": 2}, [], "text"])
async def test_what_is_no_export_is_refused_whole(store: RuleStore, document: Any) -> None:
    """One line says what is allowed."""
    with pytest.raises(InvalidRule, match="documents that Mailrace has exported"):
        await store.import_rules(document, WHO)


@pytest.mark.parametrize("kind", KINDS)
def test_forms_know_every_field_of_a_kind(kind: str) -> None:
    """Fields, labels and bounds are the model's own; live figures come last and are read-only."""
    model = KINDS[kind]
    known = {field.name: field for field in fields(kind)}
    assert set(known) == {*model.model_fields, *model.model_computed_fields, *model.live}
    assert all(field.label for field in known.values())
    assert {name for name, field in known.items() if field.read_only} == {*read_only(model), *model.live}


def test_forms_know_bounds_units_and_choices() -> None:
    """What the model's types say."""
    known = {field.name: field for field in fields("throttles")}
    queue, security = known["queue"], known["connection_security"]
    assert (queue.input, queue.minimum, queue.unit, queue.group, queue.required) == (
        "whole",
        0,
        "deliveries",
        "Memory",
        False,
    )
    assert security.choices == ("off", "opportunistic", "required", "verified")
    keys = {field.name: field for field in fields("dkim-keys")}
    assert (keys["key"].input, keys["key"].write_only, keys["patterns"].input) == ("secret", True, "patterns")
    assert [f.input for f in fields("pauses") if f.name in ("until", "cluster")] == ["time", "flag"]
    assert {field.name for field in fields("redirects") if field.required} == {"from_ip", "to_ip"}
