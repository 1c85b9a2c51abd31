"""Look-ups: what a message meets."""

from __future__ import annotations

from typing import Any

from settings.rules import KINDS, Snapshot
from settings.rules import key_pairs as keys

NOW = 1_800_000_000.0  # 2027-01-15
PAST, FUTURE = "2026-12-31T00:00:00Z", "2028-01-01T00:00:00Z"
IP, OTHER, REMOTE = "192.0.2.1", "192.0.2.2", "198.51.100.1"


def snapshot(kind: str, *rules: dict[str, Any]) -> Snapshot:
    return Snapshot({kind: [KINDS[kind].model_validate({"id": i, **rule}) for i, rule in enumerate(rules, 1)]})


def held(
    rules: Snapshot, ip: str = IP, domain: str = "a.example", remote: str = REMOTE, tags: tuple[str, ...] = ()
) -> set[int]:
    return {rule.id for rule in rules.pauses_for(ip, domain, remote, tags, NOW)}


def test_a_pause_holds_what_it_is_about() -> None:
    """By MTA IP, domain or remote IP, each of them or all."""
    rules = snapshot(
        "pauses", {"ip": IP}, {"domain": "a.example"}, {"remote_ip": REMOTE}, {"ip": OTHER, "domain": "a.example"}
    )
    assert held(rules) == {1, 2, 3}
    assert held(rules, ip=OTHER, remote="") == {2, 4}
    assert held(rules, ip=OTHER, domain="b.example", remote="") == set()


def test_a_pause_of_everything_holds_everything() -> None:
    """All to all, whatever is known of the message."""
    rules = snapshot("pauses", {})
    assert held(rules) == held(rules, ip="", domain="", remote="") == {1}


def test_a_pause_with_a_tag_holds_messages_with_it() -> None:
    """The tag is one of the message's own."""
    rules = snapshot("pauses", {"tag": "news"})
    assert held(rules, tags=("x", "news")) == {1} and held(rules, tags=("x",)) == held(rules) == set()


def test_a_pause_that_has_ended_holds_nothing() -> None:
    """At once, whether it was removed yet or not."""
    rules = snapshot("pauses", {"until": PAST}, {"until": FUTURE})
    assert held(rules) == {2}


def test_a_domain_is_found_in_any_form() -> None:
    """Case, a final dot and U-labels make no difference."""
    rules = snapshot("pauses", {"domain": "bücher.example"})
    assert all(
        held(rules, domain=name) for name in ("xn--bcher-kva.example", "BÜCHER.Example", "xn--bcher-kva.EXAMPLE.")
    )


def test_a_redirect_of_the_domain_goes_before_those_of_a_server_and_of_all() -> None:
    """The most specific target decides; each is one step."""
    to = [{"from_ip": IP, "to_ip": f"192.0.2.{n}"} for n in (3, 4, 5)]
    rules = snapshot("redirects", to[0], {**to[1], "remote_ip": REMOTE}, {**to[2], "domain": "a.example"})

    def step(domain: str, *remotes: str) -> int | None:
        rule = rules.redirect(IP, domain, remotes, NOW)
        return rule.id if rule else None

    assert (step("a.example", REMOTE), step("b.example", "203.0.113.9", REMOTE), step("b.example")) == (3, 2, 1)
    assert rules.redirect(OTHER, "a.example", (REMOTE,), NOW) is None


def test_a_redirect_that_has_ended_gives_way_to_the_next() -> None:
    """An ended rule of the domain leaves the one for all."""
    rules = snapshot(
        "redirects",
        {"from_ip": IP, "to_ip": OTHER, "domain": "a.example", "until": PAST},
        {"from_ip": IP, "to_ip": OTHER},
    )
    found = rules.redirect(IP, "a.example", (), NOW)
    assert found is not None and found.id == 2


def test_the_first_flood_pattern_in_the_operators_order_wins() -> None:
    """Matched against code, status and description as received, in any case."""
    rules = snapshot(
        "floods",
        {"name": "late", "pattern": "too many", "order": 9},
        {"name": "early", "pattern": "TOO MANY CONN", "order": 2},
        {"name": "code", "type": "regex", "pattern": r"^452 4\.5\.3", "order": 5},
    )

    def name(*answer: Any) -> str | None:
        rule = rules.flood_match(*answer)
        return rule.name if rule else None

    assert name(421, "4.7.0", "Too many connections") == "early"
    assert name(452, "4.5.3", "too many") == "code"
    assert name(450, None, "too many messages") == "late"
    assert name(None, None, "closed") is None


def test_overrides_and_names_are_found() -> None:
    """DNS overrides by domain; MTA names by address."""
    assert snapshot("dns", {"name": "a.example", "addresses": [IP, REMOTE]}).dns_override("A.example.") == (IP, REMOTE)
    names = snapshot("mta-names", {"ip": IP, "name": "first"}, {"ip": OTHER, "ehlo": "mx.example"})
    assert (names.mta_name(IP), names.ehlo_name(IP)) == ("first", None)
    assert (names.mta_name(OTHER), names.ehlo_name(OTHER)) == (None, "mx.example")
    assert (names.mta_name(REMOTE), names.dns_override("a.example")) == (None, None)


def test_local_addresses_are_matched_whole() -> None:
    """Exact ones by letter, the others by pattern; case never matters."""
    rules = snapshot("locals", {"pattern": "Info@a.example"}, {"type": "wildcard", "pattern": "*@b.example"})
    assert rules.is_local("info@A.example") and rules.is_local("x@b.example")
    assert not rules.is_local("info@a.example.org") and not rules.is_local("x@a.example")


def test_a_key_signs_for_its_own_domain_or_for_its_patterns() -> None:
    """All that match sign, until they expire."""
    key = {"key": keys.generate("ed25519")}
    rules = snapshot(
        "dkim-keys",
        {"domain": "a.example", "selector": "own", **key},
        {
            "domain": "b.example",
            "selector": "pattern",
            "patterns": [{"type": "wildcard", "pattern": "*.example"}],
            **key,
        },
        {"domain": "a.example", "selector": "old", "expire": PAST, **key},
        {"domain": "c.example", "selector": "all", "patterns": [{"type": "global"}], "expire": FUTURE, **key},
    )

    def selectors(domain: str, now: float = NOW) -> list[str]:
        return [rule.selector for rule in rules.dkim_keys_for(domain, now)]

    assert selectors("A.example") == ["own", "pattern", "all"]
    assert selectors("sub.a.example") == ["pattern", "all"]
    assert selectors("a.org") == ["all"]
    assert selectors("a.example", NOW + 1e9) == ["own", "pattern"]


def test_without_rules_nothing_is_found() -> None:
    """The empty snapshot answers every look-up."""
    empty = Snapshot()
    assert empty.pauses_for(IP, "a.example", REMOTE, ("x",), NOW) == () == empty.dkim_keys_for("a.example", NOW)
    assert empty.redirect(IP, "a.example", (REMOTE,), NOW) is None is empty.flood_match(421, None, "x")
    assert not empty.is_local("a@a.example") and empty.dns_override("a.example") is None is empty.next_end()
