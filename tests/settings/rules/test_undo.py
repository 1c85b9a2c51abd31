"""Undo of what the audit has: as it was before, where nothing has come between."""

from __future__ import annotations

import datetime

import pytest

from settings.rules import InvalidRule
from settings.rules.words import changed_words, rule_words, told_words
from settings.store import AuditRecord, RuleStore, Who, undo, undoable

WHO = Who("anna", "192.0.2.9")
BEN = Who("ben")


async def last(store: RuleStore) -> AuditRecord:
    return (await store.audit(1))[0]


async def test_a_change_is_taken_back_days_later(store: RuleStore) -> None:
    """And the undo stands in the audit, with who did it."""
    rule = await store.create("throttles", {"domain": "a.example", "domain_messages": 600}, WHO)
    await store.update("throttles", rule.id, {"domain": "a.example", "domain_messages": 6}, WHO)
    await undo(store, await last(store), BEN)
    (now,) = store.snapshot.throttles
    assert now.domain_messages == 600
    assert ((await last(store)).who, (await last(store)).action) == ("ben", "update")


async def test_what_was_created_goes_and_what_was_deleted_comes_back(store: RuleStore) -> None:
    """Each with one undo."""
    rule = await store.create("locals", {"pattern": "a@here.example"}, WHO)
    await undo(store, await last(store), BEN)
    assert store.snapshot.locals == ()
    await undo(store, await last(store), BEN)
    assert [one.pattern for one in store.snapshot.locals] == ["a@here.example"]
    assert store.snapshot.locals[0].id != rule.id


async def test_nothing_is_undone_over_what_somebody_has_changed_since(store: RuleStore) -> None:
    """It says which field; nor what is gone."""
    rule = await store.create("throttles", {"domain": "a.example", "queue": 1}, WHO)
    await store.update("throttles", rule.id, {"domain": "a.example", "queue": 2}, WHO)
    change = await last(store)
    await store.update("throttles", rule.id, {"domain": "a.example", "queue": 3}, WHO)
    with pytest.raises(InvalidRule, match="changed since: queue"):
        await undo(store, change, BEN)
    await store.delete("throttles", rule.id, WHO)
    with pytest.raises(InvalidRule, match="deleted since"):
        await undo(store, change, BEN)


async def test_a_deleted_private_key_cannot_come_back(store: RuleStore) -> None:
    """It is not in the audit, so nobody offers it."""
    values = {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}
    rule = await store.create("dkim-keys", values, WHO)
    assert undoable(await last(store))
    await store.delete("dkim-keys", rule.id, WHO)
    assert not undoable(await last(store))


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("throttles", {"domain": "a.example"}, "limits of a.example from all MTA IPs"),
        ("throttles", {"ip": "192.0.2.1"}, "limits of all domains from 192.0.2.1"),
        ("pauses", {}, "pause of all mail"),
        ("pauses", {"ip": "192.0.2.1", "tag": "x"}, "pause of 192.0.2.1 to everywhere, tag x"),
        ("redirects", {"from_ip": "a", "to_ip": "b", "remote_ip": "c"}, "redirect from a to b, for c"),
        ("floods", {"name": "busy"}, "flood pattern busy"),
        ("messages", {"message": 7}, "message 7"),
        ("classes", {"name": "scored"}, "bounce class scored"),
        ("errors", {"domain": "typo.example"}, "forced error for all MTA IPs to typo.example"),
        ("suppressions", {"type": "address", "value": "a@b.example"}, "suppression of a@b.example"),
        ("responses", {"name": "dead"}, "response rule dead"),
    ],
)
def test_a_rule_has_a_name_in_words(kind: str, values: dict[str, str], words: str) -> None:
    """So that one reads what was changed, and not its number."""
    assert rule_words(kind, values) == words


def test_a_change_names_the_field_as_the_form_does() -> None:
    """With what it was and what it is."""
    said = changed_words("throttles", {"domain_messages": 600}, {"domain_messages": 6})
    assert said == [("Domain: Attempts", "600", "6")]


def test_what_a_rule_says_is_told_without_what_it_leaves_at_its_default() -> None:
    """By the labels of its form; lists and objects in words, a time as one that any zone can show."""
    until = {"domain": "a.example", "until": "2026-11-26T23:54:00Z", "cluster": False, "id": 7}
    at = datetime.datetime(2026, 11, 26, 23, 54, tzinfo=datetime.UTC)
    assert told_words("pauses", until) == [("Domain", "a.example"), ("Until", at)]
    pool = {"name": "news", "members": [{"ip": "192.0.2.1", "weight": 2}, {"ip": "192.0.2.2", "weight": 1}]}
    assert told_words("pools", pool)[1] == ("Members", "ip 192.0.2.1 weight 2, ip 192.0.2.2 weight 1")
    assert told_words("tags", {"name": "x", "weight": 1, "scope": "lane"}) == [("Tag", "x")]
