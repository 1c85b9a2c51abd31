"""Which limits hold: (IP, domain), (domain), (IP), general, configuration; field by field."""

from __future__ import annotations

from typing import Any

import pytest

from settings.rules import InvalidRule, Pause, Pool, Snapshot, Throttle
from settings.rules.limits import Limits
from settings.rules.models import PoolMember
from settings.rules.validate import parse

IP, OTHER = "192.0.2.1", "192.0.2.2"
A, B = "a.example", "b.example"


def throttles(*rules: dict[str, Any]) -> Snapshot:
    return Snapshot({"throttles": [Throttle.model_validate({"id": i, **rule}) for i, rule in enumerate(rules, 1)]})


BOTH = {"ip": IP, "domain": A, "domain_messages": 1}
DOMAIN = {"domain": A, "domain_messages": 2}
ADDRESS = {"ip": IP, "domain_messages": 3}
GENERAL = {"domain_messages": 4}
ALL = (GENERAL, ADDRESS, DOMAIN, BOTH)
BUT = {**BOTH, "domain_messages": None}

CASES: dict[str, tuple[tuple[dict[str, Any], ...], str, str, int]] = {
    "without rules the configuration": ((), IP, A, 9),
    "the general rule before the configuration": ((GENERAL,), IP, A, 4),
    "the address before the general rule": ((GENERAL, ADDRESS), IP, A, 3),
    "the domain before the address": ((GENERAL, ADDRESS, DOMAIN), IP, A, 2),
    "address and domain before all": (ALL, IP, A, 1),
    "whatever order they were made in": ((BOTH, DOMAIN, ADDRESS, GENERAL), IP, A, 1),
    "another address has the domain's": (ALL, OTHER, A, 2),
    "another domain has the address's": (ALL, IP, B, 3),
    "another of both has the general one": (ALL, OTHER, B, 4),
    "another of both without a general one has the configuration": ((ADDRESS, DOMAIN, BOTH), OTHER, B, 9),
    "empty falls through to the domain": ((GENERAL, ADDRESS, DOMAIN, BUT), IP, A, 2),
    "empty falls through to the address": ((GENERAL, ADDRESS, BUT), IP, A, 3),
    "empty falls through to the general rule": ((GENERAL, BUT), IP, A, 4),
    "empty falls through to the configuration": ((BUT,), IP, A, 9),
    "0 is unlimited, and does not fall through": ((GENERAL, ADDRESS, DOMAIN, {**BOTH, "domain_messages": 0}), IP, A, 0),
    "0 for the domain goes before the address's": ((ADDRESS, {**DOMAIN, "domain_messages": 0}), IP, A, 0),
    "0 in general goes before the configuration": (({"domain_messages": 0},), IP, A, 0),
    "case and a final dot make no difference": (ALL, IP, "A.Example.", 1),
    "a subdomain is another domain": ((DOMAIN,), IP, f"x.{A}", 9),
    "an unknown address has the domain's": (ALL, "", A, 2),
}


@pytest.mark.parametrize(("rules", "ip", "domain", "expected"), CASES.values(), ids=CASES.keys())
def test_the_most_specific_rule_that_says_something_decides(rules: Any, ip: str, domain: str, expected: int) -> None:
    """Specificity and fall-through, the configuration's limit being 9."""
    assert throttles(*rules).limits(ip, domain, Limits(domain_messages=9)).domain_messages == expected


def test_each_field_is_decided_by_itself() -> None:
    """One lane can have every field from another rule."""
    snapshot = throttles(
        {"ip": IP, "domain": A, "domain_messages": 1},
        {"domain": A, "domain_messages": 2, "domain_connects": 2, "connection_security": "required"},
        {"ip": IP, "domain_connects": 3, "ip_connections": 3, "connection_idle": 0},
        {"ip_connections": 4, "queue": 4, "connection_messages": 0},
    )
    assert snapshot.limits(IP, A, Limits(connection_messages=9, ip_messages=9)) == Limits(
        domain_messages=1, domain_connects=2, connection_security="required", ip_connections=3, connection_idle=0,
        queue=4, connection_messages=0, ip_messages=9,
    )  # fmt: skip


def test_the_explanation_names_the_rule_of_each_field() -> None:
    """What the console explains is what the lane does: the rule for each field, None for the configuration."""
    snapshot = throttles({"domain": A, "domain_messages": 2}, {"queue": 0})
    why = snapshot.explain_limits(IP, A)
    assert {field: rule.id for field, rule in why.items() if rule} == {"domain_messages": 1, "queue": 2}
    assert set(why) == set(Limits.__struct_fields__)


GROUPS: dict[str, tuple[str, Any, Any, Any]] = {
    "the lower number": ("domain_messages", 60, 30, 30),
    "a number before unlimited": ("domain_messages", 0, 30, 30),
    "unlimited only where all are": ("domain_messages", 0, 0, 0),
    "the one that says something": ("domain_messages", None, 30, 30),
    "the stronger security": ("connection_security", "verified", "off", "verified"),
    "the shorter idle time, even none": ("connection_idle", 0, 5, 0),
}


@pytest.mark.parametrize(("field", "first", "second", "expected"), GROUPS.values(), ids=GROUPS.keys())
def test_domains_that_share_servers_have_the_strictest_limits(
    field: str, first: Any, second: Any, expected: Any
) -> None:
    """Among rules of one rank for the domains of a destination group the strictest holds."""
    snapshot = throttles({"domain": A, field: first}, {"domain": B, field: second})
    for group in ((A, B), (B, A)):
        assert getattr(snapshot.limits(IP, group, Limits()), field) == expected


def test_a_more_specific_rule_of_a_group_goes_before_a_stricter_one() -> None:
    """Specificity comes first, strictness only within one rank."""
    snapshot = throttles({"ip": IP, "domain": A, "queue": 50}, {"domain": B, "queue": 10})
    assert snapshot.limits(IP, (A, B), Limits()).queue == 50


def test_changed_defaults_hold_at_once() -> None:
    """The cache of resolved limits does not outlive the configuration it was made with."""
    snapshot = throttles({"domain": A, "queue": 1})
    assert [snapshot.limits(IP, A, Limits(ip_messages=n)).ip_messages for n in (5, 6, 5)] == [5, 6, 5]


def test_a_flood_patterns_limits_go_over_the_lanes() -> None:
    """Reduced is the lane's own limits with what the pattern sets in their place; 0 is unlimited there too."""
    reduced = Throttle.model_validate({"domain_messages": 5, "ip_connections": 0})
    assert reduced.over(Limits(domain_messages=60, queue=7)) == Limits(domain_messages=5, ip_connections=0, queue=7)


# -- pools and tags

MINE = Pool(id=1, name="mine", members=(PoolMember(ip=IP),))


def with_pool(*rules: dict[str, Any]) -> Snapshot:
    made = [Throttle.model_validate({"id": i, **rule}) for i, rule in enumerate(rules, 1)]
    return Snapshot({"throttles": made, "pools": [MINE]})


def test_a_pool_comes_after_its_mta_ip_and_before_all() -> None:
    """With a domain and without one."""
    rules = ({"pool": "mine", "domain_messages": 5}, GENERAL, {"pool": "mine", "domain": A, "domain_messages": 6})
    defaults = Limits(domain_messages=9)
    assert with_pool(*rules).limits(IP, B, defaults).domain_messages == 5
    assert with_pool(*rules).limits(IP, A, defaults).domain_messages == 6
    assert with_pool(*rules).limits(OTHER, A, defaults).domain_messages == 4
    assert with_pool(*rules, ADDRESS).limits(IP, B, defaults).domain_messages == 3
    assert with_pool(*rules, BOTH).limits(IP, A, defaults).domain_messages == 1


def test_a_throttle_of_a_tag_is_for_that_tags_mail_alone() -> None:
    """It is no limit of the lane; the most specific one holds."""
    tagged = {"tag": "news", "domain_messages": 7}
    snapshot = with_pool(tagged, {**tagged, "domain": A, "domain_messages": 8}, {**tagged, "pool": "mine", "domain": A})
    assert snapshot.limits(IP, A, Limits(domain_messages=9)).domain_messages == 9
    found = {where: snapshot.tag_throttle(*where, "news") for where in ((IP, (A,)), (OTHER, (A,)), (IP, (B,)))}
    assert [rule.id for rule in found.values() if rule is not None] == [3, 2, 1]
    assert snapshot.tag_throttle(IP, (A,), "other") is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"tag": "news"}, "domain_messages"),
        ({"tag": "news", "domain_messages": 1, "ip_connections": 2}, "ip_connections"),
        ({"scope": "all", "domain_messages": 1}, "scope"),
        ({"ip": IP, "pool": "mine", "domain_messages": 1}, "pool"),
    ],
)
def test_what_a_throttle_cannot_do_is_refused(values: dict[str, Any], field: str) -> None:
    """A tag has a rate and nothing else; an MTA IP or a pool."""
    with pytest.raises(InvalidRule) as refused:
        parse("throttles", values)
    assert refused.value.errors[0].field == field


def test_a_pause_of_a_pool_holds_mail_from_its_members() -> None:
    """And no other's."""
    pause = Pause(id=1, pool="mine")
    snapshot = Snapshot({"pauses": [pause], "pools": [MINE]})
    assert snapshot.pauses_for(IP, A, "", (), 0.0) == (pause,)
    assert snapshot.pauses_for(OTHER, A, "", (), 0.0) == ()
