"""Links: the addresses that a mail as an object links to, changed by its `rewrite`."""

from __future__ import annotations

import re
from typing import Any

import pytest

from operators.mail.links import rewritten
from operators.mail.message import from_properties
from operators.mail.source import source_of
from operators.mail.unmade import Unmade

APPLE = {"domain": {"contains": "apple"}, "params": {"utm_medium": "a pple"}, "protocol": "https"}


def link(address: str, *rules: Any) -> str:
    """Where a link leads after these rules."""
    made = rewritten(f"<p><a class='x' href=\"{address}\">x</a></p>", {"links": list(rules)}, "rewrite")
    return str((re.findall('href="([^"]*)"', made) or [made])[0])


def test_a_rule_adds_parameters_and_sets_the_protocol() -> None:
    """Those that are there stay, one of the same name is replaced; all is escaped."""
    assert link("http://apple.example/p?a=1&amp;utm_medium=x", APPLE) == (
        "https://apple.example/p?a=1&amp;utm_medium=a+pple"
    )
    assert link("http://pear.example/", APPLE) == "http://pear.example/"
    assert link("mailto:apple@apple.example", APPLE) == "mailto:apple@apple.example"


@pytest.mark.parametrize(("test", "holds"), [
    ({"domain": {"equals": "www.a.example"}}, True), ({"domain": {"equals": "a.example"}}, False),
    ({"path": {"match": "*/shoes"}}, True), ({"path": {"match": "shoes"}}, False),
    ({"url": {"regex": "^https?://www\\.a"}}, True), ({"regex": "shoes$"}, True), ({"contains": "boots"}, False),
    ({"domain": {"contains": "a.", "match": "*.example"}}, True), ({}, True),
])  # fmt: skip
def test_what_a_rule_says_of_an_address_holds_as_a_whole(test: Any, holds: bool) -> None:
    """equals, contains, match and regex, of the domain, the path or the whole; a rule without a test always holds."""
    changed = link("http://www.a.example/x/shoes", {**test, "params": {"u": "1"}})
    assert changed.endswith("?u=1") is holds


def test_rules_are_tried_in_order() -> None:
    """All of them that hold, up to one that is the last; a unique one only where none held before."""
    one, two, three = ({"params": {name: "1"}} for name in "xyz")
    assert link("http://a.example/", one, two) == "http://a.example/?x=1&amp;y=1"
    assert link("http://a.example/", {**one, "last": True}, two) == "http://a.example/?x=1"
    assert link("http://a.example/", one, {**two, "unique": True}, three) == "http://a.example/?x=1&amp;z=1"
    assert link("http://a.example/", {**two, "unique": True}) == "http://a.example/?y=1"


def test_older_rules_are_an_object_of_domains() -> None:
    """A wildcard, or a regular expression."""
    rules = {"*.json.example": {"params": {"w": "1"}}, "^a\\.json": {"params": {"r": "1"}}}
    made = rewritten("<a href='http://a.json.example'>x</a>", {"links": rules}, "rewrite")
    assert made == "<a href='http://a.json.example?w=1&amp;r=1'>x</a>"


@pytest.mark.parametrize(("rules", "why"), [
    ([{"nosuch": 1}], r"links\[0\].nosuch: there is no such thing"), ("x", "must be a list"),
    ([{"regex": "("}], "regex: "), ([{"protocol": "javascript"}], "must be http or https"), ([1], "must be an object"),
    ([{"domain": {"like": "x"}}], "there is no such test"), ([{}] * 101, "at most 100 rules"),
])  # fmt: skip
def test_what_is_no_rule_fails_the_message(rules: Any, why: str) -> None:
    """With the state responsive, and its name."""
    with pytest.raises(Unmade, match=why) as raised:
        rewritten("<a href='http://a.example'>x</a>", {"links": rules}, "mime.rewrite")
    assert raised.value.state == "responsive"


def test_a_mail_has_its_rules_and_so_has_a_block() -> None:
    """Those of a block are for it alone; the texts that say the addresses stay as they are."""
    block = {"type": "button", "label": "Buy", "link": {"url": "http://a.example/"}}
    own = {**block, "rewrite": {"links": [{"params": {"own": "1"}}]}}
    mime = {"subject": "s", "content": {"blocks": [block, own]}, "rewrite": {"links": [{"params": {"all": "1"}}]}}
    made = source_of(from_properties({"recipient": "a@b.example", "envelope": "c@d.example", "mime": mime})).decode()
    found = re.findall('href="([^"]*)"', made.replace("=\r\n", "").replace("=3D", "="))
    assert found == ["http://a.example/?all=1", "http://a.example/?own=1&amp;all=1"]


def test_an_object_may_hold_keys_and_older_names() -> None:
    """`dkim` is the message's own, behind those that it has beside `mime`; `textVersion` is `text`."""
    mime = {"subject": "s", "textVersion": "hello", "dkim": {"domain": "a.example"}}
    message = from_properties({"recipient": "a@b.example", "mime": mime, "dkim": {"domain": "b.example"}})
    assert message.properties["dkim"] == [{"domain": "b.example"}, {"domain": "a.example"}]
    assert message.mime == {"subject": "s", "text": "hello"} == message.properties["mime"]
