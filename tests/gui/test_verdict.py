"""The verdict: what an operator reads first."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from operators.deliveries.outcome import Next, Outcome
from pipeline.machine.health import HealthState
from pipeline.telemetry.telemetry import FIGURES, DomainErrors, LastAnswer
from pipeline.views.state.pauses import HeldMail, describes, held_mail, why
from pipeline.views.verdict import judge
from settings.rules import Pause


def figures(**counts: int) -> dict[str, int]:
    return dict.fromkeys(FIGURES, 0) | counts


def trouble(domain: str = "bad.example", errors: int = 50, delivered: int = 50, **more: Any) -> DomainErrors:
    outcome = Outcome(
        state="rcptto", result="error", next=Next.RETRY, code=421, description="Too many complaints", **more
    )
    last = LastAnswer(time=0.0, domain=domain, ip="", outcome=outcome)
    return DomainErrors(domain=domain, errors=errors, attempts=errors + delivered, delivered=delivered, last=last)


def wrong(text: str) -> HealthState:
    return HealthState(name="x", text=text, public="")


def test_a_machine_at_rest_is_idle() -> None:
    """Nothing to do is no problem."""
    assert judge(figures(), []).level == "idle"


def test_mail_that_only_waits_is_named() -> None:
    """Parked and retrying mail is what will be sent next."""
    judged = judge(figures(parked=40, waiting=1200), [])
    assert judged.level == "idle"
    assert "40 messages are parked, 1,200 wait" in judged.text


def test_mail_in_memory_that_nobody_attempts_is_to_be_watched() -> None:
    """It should have moved within a minute."""
    assert judge(figures(in_memory=1000), []).level == "watch"


def test_a_few_errors_are_everyday_life() -> None:
    """They are counted, and no alarm."""
    judged = judge(figures(delivered=6000, errors=60), [trouble(errors=5)])
    assert judged.level == "good"
    assert judged.text == "100 messages a second delivered, 1.0% of attempts went wrong in the last minute."


def test_one_destination_that_refuses_is_named_however_little_it_weighs() -> None:
    """At 3 in the morning one wants to know which."""
    judged = judge(figures(delivered=6000, errors=60), [trouble(), trouble("worse.example")])
    assert judged.level == "watch"
    assert judged.detail == "bad.example defers 50%: 421 Too many complaints; 1 more like it"


def test_many_errors_are_a_problem() -> None:
    """Half of the attempts is too many."""
    assert judge(figures(delivered=85, errors=15), []).level == "watch"
    assert judge(figures(delivered=50, errors=30, strange=20), []).level == "bad"


def test_a_server_that_cannot_be_reached_is_a_problem_too() -> None:
    """Without a connection there is no answer to count as an error."""
    assert judge(figures(unreached=500, retried=500), []).level == "bad"


def test_nothing_accepted_is_a_problem() -> None:
    """Whatever the reason."""
    judged = judge(figures(strange=3), [trouble(errors=3, delivered=0)])
    assert judged.level == "bad"
    assert judged.text.startswith("Nothing was accepted")


def test_what_is_wrong_with_the_machine_itself_comes_first() -> None:
    """A full disk, a broker that is away: however well the rest goes."""
    judged = judge(figures(delivered=6000), [trouble()], [wrong("the disk is full"), wrong("the log loses lines")])
    assert (judged.level, judged.text, judged.detail) == ("bad", "the disk is full.", "the log loses lines")


def test_what_is_paused_is_no_good_news() -> None:
    """All of it: whatever was delivered a moment ago. A part: named, with what it holds."""
    whole = judge(figures(delivered=6000), [], held=HeldMail("paused, until somebody resumes it", 3300))
    assert (whole.level, whole.word) == ("bad", "Paused")
    assert whole.text == "All mail: paused, until somebody resumes it; 3,300 messages held."
    part = judge(figures(delivered=6000), [], held=HeldMail("", 12, 2))
    assert (part.level, part.detail) == ("watch", "2 pauses hold 12 messages")


def test_what_is_selected_is_judged_alone() -> None:
    """By its own name and figures; of what was never seen it says that, and not how the machine is."""
    assert judge(figures(delivered=60), [], what="a.example").text.startswith("a.example: 60 messages a minute")
    unknown = judge(figures(), [], what="never.example", known=False)
    assert (unknown.word, unknown.level) == ("Unknown", "idle")
    assert "never.example" in unknown.text


NOW = datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize(
    ("pause", "selected", "says"),
    [
        ({}, {}, "same"),
        ({}, {"domain": "a.example"}, "wider"),
        ({"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "domain": "a.example"}, "wider"),
        ({"domain": "a.example"}, {}, "part"),
        ({"domain": "a.example"}, {"ip": "192.0.2.1"}, "part"),
        ({"domain": "b.example"}, {"domain": "a.example"}, "none"),
        ({"domain": "a.example", "tag": "x"}, {"domain": "a.example"}, "part"),
    ],
)
def test_a_pause_is_for_the_same_for_more_or_for_a_part_of_what_is_selected(
    pause: dict[str, str], selected: dict[str, str], says: str
) -> None:
    """What it says of the selection follows from that."""
    assert describes(Pause(**pause), selected) == says


def test_a_pause_says_why_and_for_how_long() -> None:
    """In words, by whoever reads it where."""
    later = Pause(until=NOW + datetime.timedelta(minutes=54), reason="the list was wrong")
    assert why(later, NOW.timestamp()) == "paused (the list was wrong), for another 54 min"
    assert why(Pause(reason="manual"), 0) == "paused, until somebody resumes it"
    held = held_mail([later], {"domain": "a.example"}, lambda pause: 7)
    assert held.held == 7 and held.whole.startswith("paused (the list was wrong)")
