"""What makes a rule, and what each refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from settings.rules import KINDS, InvalidRule, NoSuchRule, Rule, Snapshot
from settings.rules import key_pairs as keys
from settings.rules.validate import complete, validate

NOW = 1_800_000_000.0  # 2027-01-15
PAST, FUTURE = "2026-12-31T00:00:00Z", "2028-01-01T00:00:00Z"
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> str:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    text: bytes = key.private_bytes(Encoding.PEM, form, how)
    return text.decode()


def made(kind: str, values: dict[str, Any], *others: Rule) -> Rule:
    """The rule, checked against others that are stored."""
    by_kind: dict[str, list[Rule]] = {kind: list(others)}
    return validate(kind, values, Snapshot(by_kind), NOW)


def stored(kind: str, id_: int, **values: Any) -> Rule:
    return KINDS[kind].model_validate({"id": id_, **values})


DKIM = {"domain": "a.example", "selector": "s"}
GOOD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("throttles", {"domain": " Bücher.Example. "}, {"domain": "xn--bcher-kva.example"}),
    ("throttles", {"ip": "2001:DB8:0::1", "domain": ""}, {"ip": "2001:db8::1", "domain": None}),
    ("throttles", {"ip": "::ffff:192.0.2.1"}, {"ip": "192.0.2.1"}),
    ("throttles", {"domain": "[192.0.2.1]"}, {"domain": "[192.0.2.1]"}),
    ("throttles", {"queue": "0", "ip_connects": ""}, {"queue": 0, "ip_connects": None}),
    ("throttles", {"connection_idle": "2.5"}, {"connection_idle": 2.5}),
    ("pauses", {}, {"ip": None, "domain": None, "remote_ip": None, "tag": None, "until": None}),
    ("pauses", {"until": "2028-01-01 12:00:00"}, {"until": "2028-01-01T12:00:00Z"}),
    ("pauses", {"until": "2028-01-01T12:00:00.9+02:00"}, {"until": "2028-01-01T10:00:00Z"}),
    ("pauses", {"held": 5, "reason": "forged", "instance": "x", "id": 7}, {"reason": None, "instance": None, "id": 0}),
    ("dns", {"name": "a.example", "addresses": "192.0.2.1, 192.0.2.1;::1"}, {"addresses": ["192.0.2.1", "::1"]}),
    ("dkim-keys", {"domain": "a.example", "selector": "S1", "generate": True}, {"selector": "s1"}),
    ("dkim-keys", {"domain": "a.example", "selector": "s", "key": pem(WEAK)}, {"algorithm": "rsa"}),
    ("dkim-keys", {**DKIM, "key": pem(WEAK, PrivateFormat.TraditionalOpenSSL)}, {"algorithm": "rsa"}),
    ("dkim-keys", {"domain": "a.example", "selector": "s", "key": keys.generate("ed25519")}, {"algorithm": "ed25519"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "expected"), GOOD)
def test_what_was_entered_is_cleaned(kind: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    """Names in A-labels, addresses and times in one form; empty text is nothing; read-only fields are ignored."""
    shown = made(kind, values).shown()
    assert {name: shown[name] for name in expected} == expected


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("throttles", {"ip": "192.0.2"}, "ip", "no IP address; allowed are"),
    ("throttles", {"ip": "0.0.0.0"}, "ip", "unicast"),
    ("throttles", {"ip": "fe80::1%eth0"}, "ip", "zone"),
    ("throttles", {"domain": "a b.example"}, "domain", "allowed are labels"),
    ("throttles", {"domain": "-a.example"}, "domain", "allowed are labels"),
    ("throttles", {"domain": "192.0.2.1"}, "domain", "looks like an IP address"),
    ("throttles", {"domain": "[192.0.2]"}, "domain", "address literal"),
    ("throttles", {"domain": "a..example"}, "domain", "allowed are labels"),
    ("throttles", {"domain": ("a" * 63 + ".") * 4 + "example"}, "domain", "allowed are labels"),
    ("throttles", {"queue": -1}, "queue", "allowed is 0 or more"),
    ("throttles", {"queue": 2**40}, "queue", "allowed is 1000000000 or less"),
    ("throttles", {"queue": "many"}, "queue", "whole number"),
    ("throttles", {"queue": True}, "queue", "number"),
    ("throttles", {"connection_idle": "nan"}, "connection_idle", "number"),
    ("throttles", {"connection_security": "maybe"}, "connection_security", "'opportunistic'"),
    ("throttles", {"quota": 5}, "quota", "no field of this rule; allowed are"),
    ("floods", {"name": "", "pattern": "x"}, "name", "needed"),
    ("floods", {"pattern": "x"}, "name", "needed"),
    ("floods", {"name": "x", "type": "regex", "pattern": "(?=x)"}, "pattern", "allowed is RE2"),
    ("pauses", {"domain": "a.example", "remote_ip": "192.0.2.1"}, "remote_ip", "one of both"),
    ("pauses", {"ip": "2001:db8::1", "remote_ip": "192.0.2.1"}, "remote_ip", "IPv4 with IPv4"),
    ("pauses", {"until": "tomorrow"}, "until", "allowed is ISO 8601"),
    ("pauses", {"until": "2028-13-01T00:00:00Z"}, "until", "allowed is ISO 8601"),
    ("pauses", {"until": PAST}, "until", "is past"),
    ("pauses", {"cluster": "perhaps"}, "cluster", "true or false"),
    ("pauses", {"cluster": 0}, "cluster", "true or false"),  # K15: JSON has booleans of its own
    ("pauses", {"cluster": "no"}, "cluster", "true or false"),
    ("redirects", {"from_ip": "192.0.2.1"}, "to_ip", "needed"),
    ("classes", {"name": "x", "pattern": "(", "type": "regex", "meaning": "policy"}, "pattern", "does not compile"),
    ("classes", {"name": "x", "pattern": "x", "meaning": "bad"}, "meaning", "is none of these"),
    ("responses", {"name": "x", "fail": True, "retry": 5}, "retry", "allowed is one of both"),
    ("responses", {"name": "x", "set_message": ["/recipient=a@b.example"]}, "set_message[0]", "cannot be set"),
    ("responses", {"name": "x", "set_message": ["x=1"]}, "set_message[0]", "allowed is a JSON Pointer"),
    ("rewrites", {"name": "x", "when": "subject has x"}, "when", "allowed is envelope"),
    ("rewrites", {"name": "x", "when": "subject matches \"(\""}, "when", "does not compile"),
    ("rewrites", {"name": "x", "hours": "25:00-01:00"}, "hours", "no time of day"),
    ("rewrites", {"name": "x", "header": "no field"}, "header", "a name, a colon"),
    ("rewrites", {"name": "x", "smarthost": "a b"}, "smarthost", "host:port"),
    ("rewrites", {"name": "x", "fail": 450}, "fail", "allowed is 500"),
    ("providers", {"name": "no.dot", "patterns": ["*.a.example"]}, "name", "no dot"),
    ("providers", {"name": "x", "patterns": ["mx*.a.example"]}, "patterns[0]", "allowed are such as"),
    ("providers", {"name": "x", "patterns": []}, "patterns", "needed is 1"),
    ("tags", {"name": "x", "weight": 0}, "weight", "allowed is 1"),
    ("tags", {"name": "x", "colour": "red"}, "colour", ""),
    ("floods", {"name": "x", "pattern": "y", "percent": 101}, "percent", "allowed is 100"),
    ("errors", {"code": 354}, "code", "allowed are 200 to 299"),
    ("errors", {"code": 199}, "code", "allowed is 200"),
    ("errors", {"code": 600}, "code", "allowed is 599"),
    ("errors", {"code": 550, "extended": "4.7.1"}, "extended", "allowed is 5.x.x"),
    ("errors", {"extended": "5.7"}, "extended", "allowed are such as"),
    ("errors", {"ip": "192.0.2.1", "pool": "p"}, "pool", "allowed is one of both"),
    ("errors", {"pool": "a b"}, "pool", "letters, digits"),
    ("errors", {"domain": "a.example", "remote_ip": "192.0.2.1"}, "remote_ip", "allowed is one of both"),
    ("pools", {"name": "no space"}, "name", "allowed are 1 to 64 letters, digits, - and _"),
    ("pools", {"name": "x", "members": ["192.0.2.1=101"]}, "members[0].weight", "allowed is 100 or less"),
    ("pools", {"name": "x", "members": ["192.0.2.1=0"]}, "members[0].weight", "allowed is 1 or more"),
    ("pools", {"name": "x", "members": ["192.0.2.1=many"]}, "members[0].weight", "is no number"),
    ("pools", {"name": "x", "members": ["a.example"]}, "members[0].ip", "is no IP address"),
    ("pools", {"name": "x", "members": ["192.0.2.1", "::ffff:192.0.2.1=2"]}, "members", "192.0.2.1 is there twice"),
    ("redirects", {"from_ip": "192.0.2.1", "to_ip": "192.0.2.1"}, "to_ip", "loop for all mail: 192.0.2.1 > 192.0.2.1"),
    ("dkim-keys", DKIM, "key", "is missing; allowed is"),
    ("dkim-keys", {**DKIM, "key": "secret nonsense"}, "key", "allowed is an unencrypted PEM private key"),
    ("dkim-keys", {**DKIM, "key": pem(WEAK, password=b"x")}, "key", "allowed is an unencrypted PEM private key"),
    ("dkim-keys", {**DKIM, "key": pem(ec.generate_private_key(ec.SECP256R1()))}, "key", "another algorithm"),
    ("dkim-keys", {**DKIM, "key": pem(WEAK), "generate": True}, "generate", "one of both"),
    ("dkim-keys", {**DKIM, "key": pem(WEAK), "algorithm": "ed25519"}, "algorithm", "the key is rsa"),
    ("dkim-keys", {**DKIM, "selector": "a_b", "generate": True}, "selector", "allowed are labels"),
    ("dkim-keys", {**DKIM, "headers": ["Sub ject"], "generate": True}, "headers[0]", "no header name"),
    ("dkim-keys", {**DKIM, "canonicalization": "strict", "generate": True}, "canonicalization", "'relaxed/simple'"),
    ("dkim-keys", {**DKIM, "patterns": [{"type": "regex", "pattern": "("}]}, "patterns[0].pattern", "RE2"),
    ("locals", {"type": "global", "pattern": "x"}, "type", "'wildcard'"),
    ("mta-names", {"ip": "192.0.2.1"}, "name", "at least one"),
    ("mta-names", {"ip": "192.0.2.1", "ehlo": "my host"}, "ehlo", "no domain name"),
    ("dns", {"name": "a.example", "addresses": ""}, "addresses", "at least"),
    ("dns", {"name": "a.example", "addresses": ["mx.example"]}, "addresses[0]", "no IP address"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "field", "text"), BAD)
def test_what_cannot_be_used_is_one_clear_line(kind: str, values: dict[str, Any], field: str, text: str) -> None:
    """The error names the field and what is allowed there, on one line, and quotes no key."""
    with pytest.raises(InvalidRule) as caught:
        made(kind, values)
    (error,) = caught.value.errors
    assert error.field == field and text in error.message
    assert "\n" not in str(error) and "nonsense" not in str(error) and "BEGIN" not in str(error)


def test_all_mistakes_are_told_at_once() -> None:
    """One line for each field."""
    with pytest.raises(InvalidRule) as caught:
        made("throttles", {"ip": "x", "domain": "a b", "queue": -1})
    assert {error.field for error in caught.value.errors} == {"ip", "domain", "queue"}


TEXTS = [
    (kind, name) for kind, model in KINDS.items() for name, field in model.model_fields.items() if name not in ("id",)
]


@pytest.mark.parametrize(("kind", "name"), TEXTS)
@pytest.mark.parametrize("control", ["\r\n", "\n", "\r", "\0", "\u2028", "\x85"])
def test_control_characters_are_refused_everywhere(kind: str, name: str, control: str) -> None:
    """No text of a rule can end a line, wherever the rule is used (SMTP smuggling, header and log injection)."""
    needed: dict[str, Any] = {
        "name": "x",
        "pattern": "x",
        "from_ip": "192.0.2.1",
        "to_ip": "192.0.2.2",
        "ip": "192.0.2.3",
        "ehlo": "a.example",
    }
    needed |= {
        "domain": "a.example",
        "selector": "s",
        "generate": True,
        "addresses": ["192.0.2.1"],
        "type": "substring",
    }
    values = {n: v for n, v in needed.items() if n in KINDS[kind].model_fields and n != name}
    needed["meaning"] = "policy"
    values = {n: v for n, v in needed.items() if n in KINDS[kind].model_fields and n != name}
    if kind == "dns":
        values["name"] = "a.example"
    text = f"a{control}RCPT TO:<x@y.example>"
    try:
        shown = made(kind, {**values, name: text}).shown()
    except InvalidRule:
        return
    assert name in ("reason", "instance") and shown[name] is None  # ours to write: what is sent is ignored


@given(st.text(max_size=40))
def test_whatever_is_entered_makes_a_rule_or_a_line(text: str) -> None:
    """No text brings down validation, and what passes is the same when it is entered again."""
    for kind, name in (("throttles", "domain"), ("throttles", "ip"), ("locals", "pattern"), ("pauses", "until")):
        try:
            rule = made(kind, {name: text})
        except InvalidRule as error:
            assert not any("\n" in str(one) for one in error.errors)
            continue
        assert made(kind, rule.shown()) == rule


def test_an_error_does_not_repeat_a_book() -> None:
    """What was entered is quoted, but not longer than a line."""
    with pytest.raises(InvalidRule) as caught:
        made("throttles", {"domain": "a b" * 10_000})
    assert len(str(caught.value)) < 300


def test_a_kind_that_there_is_not_is_named() -> None:
    """The error lists the kinds there are."""
    with pytest.raises(NoSuchRule, match="throttles, floods"):
        made("thottles", {})


TWICE = [
    ("throttles", {"ip": "192.0.2.1", "domain": "a.example"}, "domain a.example already"),
    ("throttles", {"queue": 5}, "ip empty, pool empty, domain empty, tag empty already"),
    ("floods", {"name": "x", "pattern": "y"}, "name x already"),
    ("redirects", {"from_ip": "192.0.2.1", "to_ip": "192.0.2.2"}, "from_ip 192.0.2.1"),
    ("errors", {"tag": "x"}, "tag x already"),
    ("mta-names", {"ip": "192.0.2.1", "name": "x"}, "ip 192.0.2.1 already"),
    ("dns", {"name": "a.example", "addresses": ["192.0.2.1"]}, "name a.example already"),
    ("locals", {"pattern": "x@a.example"}, "already (id 4)"),
]


@pytest.mark.parametrize(("kind", "values", "text"), TWICE)
def test_nothing_is_there_twice(kind: str, values: dict[str, Any], text: str) -> None:
    """A second rule about the same is refused, naming the first; the first itself may be changed."""
    first = stored(kind, 4, **values)
    with pytest.raises(InvalidRule, match="allowed is one") as caught:
        made(kind, values, first)
    assert text in str(caught.value)
    assert validate(kind, values, Snapshot({kind: [first]}), NOW, old=first) == first


def redirect(id_: int, from_: str, to: str, **more: Any) -> Rule:
    return stored("redirects", id_, from_ip=f"192.0.2.{from_}", to_ip=f"192.0.2.{to}", **more)


LOOPS: dict[str, tuple[list[Rule], dict[str, Any], bool]] = {
    "there and back": ([redirect(1, "1", "2")], {"from": "2", "to": "1"}, True),
    "around three": ([redirect(1, "1", "2"), redirect(2, "2", "3")], {"from": "3", "to": "1"}, True),
    "a chain": ([redirect(1, "1", "2"), redirect(2, "2", "3")], {"from": "3", "to": "4"}, False),
    "back for one domain": ([redirect(1, "1", "2")], {"from": "2", "to": "1", "domain": "a.example"}, True),
    "there for one domain": ([redirect(1, "1", "2", domain="a.example")], {"from": "2", "to": "1"}, True),
    "back for another domain": (
        [redirect(1, "1", "2", domain="a.example")], {"from": "2", "to": "1", "domain": "b.example"}, False,
    ),
    "back for one server": ([redirect(1, "1", "2")], {"from": "2", "to": "1", "remote_ip": "203.0.113.1"}, True),
    "a more specific way out for one domain only": (
        [redirect(1, "1", "2"), redirect(2, "2", "3", domain="a.example")], {"from": "2", "to": "1"}, True,
    ),
    "a more specific way out": (
        [redirect(1, "1", "2", domain="a.example"), redirect(2, "2", "3", domain="a.example")],
        {"from": "2", "to": "1"}, False,
    ),
    "the way there has ended": ([redirect(1, "1", "2", until=PAST)], {"from": "2", "to": "1"}, False),
}  # fmt: skip


@pytest.mark.parametrize(("others", "values", "loops"), LOOPS.values(), ids=LOOPS.keys())
def test_a_loop_of_redirects_is_refused(others: list[Rule], values: dict[str, Any], loops: bool) -> None:
    """Followed as mail would be, for each target that a rule names; chains are fine."""
    entered = {**values, "from_ip": f"192.0.2.{values['from']}", "to_ip": f"192.0.2.{values['to']}"}
    del entered["from"], entered["to"]
    if not loops:
        made("redirects", entered, *others)
        return
    with pytest.raises(InvalidRule, match="makes a loop"):
        made("redirects", entered, *others)


def test_a_change_can_make_a_loop_too() -> None:
    """The rule that is changed is followed as it will be."""
    first, second = redirect(1, "1", "2"), redirect(2, "2", "3")
    with pytest.raises(InvalidRule, match=r"192\.0\.2\.2 > 192\.0\.2\.1 > 192\.0\.2\.2"):
        validate(
            "redirects",
            {"from_ip": "192.0.2.2", "to_ip": "192.0.2.1"},
            Snapshot({"redirects": [first, second]}),
            NOW,
            second,
        )


def test_a_new_flood_pattern_comes_last() -> None:
    """Without an order it goes behind the others."""
    others = Snapshot({"floods": [stored("floods", 1, name="a", pattern="x", order=7)]})
    rule = complete(validate("floods", {"name": "b", "pattern": "y"}, others, NOW), others)
    assert rule.shown()["order"] == 8


def test_an_ended_rule_may_be_changed_otherwise() -> None:
    """Only a new end must be to come."""
    old = stored("pauses", 1, until=PAST)
    assert validate("pauses", {"until": PAST, "tag": "x"}, Snapshot(), NOW, old).shown()["tag"] == "x"
