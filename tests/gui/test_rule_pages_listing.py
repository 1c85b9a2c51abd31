"""What the views of rules read from the models, put into addresses, and write to files."""

from __future__ import annotations

import csv
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from gui.components.record import zone_line
from gui.components.rules.rule_listing import RuleListing, as_csv, limits_of
from gui.components.rules.rule_page import whole
from gui.components.rules.rule_table import columns_of
from gui.pages.classes import BounceClasses
from gui.pages.dkim import DkimKeys
from gui.pages.errors import ForcedErrors
from gui.pages.floods import FloodsPage
from gui.pages.local import LocalAddresses
from gui.pages.paused import Paused
from gui.pages.redirects import RedirectsPage
from gui.pages.responses import Responses
from gui.pages.rewrites import Rewrites
from gui.pages.throttling import Throttling
from pipeline.views.state.pauses import describes
from settings.rules import KINDS, DkimKey, Flood, Pause
from settings.rules.form import fields
from settings.rules.snapshot import Snapshot
from settings.rules.validate import complete, parse

VIEWS = (
    Throttling,
    FloodsPage,
    DkimKeys,
    Paused,
    RedirectsPage,
    LocalAddresses,
    ForcedErrors,
    Responses,
    Rewrites,
    BounceClasses,
)


@given(
    st.builds(
        RuleListing,
        query=st.text(max_size=50),
        sort=st.sampled_from(["", "domain"]),
        down=st.booleans(),
        page=st.integers(1, 99999),
    )
)
def test_an_address_says_what_is_listed(listing: RuleListing) -> None:
    """Whatever was searched for comes back from its address."""
    address = listing.address("/throttling")
    assert RuleListing.of(QueryParams(address.partition("?")[2])) == listing


@pytest.mark.parametrize("page", ["0", "-1", "x", "1e3", "99999999999", "²", ""])
def test_an_address_that_makes_no_sense_shows_the_first_page(page: str) -> None:
    """It comes from outside."""
    assert RuleListing.of({"page": page}).page == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_a_rule_is_a_column_unless_it_is_secret(kind: str) -> None:
    """There is no second list of fields."""
    shown = {field.name for field in fields(kind) if not field.write_only} - {"id"}
    assert set(columns_of(kind)) == shown


@pytest.mark.parametrize("view", VIEWS)
def test_every_field_that_can_be_shown_is_in_its_view(view: type) -> None:
    """Under its own name, or in the column that stands for it."""
    page = object.__new__(view)
    names = {column.name for column in page.shown_columns()}
    stands_for = {
        "target": {"domain", "remote_ip"},
        "ip": {"ip", "pool"},
        "domain": {"tag", "scope", "name", "description"} if view.kind == "throttles" else set(),
        "does": set(columns_of(view.kind)),
        "when": {"count", "period", "percent", "attempts", "reduce_to"},
        "limits": {f.name for f in fields(view.kind) if f.group},
    }  # fmt: skip
    covered = names.union(*(stands_for.get(name, set()) for name in names))
    elsewhere = {"order", "record", "instance", "all"}  # the rows' own order; a dialog; where we are; no conditions
    assert set(columns_of(view.kind)) - covered <= elsewhere


def test_a_file_for_spreadsheets_has_no_formulas() -> None:
    """A pattern that begins like a formula gets a quote before it."""
    text = as_csv("locals", [{"id": 1, "type": "exact", "pattern": "=1+1@example.com"}])
    (row,) = csv.DictReader(text.splitlines())
    assert row["pattern"] == "'=1+1@example.com"


def test_a_private_key_is_in_no_file() -> None:
    """Nor is there a column for it."""
    rule = complete(
        parse("dkim-keys", {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}),
        Snapshot(),
    )
    text = as_csv("dkim-keys", [{**rule.shown(), "key": "PRIVATE"}])
    assert "PRIVATE" not in text and "v=DKIM1" in text


def test_what_is_taken_back_is_the_same_rule() -> None:
    """With its private key, which is in nothing that is shown."""
    rule = complete(
        parse("dkim-keys", {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}),
        Snapshot(),
    )
    assert isinstance(rule, DkimKey)
    again = parse("dkim-keys", {name: value for name, value in whole(rule).items() if name not in ("id", "record")})
    assert isinstance(again, DkimKey) and again.record == rule.record
    assert "key" not in rule.shown()


def test_a_long_record_is_several_strings_in_a_zone_file() -> None:
    """At most 255 characters each (RFC 1035 3.3.14), and together the record."""
    rule = complete(
        parse("dkim-keys", {"domain": "a.example", "selector": "s", "generate": True}),
        Snapshot(),
    )
    assert isinstance(rule, DkimKey)
    strings = zone_line(rule).split('"')[1::2]
    assert "".join(strings) == rule.record
    assert len(strings) == 2 and max(map(len, strings)) == 255


def test_only_limits_that_are_set_are_said() -> None:
    """0 is a limit too: unlimited."""
    flood = Flood(name="n", pattern="p", domain_messages=30, queue=0)
    assert [(limit["label"], limit["text"]) for limit in limits_of("floods", flood)] == [
        ("Domain: Attempts", "30"), ("Memory: Queue", "0"),
    ]  # fmt: skip


UNTIL = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("selected", "pause", "expected"),
    [
        ({}, Pause(), "same"),
        ({}, Pause(ip="192.0.2.1"), "part"),
        ({"domain": "a.example"}, Pause(domain="a.example", until=UNTIL), "same"),
        ({"domain": "a.example"}, Pause(), "wider"),
        ({"domain": "a.example"}, Pause(domain="b.example"), "none"),
        ({"domain": "a.example"}, Pause(domain="a.example", ip="192.0.2.1"), "part"),
        ({"domain": "a.example"}, Pause(ip="192.0.2.1"), "part"),
        ({"ip": "192.0.2.1"}, Pause(ip="192.0.2.2", domain="a.example"), "none"),
        ({"tag": "t"}, Pause(tag="t"), "same"),
    ],
)
def test_the_running_button_knows_which_pauses_are_its_own(
    selected: dict[str, str], pause: Pause, expected: str
) -> None:
    """One of exactly what is selected, of more, of a part, or of something else."""
    assert describes(pause, selected) == expected
