"""The verdict: how things are, in one sentence, from the figures that the Overview shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from operators.deliveries.outcome import Next, Outcome
from pipeline.machine.health import HealthState
from pipeline.telemetry.telemetry import DomainErrors
from pipeline.views.state.pauses import HeldMail
from pipeline.views.state.standing import many

WATCH = 0.10  # of the ended attempts went wrong: look at it
BAD = 0.50  # of the ended attempts went wrong: act
REFUSING = 0.25  # of one destination's attempts went wrong: it is named
PAUSED = "Paused"
ENOUGH = 10  # errors, below which a destination's share says nothing


class Judged(msgspec.Struct, frozen=True):
    """Level good, watch, bad or idle; a word for it; what is so; what is behind it."""

    level: str
    word: str
    text: str
    detail: str = ""


def judge(
    figures: Mapping[str, int],
    troubles: Sequence[DomainErrors],
    states: Sequence[HealthState] = (),
    held: HeldMail = HeldMail(),  # noqa: B008 - immutable
    what: str = "",
    known: bool = True,
) -> Judged:
    """What an operator should know first, of all mail or of what is selected.

    Args:
        figures: a snapshot of the telemetry: sums of the last 60 s, and gauges.
        troubles: destinations with errors in the last 5 minutes, the worst first.
        states: what is wrong with the machine now, the worst first.
        held: what pauses do.
        what: what is selected; empty: all mail.
        known: whether anything was ever seen of what is selected.
    """
    states = [state for state in states if not (held.whole and state.word == PAUSED)]  # it says more of it
    if states:
        worst, *others = states
        return Judged(worst.level, worst.word, f"{worst.text}.", "; ".join(state.text for state in others))
    if held.whole:
        return Judged("bad", PAUSED, f"{what or 'All mail'}: {held.whole}; {many(held.held)} held.")
    if not known:
        return Judged("idle", "Unknown", f"Nothing is known of {what}: no mail of it was seen since the start.")
    judged = _judged(figures, troubles)
    detail = judged.detail
    if held.parts:
        said = f"{many(held.parts, 'pause')} {'hold' if held.parts > 1 else 'holds'} {many(held.held)}"
        detail = f"{said}; {detail}" if detail else said
    level = "watch" if held.parts and held.held and judged.level in ("good", "idle") else judged.level
    word = "Watch" if level != judged.level else judged.word
    return Judged(level, word, f"{what}: {judged.text}" if what else judged.text, detail)


def _judged(figures: Mapping[str, int], troubles: Sequence[DomainErrors]) -> Judged:
    delivered, wrong = figures["delivered"], figures["errors"] + figures["strange"] + figures["unreached"]
    if not delivered + wrong:
        return _quiet(figures)
    failing = [trouble for trouble in troubles if trouble.errors >= ENOUGH and share(trouble) >= REFUSING]
    detail = _named(failing or troubles[:1]) if wrong else ""
    if not delivered:
        return Judged(
            "bad", "Problem", f"Nothing was accepted in the last minute, {wrong:,} attempts went wrong.", detail
        )
    part = wrong / (delivered + wrong)
    text = f"{_rate(delivered)} delivered, {part:.1%} of attempts went wrong in the last minute."
    if part >= BAD:
        return Judged("bad", "Problem", text, detail)
    if part >= WATCH or failing:
        return Judged("watch", "Watch", text, detail)
    return Judged("good", "Delivering", text)


def share(trouble: DomainErrors) -> float:
    """Which part of a destination's ended attempts went wrong."""
    ended = trouble.errors + trouble.delivered
    return trouble.errors / ended if ended else 1.0


def code(outcome: Outcome) -> str:
    """The reply code, or what came in its place."""
    return str(outcome.code) if outcome.code is not None else outcome.result


def answer(outcome: Outcome) -> str:
    """Enhanced status and text, as received."""
    return " ".join(part for part in (outcome.status, outcome.description) if part)


def _quiet(figures: Mapping[str, int]) -> Judged:
    """Nothing ended in the last minute."""
    held, parked, waiting = figures["in_memory"], figures["parked"], figures["waiting"]
    if held:
        return Judged("watch", "Watch", f"{held:,} messages are in memory, and no attempt ended in the last minute.")
    if parked or waiting:
        text = f"Nothing is being sent: {parked:,} messages are parked, {waiting:,} wait for a retry."
        return Judged("idle", "Waiting", text)
    return Judged("idle", "Idle", "Nothing is being sent, and nothing waits.")


def _rate(count: int) -> str:
    """Messages of a minute, as one says it."""
    if count < 120:
        return f"{count:,} message{'s' if count != 1 else ''} a minute"
    return f"{count / 60:,.0f} messages a second"


def _named(troubles: Sequence[DomainErrors]) -> str:
    if not troubles:
        return ""
    worst, more = troubles[0], len(troubles) - 1
    others = f"; {more} more like it" if more else ""
    said = f"{code(worst.last.outcome)} {answer(worst.last.outcome)}"[:120]
    does = "defers" if worst.last.outcome.next in (Next.RETRY, Next.POSTPONE) else "fails"
    return f"{worst.domain[:80]} {does} {share(worst):.0%}: {said}{others}"
