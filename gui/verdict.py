"""The verdict: how things are, in one sentence, from the figures that the Overview shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from operators.outcome import Outcome
from pipeline.telemetry import Trouble

WATCH = 0.10  # of the ended attempts went wrong: look at it
BAD = 0.50  # of the ended attempts went wrong: act


class Judged(msgspec.Struct, frozen=True):
    """Level good, watch, bad or idle; a word for it; what is so; what is behind it."""

    level: str
    word: str
    text: str
    detail: str = ""


def judge(figures: Mapping[str, int], troubles: Sequence[Trouble]) -> Judged:
    """What an operator should know first."""
    delivered, wrong = figures["delivered"], figures["errors"] + figures["strange"]
    ended = delivered + wrong
    detail = _worst(troubles) if wrong else ""
    if not ended:
        return _quiet(figures)
    share = wrong / ended
    if not delivered:
        text = f"Nothing was accepted in the last minute: {wrong:,} of {ended:,} attempts went wrong."
        return Judged("bad", "Problem", text, detail)
    text = f"{_rate(delivered)} delivered; {share:.1%} of attempts went wrong."
    if share >= BAD:
        return Judged("bad", "Problem", text, detail)
    if share >= WATCH:
        return Judged("watch", "Watch", text, detail)
    return Judged("good", "Delivering", text)


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
        return f"{count:,} message{'s' if count != 1 else ''} in the last minute"
    return f"{count / 60:,.0f} messages a second"


def _worst(troubles: Sequence[Trouble]) -> str:
    if not troubles:
        return ""
    worst = troubles[0]
    return f"Worst: {worst.domain}, {worst.errors:,} in 5 minutes, {code(worst.last.outcome)} {worst.last.outcome.description}"[
        :200
    ]


def code(outcome: Outcome) -> str:
    """The reply code, or what came in its place."""
    return str(outcome.code) if outcome.code is not None else outcome.result
