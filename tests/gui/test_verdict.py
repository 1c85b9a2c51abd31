"""The verdict: what an operator reads first."""

from __future__ import annotations

from typing import Any

from operators.deliveries.outcome import Next, Outcome
from pipeline.machine.health import HealthState
from pipeline.telemetry.telemetry import FIGURES, DomainErrors, LastAnswer
from pipeline.views.verdict import judge


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
    assert judged.text == "100 messages a second delivered, 1.0% of attempts went wrong."


def test_one_destination_that_refuses_is_named_however_little_it_weighs() -> None:
    """At 3 in the morning one wants to know which."""
    judged = judge(figures(delivered=6000, errors=60), [trouble(), trouble("worse.example")])
    assert judged.level == "watch"
    assert judged.detail == "bad.example fails 50%: 421 Too many complaints; 1 more like it"


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
