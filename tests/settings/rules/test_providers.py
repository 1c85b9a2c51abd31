"""Providers: domains with the same mail servers are one destination, and rules may name it."""

from __future__ import annotations

import pytest

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next
from operators.mail.message import from_properties
from operators.stages.hold import hold
from operators.stages.redirect import redirect
from operators.stages.resolve import _resolved
from pipeline.views.catalogue import adopt, entries
from settings.rules import KINDS, Pause, Redirect, Snapshot, Throttle
from settings.rules.limits import Limits
from settings.rules.shipped import CATALOGUE, PROVIDERS
from settings.rules.tenants import ProviderRule
from settings.store import RuleStore, Who
from tests.operators.test_force import through


def delivery(host: str = "gmail-smtp-in.l.google.com", group: str = "gmail.com") -> Delivery:
    message = from_properties({"recipient": "u@gmail.com", "mime": "x"})
    found = Route(group, (Target(host, "127.1.0.1"),))
    made = Delivery(lease=Lease(1, b""), message=message, domain="gmail.com", ip="127.0.0.1")
    return _resolved(made, found, Snapshot().provider_of)


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("gmail-smtp-in.l.google.com", "gmail"),
        ("ASPMX.L.GOOGLE.COM.", "gmail"),
        ("mta7.am0.yahoodns.net", "yahoo"),
        ("example-com.mail.protection.outlook.com", "microsoft"),
        ("mx.google.com.evil.example", None),
        ("google.com", None),
        ("notgoogle.com", None),
        ("mail.example.org", None),
    ],
)
def test_the_best_mx_host_tells_the_provider(host: str, provider: str | None) -> None:
    """Whole labels, from the right."""
    assert Snapshot().provider_of(host) == provider
    assert (delivery(host).route or Route("", ())).group == (provider or "gmail.com")


def test_a_provider_of_the_operator_replaces_a_shipped_one() -> None:
    """The longest pattern counts."""
    own = [
        ProviderRule(id=1, name="gmail", patterns=("*.mx.mine.example",)),
        ProviderRule(id=2, name="eu", patterns=("*.eu.mine.example",)),
    ]
    rules = Snapshot({"providers": own})
    assert rules.provider_of("aspmx.l.google.com") is None
    assert rules.provider_of("a.mx.mine.example") == "gmail"
    assert rules.provider_of("a.eu.mine.example") == "eu"


def test_rules_name_a_provider_as_a_domain() -> None:
    """Pauses, redirects and limits."""
    item = delivery()
    paused = through(hold(lambda: Snapshot({"pauses": [Pause(id=7, domain="gmail")]}), lambda: 0.0), item).outcome
    assert paused is not None and paused.next is Next.PARK
    rules = Snapshot({"redirects": [Redirect(id=1, from_ip="127.0.0.1", to_ip="127.0.0.2", domain="gmail")]})
    moved = through(redirect(lambda: rules, lambda: 0.0, lambda *_: None, lambda *_: None), item)
    assert moved.ip == "127.0.0.2"
    limits = Snapshot({"throttles": [Throttle(id=1, domain="gmail", domain_messages=60)]})
    assert limits.limits("127.0.0.1", ("gmail.com", "gmail"), Limits()).domain_messages == 60


def test_every_shipped_rule_is_one_of_a_shipped_provider() -> None:
    """And can be used as it is, with its source."""
    for one in CATALOGUE:
        assert one.provider in PROVIDERS and one.values["domain"] == one.provider
        KINDS[one.kind].model_validate(one.values)
        assert one.source.startswith("https://")


async def test_a_shipped_rule_is_off_until_it_is_adopted(store: RuleStore) -> None:
    """Then it is an ordinary rule; one that the operator has changed stays as it is, and that is shown."""
    assert {entry.state for entry in entries(store.snapshot)} == {"off"}
    done = await adopt(store, Who("anna"), provider="gmail")
    assert len(done) == 2 and all(e.state == "adopted" for e in entries(store.snapshot) if e.provider == "gmail")
    throttle = store.snapshot.throttles[0]
    await store.update("throttles", throttle.id, {"domain": "gmail", "ip_connections": 3}, Who("anna"))
    states = {entry.kind: entry.state for entry in entries(store.snapshot) if entry.provider == "gmail"}
    assert states == {"floods": "adopted", "throttles": "changed"}
    assert await adopt(store, Who("anna"), number=entries(store.snapshot)[0].number) == []
