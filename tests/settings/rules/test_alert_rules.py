"""Alert rules: what they may say, and their secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from settings.rules import InvalidRule, Snapshot
from settings.rules.alerting import MOST, AlertRule
from settings.rules.validate import validate
from settings.store import RuleStore, Who
from tests.support.database import put_database

URL = "https://hooks.example/services/T0KEN"


def made(**values: Any) -> AlertRule:
    """A rule as it is entered."""
    rule = validate("alerts", {"name": "a", **values}, Snapshot(), 0)
    assert isinstance(rule, AlertRule)
    return rule


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "webhook"),
        ({"webhook": "ftp://a.example/"}, "webhook"),
        ({"webhook": "https://a.example/x y"}, "webhook"),
        ({"webhook": "https://a.example:99999/"}, "webhook"),
        ({"email": ["nobody"]}, "email[0]"),
        ({"email": ["a@b.example\r\nBcc: x@y.example"]}, "email[0]"),
        ({"browser": True, "secret": "s"}, "secret"),
        ({"browser": True, "watch": "failures", "threshold": 101}, "threshold"),
        ({"browser": True, "watch": "fault", "threshold": 5}, "threshold"),
        ({"browser": True, "watch": "queue", "domain": "a.example"}, "domain"),
        ({"browser": True, "watch": "flood", "tag": "news"}, "tag"),
        ({"browser": True, "quiet": "at night"}, "quiet"),
        ({"browser": True, "time_zone": "Mars/Base"}, "time_zone"),
        ({"browser": True, "again": 1000}, "again"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_field(values: dict[str, Any], field: str) -> None:
    """With what is allowed, before anything is watched."""
    with pytest.raises(InvalidRule) as caught:
        made(**values)
    assert [error.field for error in caught.value.errors] == [field]


def test_a_webhook_and_its_secret_are_shown_nowhere() -> None:
    """Its server is: the rest of the address is as good as a password."""
    rule = made(webhook=URL, secret="s3cret")
    shown = json.dumps(rule.shown()) + repr(rule)
    assert "T0KEN" not in shown and "s3cret" not in shown
    assert (rule.webhook_at, rule.signed) == ("https://hooks.example/…", True)


def test_a_secret_that_is_not_given_stays_and_none_removes_it() -> None:
    """As a private key stays."""
    old = made(webhook=URL, secret="s3cret", email=["a@b.example"])
    same = validate("alerts", {"name": "a", "email": ["a@b.example"]}, Snapshot(), 0, old)
    assert isinstance(same, AlertRule) and same.revealed() == {"webhook": URL, "secret": "s3cret"}
    bare = validate("alerts", {"name": "a", "email": ["a@b.example"], "secret": "none"}, Snapshot(), 0, old)
    assert isinstance(bare, AlertRule) and bare.revealed() == {"webhook": URL}
    assert isinstance(old.webhook, SecretStr)


def test_there_are_no_more_rules_than_can_be_looked_at() -> None:
    """Each costs time every few seconds."""
    rules = [made(browser=True).model_copy(update={"id": n, "name": f"n{n}"}) for n in range(1, MOST + 1)]
    with pytest.raises(InvalidRule, match="allowed are no more"):
        validate("alerts", {"name": "a", "browser": True}, Snapshot({"alerts": rules}), 0)


async def test_secrets_are_encrypted_in_the_database(tmp_path: Path) -> None:
    """And come back; the audit has none."""
    put_database(tmp_path)
    store = RuleStore("", tmp_path)
    await store.start()
    rule = await store.create("alerts", {"name": "a", "webhook": URL, "secret": "s3cret"}, Who("anna"))
    audit = str(await store.audit())
    await store.close()
    assert b"T0KEN" not in (tmp_path / "rules.db").read_bytes() and "T0KEN" not in audit and "s3cret" not in audit
    again = RuleStore("", tmp_path)
    await again.start()
    assert again.list("alerts") == (rule,)
    await again.close()
