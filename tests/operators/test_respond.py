"""respond and rewrite: what the operator's rules do to messages, before their route and after an answer."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from operators.deciding.pointer import MISSING, looked_up, replaced
from operators.deciding.respond import respond
from operators.deciding.rewrite import rewrite
from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.deliveries.results import entry
from operators.mail.message import from_properties
from operators.stages.conclude import conclude
from settings.rules import KINDS, Pool, Snapshot
from settings.rules.acting import Response
from tests.operators.test_force import through

NOW = 1_800_000_000.0
BLOCKED = failed("rcptto", "error", "blocked using zen.example", code=554, bounce_class="spam-block")


class Noted:
    """What rules asked for beyond their message."""

    def __init__(self) -> None:
        self.suppressed: list[str] = []
        self.paused: list[str] = []
        self.dry: list[int] = []

    def suppress(self, delivery: Delivery, rule: Response) -> None:
        self.suppressed.append(rule.name)

    def pause(self, delivery: Delivery, rule: Response) -> None:
        self.paused.append(rule.name)

    def would(self, rule: Response) -> None:
        self.dry.append(rule.id)


def delivery(outcome: Outcome | None = BLOCKED, **properties: Any) -> Delivery:
    message = from_properties({"recipient": "user@a.example", "mime": "Subject: Big sale\r\n\r\nx", **properties})
    route = Route("a.example", (Target("mx", "127.1.0.1"),))
    lease = Lease(1, b"", queued=NOW - 100)
    made = Delivery(
        lease=lease, message=message, domain="a.example", route=route, ip="127.0.0.1", lane="127.0.0.1/a.example"
    )
    return made.ended(outcome) if outcome is not None else made


def made(kind: str, number: int, **values: Any) -> Any:
    return KINDS[kind].model_validate({"id": number, "name": f"rule {number}", **values})


def answered(item: Delivery, *rules: dict[str, Any], noted: Noted | None = None) -> Delivery:
    pools = [Pool.model_validate({"id": 1, "name": "warm", "members": ["127.0.0.1", "127.0.0.2"]})]
    snapshot = Snapshot(
        {"responses": [made("responses", n, **rule) for n, rule in enumerate(rules, 1)], "pools": pools}
    )
    return through(respond(lambda: snapshot, lambda: NOW, noted or Noted()), item)


# -- triggers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        {},
        {"pattern": "ZEN.example"},
        {"pattern": "554 *", "type": "wildcard"},
        {"meaning": "spam-block"},
        {"answer": "permanent"},
        {"domain": "a.example", "meaning": "spam-block"},
        {"result": "fatal"},
        {"pool": "warm"},
    ],
)
def test_a_rule_acts_on_the_answers_that_it_is_for(trigger: dict[str, Any]) -> None:
    """By pattern, class, kind of answer and selection, also with MailerQ's names; the rule is noted for the log."""
    got = answered(delivery(), {"retry": 60, **trigger})
    assert got.outcome is not None
    assert (got.outcome.next, got.outcome.until, got.rules) == (Next.RETRY, NOW + 60, ("responses/1",))


@pytest.mark.parametrize(
    "trigger",
    [
        {"pattern": "full"},
        {"meaning": "policy"},
        {"answer": "temporary"},
        {"result": "strange"},
        {"tag": "news"},
        {"until": datetime.datetime.fromtimestamp(NOW - 1, datetime.UTC)},
    ],
)
def test_a_rule_leaves_other_answers_alone(trigger: dict[str, Any]) -> None:
    """The delivery goes on as it was."""
    item = delivery()
    assert answered(item, {"retry": 60, **trigger}) is item


def test_what_was_sent_is_never_sent_again() -> None:
    """No rule touches what was accepted."""
    item = delivery(Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250))
    assert answered(item, {"retry": 60}) is item


def test_a_strange_end_is_one_without_a_usable_answer() -> None:
    """A timeout, say."""
    item = delivery(deferred("connect", "timeout", "no answer"))
    assert answered(item, {"answer": "strange", "fail": True}).rules
    assert not answered(item, {"answer": "temporary", "fail": True}).rules


# -- actions ---------------------------------------------------------------------------------------------------------


def test_a_permanent_answer_is_retried_at_most_so_often() -> None:
    """And is permanent then; its own time counts, not the message's retries."""
    item = answered(delivery(), {"retry": 60, "attempts": 2})
    done = through(conclude(3600, [900], 0, lambda: NOW, lambda: 0.0), item)
    assert done.outcome is not None and done.outcome.until == NOW + 60
    late = delivery(results=[{"state": "rcptto", "result": "error", "time": "x"}])
    assert answered(late, {"retry": 60, "attempts": 2}).outcome == BLOCKED


def test_a_retry_after_the_messages_end_gives_it_up() -> None:
    """No rule keeps a message longer than its time."""
    item = answered(delivery(), {"retry": 7200})
    done = through(conclude(3600, [900], 0, lambda: NOW, lambda: 0.0), item)
    assert done.outcome is not None and done.outcome.next is Next.FAIL


def test_a_temporary_answer_that_never_ends_is_failed() -> None:
    """Now."""
    got = answered(delivery(deferred("rcptto", "error", "later", code=450)), {"fail": True})
    assert got.outcome is not None and got.outcome.next is Next.FAIL


def test_a_retry_leaves_from_another_ip_of_the_pool() -> None:
    """Of the message's own, or of that which its MTA IP is in; where there is none the IPs stay."""
    assert answered(delivery(pool="warm"), {"another_ip": True}).message.ips == ["127.0.0.2"]
    assert answered(delivery(), {"another_ip": True}).message.ips == ["127.0.0.2"]
    only = delivery(ips=["127.0.0.1"])
    assert answered(only, {"another_ip": True}).message.ips == ["127.0.0.1"]


def test_tags_ips_and_properties_are_changed_and_persist() -> None:
    """In the message that goes back to the queue, and in the entry of its results."""
    rule = {
        "add_tags": ["hot"],
        "remove_tags": ["cold"],
        "add_ips": ["127.0.0.9"],
        "set_message": ["/data/tries=1", "/note=plain text"],
        "set_result": ["/seen/by=rule"],
    }
    got = answered(delivery(tags=["cold", "x"], data={"a": 1}, ips=["127.0.0.1"]), rule)
    assert (got.message.tags, got.message.ips) == (["x", "hot"], ["127.0.0.1", "127.0.0.9"])
    assert got.message.properties["data"] == {"a": 1, "tries": 1} and got.message.properties["note"] == "plain text"
    assert got.outcome is not None and entry(got.outcome, NOW)["seen"] == {"by": "rule"}


def test_rules_go_on_only_where_they_say_so() -> None:
    """In the operator's order; the first without `continue` is the last."""
    rules = [
        {"add_tags": ["c"], "order": 3},
        {"add_tags": ["a"], "order": 1, "go_on": True},
        {"add_tags": ["b"], "order": 2},
    ]
    got = answered(delivery(), *rules)
    assert (got.message.tags, got.rules) == (["a", "b"], ("responses/2", "responses/3"))


def test_a_dry_rule_only_counts() -> None:
    """And the next one is asked."""
    noted = Noted()
    got = answered(delivery(), {"dry": True, "fail": True, "suppress": "address"}, {"pause": "lane"}, noted=noted)
    assert (noted.dry, noted.suppressed, noted.paused, got.rules) == ([1], [], ["rule 2"], ("responses/2",))


def test_an_error_in_a_rule_is_reported_and_changes_nothing() -> None:
    """The answer counts as it came."""
    told: list[str] = []

    def broken() -> Snapshot:
        return Snapshot({"responses": [made("responses", 1, suppress="address")]})

    class Broken(Noted):
        def suppress(self, delivery: Delivery, rule: Response) -> None:
            raise RuntimeError("x")

    item = delivery()
    stage = respond(broken, lambda: NOW, Broken(), lambda name, *_: told.append(name))
    assert (through(stage, item), told) == (item, ["respond"])


# -- rewrite ---------------------------------------------------------------------------------------------------------


def rewritten(*rules: dict[str, Any], now: float = NOW, **properties: Any) -> Delivery:
    snapshot = Snapshot({"rewrites": [made("rewrites", n, **rule) for n, rule in enumerate(rules, 1)]})
    return through(rewrite(lambda: snapshot, lambda: now), delivery(None, **properties))


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ('subject contains "big SALE"', True),
        ("subject not contains sale", False),
        ('header:X-Kind equals "bulk"', True),
        ("header:X-None equals ''", True),
        ("envelope matches '^news-.*@'", True),
        ("recipient equals USER@a.example and /data/plan equals gold", True),
        ("/data/plan not equals gold", False),
        ("/data/list/1 equals 2", True),
    ],
)
def test_conditions_look_at_envelope_headers_and_properties(when: str, holds: bool) -> None:
    """equals, contains, matches; or not; all of them must hold."""
    mime = "Subject: =?utf-8?q?Big_Sale?=\r\nX-Kind: bulk\r\n\r\nx"
    got = rewritten(
        {"when": when, "add_tags": ["met"]},
        mime=mime,
        envelope="news-1@b.example",
        data={"plan": "gold", "list": [1, 2]},
    )
    assert ("met" in got.message.tags) is holds


def test_a_message_is_changed_before_its_route_is_chosen() -> None:
    """Pool, IPs, tags, smarthost, a header; rules in order, until one ends it."""
    got = rewritten(
        {"set_pool": "warm", "add_tags": ["a"], "go_on": True, "order": 1},
        {"smarthost": "relay.example:2525", "header": "X-Class: bulk", "order": 2},
        {"add_tags": ["never"], "order": 3},
        ips=["127.0.0.1"],
    )
    message = got.message
    assert (message.pool, message.ips, message.tags) == ("warm", None, ["a"])
    assert message.smarthost is not None and (message.smarthost.hostname, message.smarthost.port) == (
        "relay.example",
        2525,
    )
    assert message.headers == {"replace": {"X-Class": "bulk"}}
    assert got.rules == ("rewrites/1", "rewrites/2")


def test_a_message_is_failed_or_delayed_by_a_rule() -> None:
    """State `rewrite`; a delay is no attempt, and ends so long after the message was queued."""
    outcome = rewritten({"fail": 554, "extended": "5.7.1", "description": "no"}).outcome
    assert outcome is not None
    assert (outcome.state, outcome.next, outcome.code, outcome.status) == ("rewrite", Next.FAIL, 554, "5.7.1")
    waits = rewritten({"delay": 150}).outcome
    assert waits is not None and (waits.next, waits.until) == (Next.POSTPONE, NOW + 50)
    assert rewritten({"delay": 150}, now=NOW + 51).outcome is None


@pytest.mark.parametrize(("hours", "holds"), [("08:00-08:30", True), ("22:00-08:01", True), ("08:01-22:00", False)])
def test_a_rule_may_hold_at_some_hours_only(hours: str, holds: bool) -> None:
    """In UTC; NOW is 08:00."""
    assert bool(rewritten({"hours": hours, "add_tags": ["x"]}).rules) is holds


def test_a_rule_that_is_met_again_changes_nothing_more() -> None:
    """A retry goes through the rules again."""
    rule = {"add_tags": ["a"], "header": "X-A: b", "set_pool": "warm"}
    once = rewritten(rule)
    twice = rewritten(rule, **once.message.properties)
    assert once.message.properties == twice.message.properties


# -- pointers --------------------------------------------------------------------------------------------------------


def test_pointers_make_what_is_missing_and_copy_what_they_change() -> None:
    """RFC 6901; nothing that others hold is changed."""
    before = {"a": {"b": [1, 2]}}
    assert replaced(before, ["a", "b", "1"], 9) == {"a": {"b": [1, 9]}}
    assert replaced(before, ["a", "b", "-"], 3) == {"a": {"b": [1, 2, 3]}}
    assert replaced(before, ["x", "y"], None) == {"a": {"b": [1, 2]}, "x": {"y": None}}
    assert before == {"a": {"b": [1, 2]}}
    assert looked_up(before, ["a", "b", "7"]) is MISSING


def test_of_many_rewrite_rules_each_does_what_it_does_alone() -> None:
    """An index leaves out those that cannot hold; denied conditions are not in it, and texts that come again are."""
    conditions = [
        f'{denied}contains "{word}" and envelope {also}equals "{sender}"'
        for denied in ("subject ", "subject not ", "recipient ", "/data/plan not ", "header:X-Kind ")
        for word in ("sale", "gold", "@a.example")
        for also, sender in (("", "a@b.example"), ("not ", "a@b.example"))
    ]
    rules = [{"when": when, "add_tags": [f"t{number}"], "go_on": True} for number, when in enumerate(conditions)]
    messages = [
        {"envelope": sender, "mime": f"Subject: {subject}\r\nX-Kind: gold\r\n\r\nx", "data": {"plan": plan}}
        for sender in ("a@b.example", "")
        for subject in ("Big sale", "gold", "")
        for plan in ("gold", "")
    ]
    made_ = [made("rewrites", number, **rule) for number, rule in enumerate(rules, 1)]
    all_, each = Snapshot({"rewrites": made_}), [Snapshot({"rewrites": [rule]}) for rule in made_]
    for properties in messages * 2:
        item = delivery(None, **properties)

        def tags(snapshot: Snapshot, item: Delivery = item) -> list[str]:
            return list(through(rewrite(lambda: snapshot, lambda: NOW), item).message.tags)

        assert tags(all_) == [tag for snapshot in each for tag in tags(snapshot)]
