"""What alert rules find: shares, the queue, floods, faults, instances, suppressions, blocked MTA IPs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Settled
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.telemetry.backlog import Backlog
from pipeline.views.alerting.looks import FORGOTTEN, RECENT, Looks
from pipeline.views.verdict import Judged
from settings.rules import Snapshot
from settings.rules.alerting import AlertRule

NOON = 1_795_694_400.0
BLOCKED = "5.7.1 Service unavailable, client host blocked using Spamhaus"


def rule(watch: str, **values: Any) -> AlertRule:
    """An alert rule."""
    return AlertRule.model_validate({"id": 1, "name": "a", "browser": True, "watch": watch, **values})


class Program:
    """A running program, as far as the rules look at it."""

    def __init__(self) -> None:
        self.now = NOON
        self.backlog = Backlog(lambda: self.now)
        self.judged = Judged("good", "Delivering", "10 messages a minute delivered.")
        self.suppressed: list[int] = []
        self.rows: list[Any] = []
        self.facade: Any = SimpleNamespace(
            backlog=self.backlog,
            settings=SimpleNamespace(server_id="mx2"),
            store=SimpleNamespace(snapshot=Snapshot(), suppressions=SimpleNamespace(index=self.suppressed)),
            explainer=SimpleNamespace(
                names=lambda retried: ["192.0.2.1/gmail"],
                flood=lambda lane: self.flood,
                domains=lambda lane: ["g.example"],
            ),
            sizes=SimpleNamespace(growth=lambda: None),
            states=lambda: self.states,
            cluster=SimpleNamespace(there=True, others=lambda: self.rows),
            workers=lambda: self.workers,
        )
        self.flood: Any = None
        self.states: list[Any] = []
        self.workers: list[Any] = []
        self.looks = Looks(self.facade, lambda: self.judged, {}, lambda: self.now)

    def ends(self, count: int, next_: Next, domain: str = "g.example", **more: Any) -> None:
        """So many attempts end so."""
        code, text = {Next.DELIVERED: (250, "ok"), Next.RETRY: (421, "4.7.0 later"), Next.FAIL: (550, BLOCKED)}[next_]
        lane, tags = more.get("lane", "192.0.2.1/gmail"), more.get("tags", [])
        outcome = Outcome(
            state="rcptto", result="error", next=next_, code=code, description=text, local_ip=lane.partition("/")[0]
        )
        delivery = Delivery(lease=Lease(1, b""), message=Message(tags=tags), domain=domain, lane=lane)
        for _ in range(count):
            self.backlog.count(Settled(time=self.now, delivery=delivery, outcome=outcome))

    def found(self, one: AlertRule) -> list[str] | None:
        """What a rule finds."""
        findings = self.looks.look([one])[1]
        return None if findings is None else [finding.text for finding in findings]


@pytest.fixture
def program() -> Program:
    """Of one test."""
    return Program()


def test_a_share_is_of_what_ended_within_the_minutes(program: Program) -> None:
    """Longer than the figures remember, too; what is older does not count."""
    watched = rule("deferrals", threshold=50, minutes=20, attempts=100)
    for _ in range(15):
        program.ends(10, Next.RETRY)
        said = program.found(watched)
        program.now += 60
    assert said is not None and said[0].startswith("100 % deferred, 150 of 150 in the last 20 min: 421 ")
    for _ in range(25):
        program.ends(10, Next.DELIVERED)
        said = program.found(watched)
        program.now += 60
    assert said == []


def test_few_attempts_say_nothing(program: Program) -> None:
    """One of one is no share."""
    program.ends(19, Next.FAIL)
    assert program.found(rule("failures")) == []
    program.ends(1, Next.FAIL)
    assert program.found(rule("failures")) != []


@pytest.mark.parametrize(
    ("selection", "holds"),
    [
        ({}, True), ({"domain": "g.example"}, True), ({"domain": "gmail"}, True), ({"domain": "other.example"}, False),
        ({"ip": "192.0.2.1"}, True), ({"ip": "192.0.2.9"}, False), ({"tag": "news"}, True), ({"tag": "x"}, False),
        ({"tag": "news", "ip": "192.0.2.1", "domain": "gmail"}, True), ({"tag": "news", "ip": "192.0.2.9"}, False),
    ],
)  # fmt: skip
def test_a_rule_may_be_for_some_mail(program: Program, selection: dict[str, str], holds: bool) -> None:
    """An MTA IP, a domain or its provider, a tag; together."""
    program.ends(30, Next.FAIL, tags=["news"])
    program.ends(100, Next.DELIVERED, domain="other.example", lane="192.0.2.9/other.example", tags=["x"])
    assert bool(program.found(rule("failures", threshold=20, **selection))) is holds


def test_a_provider_that_blocks_an_mta_ip(program: Program) -> None:
    """By the class of its answers; the others of the same machine are well."""
    program.ends(30, Next.FAIL)
    program.ends(30, Next.RETRY, lane="192.0.2.2/gmail")
    said = program.found(rule("blocked"))
    assert said is not None and len(said) == 1 and said[0].startswith("gmail blocks 192.0.2.1, 30 of 30 attempts")
    assert program.found(rule("blocked", ip="192.0.2.2")) == []


def test_the_verdict_has_levels(program: Program) -> None:
    """From watch on, or when it is bad."""
    program.judged = Judged("watch", "Watch", "12 % went wrong.")
    assert program.found(rule("verdict")) == [] and program.found(rule("verdict", level="watch")) != []


def test_a_queue_that_does_not_answer_says_nothing(program: Program) -> None:
    """Neither that it is large, nor that it is small."""
    assert program.found(rule("queue")) is None and program.found(rule("age")) is None
    program.looks.queued, program.looks.oldest = 20_000, NOON - 7200
    assert program.found(rule("queue")) == ["20,000 messages are in the queue."]
    assert program.found(rule("age")) == ["the oldest message waits for 120 min"]
    assert program.found(rule("queue", threshold=20_001)) == [] and program.found(rule("age", threshold=121)) == []


def test_a_lane_that_a_flood_pattern_has_paused(program: Program) -> None:
    """Not one that is only slower."""
    program.flood = SimpleNamespace(state="paused", paused_until=NOON + 60, pattern="busy", answer="421 busy")
    assert program.found(rule("flood")) == [
        "192.0.2.1 to gmail is paused until 12:01 UTC by the flood pattern 'busy': 421 busy"
    ]
    assert program.found(rule("flood", domain="g.example")) and not program.found(rule("flood", domain="a.example"))
    program.flood.state = "reduced"
    assert program.found(rule("flood")) == []


def test_a_fault_whose_numbers_change_is_one(program: Program) -> None:
    """Its line counts how often."""
    subjects = set()
    for count in (1, 1_000, 2_000):
        program.states = [SimpleNamespace(name="fault", text=f"log failed ({count:,} times): disk full")]
        (finding,) = program.looks.look([rule("fault")])[1] or ()
        subjects.add(finding.subject)
    assert len(subjects) == 1


def test_an_instance_that_is_gone_is_missed_for_a_day(program: Program) -> None:
    """One of those that are left tells, the first by name."""
    program.rows = [SimpleNamespace(id="mx3"), SimpleNamespace(id="mx4")]
    assert program.found(rule("member")) == []
    program.rows = program.rows[:1]
    program.now += 60
    assert program.found(rule("member")) == ["the instance mx4 is gone since 12:00 UTC"]
    program.states = [SimpleNamespace(name="cluster", text="the cluster is not heard")]
    assert program.found(rule("member")) == []
    program.states, program.rows = [], [SimpleNamespace(id="mx1")]
    assert program.found(rule("member")) == []
    program.rows, program.now = [], program.now + FORGOTTEN + 1
    assert program.found(rule("member")) == []


def test_a_worker_that_had_to_be_started_again(program: Program) -> None:
    """For a while; not those that begin with the program."""
    program.workers = [
        SimpleNamespace(number=1, pid=7, since=NOON + 2),
        SimpleNamespace(number=2, pid=8, since=NOON + 2),
    ]
    assert program.found(rule("member")) == []
    program.workers[1].since, program.workers[1].pid = NOON + 500, 9
    program.now = NOON + 510
    assert program.found(rule("member")) == ["worker 2 had ended, and was started again (process 9)"]
    program.now += RECENT
    assert program.found(rule("member")) == []


def test_suppressions_that_grow(program: Program) -> None:
    """Within the minutes of the rule."""
    watched = rule("suppressions", threshold=100, minutes=5)
    program.facade.cluster.there = False
    assert program.found(watched) == []
    program.suppressed += range(150)
    program.now += 60
    assert program.found(watched) == ["150 suppressions more within 5 min, 150 in all"]
    program.now += 600
    assert program.found(watched) == []
