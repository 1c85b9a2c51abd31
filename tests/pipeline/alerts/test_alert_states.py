"""The states of alert rules: when something is told, again, and not at all. Time is a number that the test gives."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.alerts.states import CLEAR, SUBJECTS, AlertState, AlertStates, Finding, is_quiet
from settings.rules.alerting import AlertRule

NOON = 1_795_694_400.0  # 2026-11-26 12:00 UTC


def rule(**values: Any) -> AlertRule:
    """An alert rule."""
    return AlertRule.model_validate({"id": 1, "name": "a", "browser": True, **values})


class Watched:
    """A rule on a clock."""

    def __init__(self, **values: Any) -> None:
        self.rule, self.states, self.now = rule(**values), AlertStates(), NOON

    def look(self, *found: str, after: float = 5.0) -> list[str]:
        """What is told when these subjects are found, so many seconds later."""
        self.now += after
        findings = [Finding(subject, f"{subject} is bad") for subject in found]
        return [f"{one.kind} {one.subject}" for one in self.states.tick([self.rule], {1: findings}, self.now)]


def test_it_is_told_once_and_that_it_has_ended() -> None:
    """Not at each look."""
    watched = Watched()
    assert [watched.look("x"), watched.look("x"), watched.look("x")] == [["begun x"], [], []]
    assert watched.look() == []
    assert watched.look(after=CLEAR) == ["ended x"]
    assert watched.look() == []


def test_what_comes_and_goes_is_one_state() -> None:
    """It has ended only when it has been gone for a while: a line that flaps is told once."""
    watched = Watched()
    told = [watched.look(*(["x"] if number % 2 else []), after=60) for number in range(100)]
    assert [one for one in told if one] == [["begun x"]]


def test_it_must_last() -> None:
    """Without a break."""
    watched = Watched(lasting=2)
    assert [watched.look("x", after=60), watched.look("x", after=60), watched.look(after=60)] == [[], [], []]
    assert [watched.look("x", after=60) for _ in range(3)] == [[], [], ["begun x"]]


def test_while_it_lasts_it_is_told_again() -> None:
    """After the hours that the rule says; 0: never."""
    watched, never = Watched(again=1), Watched(again=0)
    told = [watched.look("x", after=600) for _ in range(14)]
    assert [one for one in told if one] == [["begun x"], ["still x"], ["still x"]]
    assert [one for number in range(50) if (one := never.look("x", after=7200))] == [["begun x"]]


def test_each_subject_has_a_state_of_its_own() -> None:
    """A second lane is told while the first lasts; no more than can be read."""
    watched = Watched()
    assert watched.look("x") == ["begun x"]
    assert watched.look("x", "y") == ["begun y"]
    assert len(watched.look(*(str(n) for n in range(1000)))) == SUBJECTS - 2


def test_in_the_quiet_time_nothing_is_told() -> None:
    """What still holds at its end is told then; what came and went in between is not."""
    watched = Watched(quiet="12:00-13:00")
    assert [watched.look("x", "y"), watched.look("x", after=CLEAR), watched.look("x", after=CLEAR)] == [[], [], []]
    assert watched.look("x", after=3600) == ["begun x"]


def test_an_end_in_the_quiet_time_is_told_after_it() -> None:
    """Who was told that it began hears of its end."""
    watched = Watched(quiet="13:00-14:00")
    assert watched.look("x", after=3500) == ["begun x"]
    assert watched.look(after=200) == [] and watched.look(after=CLEAR) == []
    assert watched.look(after=3600) == ["ended x"]


def test_a_quiet_time_is_of_a_zone_and_may_go_over_midnight() -> None:
    """12:00 UTC is 13:00 in Berlin."""
    assert is_quiet(rule(quiet="12:30-13:30", time_zone="Europe/Berlin"), NOON)
    assert not is_quiet(rule(quiet="12:30-13:30"), NOON)
    assert is_quiet(rule(quiet="22:00-12:30"), NOON) and not is_quiet(rule(quiet="22:00-06:00"), NOON)


def test_what_cannot_be_said_changes_nothing() -> None:
    """A queue that does not answer has not become small."""
    watched = Watched()
    watched.look("x")
    assert watched.states.tick([watched.rule], {1: None}, watched.now + 2 * CLEAR) == []
    assert len(watched.states.all()) == 1


def test_states_survive_a_restart() -> None:
    """What was told is not told again."""
    watched = Watched()
    watched.look("x")
    kept = msgspec.json.decode(msgspec.json.encode(watched.states.all()), type=list[AlertState])
    watched.states = AlertStates(kept)
    assert watched.look("x") == []
    assert watched.look() == [] and watched.look(after=CLEAR) == ["ended x"]


def test_a_rule_that_is_deleted_leaves_nothing() -> None:
    """It tells nobody any more."""
    watched = Watched()
    watched.look("x")
    assert watched.states.tick([], {}, watched.now + 1) == [] and watched.states.all() == []


def test_a_clock_that_goes_back_tells_nothing_twice() -> None:
    """Nor is it silent until the old time has come again."""
    watched = Watched(again=1)
    watched.look("x")
    assert watched.look("x", after=-86_400) == []
    assert watched.look("x", after=3600) == ["still x"]
