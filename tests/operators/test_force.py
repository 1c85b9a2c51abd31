"""force: mail that an operator's rule ends; and how any rule chooses deliveries."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import pytest
import reactivex as rx

from operators.deciding.force import force
from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.results import entry
from operators.lanes.floods import Floods
from operators.mail.message import from_properties
from operators.stages.stage import Stage
from settings.rules import Flood, ForcedError, Snapshot
from settings.rules.selection import Chosen, Traits

NOW = 1_800_000_000.0
LATER, BEFORE = (datetime.datetime.fromtimestamp(NOW + by, datetime.UTC) for by in (60, -60))


def delivery(tags: Sequence[str] = ("news",)) -> Delivery:
    message = from_properties({"recipient": "user@a.example", "mime": "x", "tags": list(tags)})
    route = Route("group.example", (Target("mx1", "127.1.0.1"), Target("mx2", "127.1.0.2")))
    return Delivery(
        lease=Lease(1, b""), message=message, domain="a.example", route=route, ip="127.0.0.1", lane="127.0.0.1/group"
    )


def through(operator: Stage, item: Delivery) -> Delivery:
    out: list[Delivery] = []
    rx.of(item).pipe(operator).subscribe(out.append)
    return out[0]


def ended(*rules: ForcedError, tags: Sequence[str] = ("news",)) -> Delivery:
    return through(force(lambda: Snapshot({"errors": rules}), lambda: NOW), delivery(tags))


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"ip": "127.0.0.1"},
        {"domain": "a.example"},
        {"domain": "group.example"},
        {"remote_ip": "127.1.0.2"},
        {"tag": "news"},
        {"ip": "127.0.0.1", "domain": "a.example", "tag": "news"},
        {"until": LATER},
    ],
)
def test_a_forced_error_ends_what_it_is_for(selection: dict[str, Any]) -> None:
    """By MTA IP, domain, destination group, remote IP, tag, or all of them, until its end."""
    got = ended(ForcedError(id=4, code=551, extended="5.7.1", description="stop", **selection))
    assert got.outcome is not None
    assert (got.outcome.next, got.outcome.code, got.outcome.status) == (Next.FAIL, 551, "5.7.1")
    assert got.rules == ("errors/4",)


@pytest.mark.parametrize(
    "selection",
    [
        {"ip": "127.0.0.2"},
        {"pool": "warm"},
        {"domain": "b.example"},
        {"remote_ip": "127.1.0.3"},
        {"tag": "other"},
        {"until": BEFORE},
        {"tag": "news", "domain": "b.example"},
    ],
)
def test_a_forced_error_lets_others_pass(selection: dict[str, Any]) -> None:
    """Every field that it names must fit."""
    assert ended(ForcedError(id=4, **selection)).outcome is None


@pytest.mark.parametrize(
    ("code", "next_", "result"),
    [(250, Next.DELIVERED, "accepted"), (421, Next.RETRY, "error"), (550, Next.FAIL, "error")],
)
def test_the_code_decides_what_becomes_of_it(code: int, next_: Next, result: str) -> None:
    """2xx is done, 4xx is tried again, 5xx is given up; the result says that it was forced, and names no receiver."""
    outcome = ended(ForcedError(id=1, code=code)).outcome
    assert outcome is not None
    told = entry(outcome, NOW)
    assert (outcome.next, outcome.result, told["forced"], told["code"]) == (next_, result, True, code)
    assert "mta" not in told and "to" not in told


def test_a_forced_answer_is_no_receivers_answer() -> None:
    """It matches no flood pattern: nothing of ours counts against a receiver."""
    begun: list[object] = []
    floods = Floods(lambda: 0.0, begun.append)
    snapshot = Snapshot({"floods": [Flood(id=1, name="all", type="wildcard", pattern="*")]})
    through(floods.detect(lambda: snapshot), ended(ForcedError(id=1, code=421)))
    assert not begun


# -- how rules choose ------------------------------------------------------------------------------------------------

TRAITS = Traits("127.0.0.1", "warm", "a.example", "gmail", ("127.1.0.1", "127.1.0.2"), ("x", "news"))


def order(*selections: dict[str, Any]) -> list[int]:
    rules = [ForcedError(id=id_, **selection) for id_, selection in enumerate(selections)]
    return [rule.id for rule in Chosen(rules).matching(TRAITS, NOW)]


def test_the_most_specific_rule_comes_first() -> None:
    """A tag before none; domain, remote IP, provider, all; MTA IP, pool, all."""
    ranked = [
        {"tag": "news", "domain": "a.example", "ip": "127.0.0.1"},
        {"tag": "news", "domain": "a.example"},
        {"tag": "news"},
        {"domain": "a.example", "ip": "127.0.0.1"},
        {"domain": "a.example", "pool": "warm"},
        {"domain": "a.example"},
        {"domain": "gmail"},
        {"remote_ip": "127.1.0.2"},
        {"ip": "127.0.0.1"},
        {"pool": "warm"},
        {},
    ]
    assert order(*ranked) == list(range(len(ranked)))
    assert order(*reversed(ranked)) == list(reversed(range(len(ranked))))


def test_what_is_not_known_yet_matches_no_rule_that_names_it() -> None:
    """Before a message has an MTA IP, rules for one are not for it."""
    rules = [ForcedError(id=1, ip="127.0.0.1"), ForcedError(id=2, pool="p"), ForcedError(id=3, domain="a.example")]
    found = Chosen(rules).matching(Traits(domain="A.Example."), NOW)
    assert [rule.id for rule in found] == [3]


@pytest.mark.parametrize(
    ("selections", "found"),
    [
        ([{"tag": "news"}], 0),
        ([{"tag": "news"}, {"ip": "127.0.0.1"}], 0),
        ([{"tag": "news"}, {"tag": "news", "ip": "127.0.0.1"}], None),
        ([{"domain": "a.example"}, {}], 0),
        ([{"domain": "gmail"}, {}], None),
        ([{"remote_ip": "127.1.0.1"}, {}], None),
    ],
)
def test_a_rule_decides_before_the_route_is_known_where_no_other_can(
    selections: list[dict[str, Any]], found: int | None
) -> None:
    """Mail is stopped that no DNS answers for; a more specific rule that may still fit is waited for."""
    rules = [ForcedError(id=id_, **selection) for id_, selection in enumerate(selections)]
    got = Chosen(rules).certain(Traits(domain="a.example", tags=("news",)), NOW)
    assert (got.id if got else None) == found


def test_an_outcome_says_nothing_of_force_unless_it_was() -> None:
    """Other results have no such property."""
    assert "forced" not in entry(Outcome(state="message", result="accepted", next=Next.DELIVERED), NOW)
