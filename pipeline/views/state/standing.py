"""How a destination stands: its state by the share of its answers, and the sentence that says it. Pure functions."""

from __future__ import annotations

import re

import msgspec

from pipeline.telemetry.backlog import SPAN, Reason, Standing

__all__ = ["WORST", "EqualAnswers", "Standing", "answers", "condition", "many", "provider", "quoted", "sentence"]

ENOUGH = 10  # attempts or messages, below which a share says nothing
SHARE = 0.25  # of the attempts that ended, from which on a destination defers, or fails
_MORE = re.compile(r"\+(\d+)~\w+$")  # of `operators.deliveries.routes.group_name`
SAID = 160  # characters of an answer
# States, the worst first.
WORST = ("paused", "flooded", "failing", "deferring", "reduced", "throttled", "running")


class EqualAnswers(msgspec.Struct, frozen=True):
    """Equal answers: how many, what they mean (deferred or bounced), their code and text."""

    count: int
    kind: str
    code: str
    text: str


def condition(standing: Standing) -> str:
    """deferring: much of it is put off, or all that is left waits; failing: much is given up; else empty."""
    enough = standing.ended >= ENOUGH
    if enough and standing.bounced >= SHARE * standing.ended and standing.bounced > standing.deferred:
        return "failing"
    if enough and standing.deferred + standing.bounced >= SHARE * standing.ended:
        return "deferring"
    return "deferring" if not standing.ended and standing.retrying >= ENOUGH else ""


def sentence(standing: Standing) -> str:
    """What an operator should know of it; empty where all is well and nothing waits."""
    parts = []
    wrong = standing.deferred + standing.bounced
    if wrong:
        words = {"deferred": standing.deferred, "given up": standing.bounced}
        counts = ", ".join(f"{count:,} {word}" for word, count in words.items() if count)
        parts.append(f"{counts} of {standing.ended:,} in the last {SPAN} min")
    if standing.retrying:
        parts.append(f"{many(standing.retrying)} {'wait' if standing.retrying != 1 else 'waits'} for a retry")
    said = "; ".join(parts)
    return f"{said}: {quoted(standing)}" if wrong and said else said


def quoted(standing: Standing) -> str:
    """The most frequent answer."""
    if not standing.reasons:
        return ""
    (reason, count), total = standing.reasons[0], sum(count for _, count in standing.reasons)
    text = f"{reason.code} {reason.text}".strip()[:SAID]
    return text if count == total else f"{text} ({count:,} times)"


def answers(standing: Standing, most: int = 8) -> list[EqualAnswers]:
    """Equal answers with their count, the most frequent first."""
    return [_answers(reason, count) for reason, count in standing.reasons[:most]]


def provider(group: str) -> str:
    """A destination group as one says it: its first host, and how many more there are."""
    return _MORE.sub(r" and \1 more", group)


def many(count: int, noun: str = "message") -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _answers(reason: Reason, count: int) -> EqualAnswers:
    return EqualAnswers(count, reason.kind, reason.code, reason.text)
