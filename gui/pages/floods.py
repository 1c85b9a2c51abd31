"""Flood patterns: what receivers answer when they have had enough, in the order of the operator, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gui.components.drawing import tag
from gui.components.live_table import shown
from gui.components.rules.flood_list import FloodList
from gui.components.rules.rule_listing import limits_of
from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.rules.tryout import Tryout
from gui.components.view import ConsolePage
from pipeline.views.events import Outcome
from settings.rules import Flood, Rule
from settings.rules.patterns import compile_pattern
from settings.rules.snapshot import answer_text

THRESHOLD = ("count", "period", "percent", "attempts", "reduce_to")
MOST = 6  # answers that the form names
EXAMPLE = "421 4.7.0 Try again later, closing connection"


class FloodsPage(RulePage):
    """One opened Flood patterns."""

    path = "/floods"
    kind = "floods"
    noun = "flood pattern"
    label = "Flood patterns"
    drag = True
    tryout = ("Try it on an answer", EXAMPLE)
    empty = (
        "No flood patterns yet",
        "Add what receivers answer when mail comes too fast, such as “too many connections”. When it comes, the lane "
        "is paused, then runs on the pattern's own limits for a while.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = {name: column for name, column in columns_of(self.kind).items() if not column.group}
        for name in ("order", *THRESHOLD):
            del found[name]
        when = RuleColumn(name="when", label="When", help="How many matches begin it.", sortable=False)
        found["pattern"] = msgspec.structs.replace(found["pattern"], kind="code")
        hits = msgspec.structs.replace(found.pop("hits"), live=True, kind="number", label="Hits in 1 h")
        lanes = msgspec.structs.replace(found.pop("reduced_lanes"), live=True, kind="number", label="Lanes now")
        help_ = "What holds for the lane after the pause. Empty: only the pause."
        limits = RuleColumn(name="limits", label="Reduced to", help=help_, empty="no limits of its own", sortable=False)
        return [*found.values(), when, limits, hits, lanes]

    def above(self) -> None:
        with tag("section", "card"):
            Tryout("Which pattern matches this answer?", EXAMPLE, self._judge)

    def below(self) -> None:
        FloodList(self.view, self.notes, self.box, "Slowed down now", self.allowed)

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Flood)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Flood)
        return (rule.order or 0, rule.id)

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Flood)
        return {**rule.shown(), "limits": _limits(self.kind, rule), "when": _when(rule)}

    def live_cells(self, rule: Rule) -> Cells:
        found = super().live_cells(rule)
        return {**found, "reduced_lanes": len(found["reduced_lanes"])}

    def consequence(self, rule: Rule) -> str:
        return "Lanes that it has slowed down already stay so until their time ends. You can end each below."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, Flood):
            return []
        matches = compile_pattern(rule.type, rule.pattern)
        blocks = [self._past(matches)]
        if trying.strip():
            hit = matches(trying.strip())
            title = "This answer matches" if hit else "This answer does not match"
            blocks.insert(0, {"tone": "good" if hit else "idle", "title": title, "lines": []})
        return blocks

    def _past(self, matches: Any) -> Cells:
        """Which of the last real answers a pattern would have matched."""
        answers = [answer for answer in self.facade.telemetry.answers if answer.outcome.code is not None]
        if not answers:
            return {"tone": "idle", "title": "There are no negative answers yet to try it on.", "lines": []}
        found = [answer for answer in answers if matches(_said(answer.outcome))]
        lines = dict.fromkeys((answer.domain, _words(answer.outcome), str(answer.outcome.code)) for answer in found)
        shown_lines = [{"mark": code, "text": text, "sub": shown(domain, 80)} for domain, text, code in lines]
        title = f"Would have matched {len(found)} of the last {len(answers)} negative answers"
        return {"tone": "good" if found else "idle", "title": title, "lines": shown_lines[:MOST]}

    def _judge(self, text: str) -> Cells:
        """Which pattern wins on this answer, in the order of the operator."""
        found = self.store.snapshot.flood_match(None, None, text.strip())
        if found is None:
            return {"tone": "idle", "title": "No pattern matches", "lines": [{"text": "The lane goes on as it is."}]}
        line = f"The lane would be paused for {found.pause:,} s, then reduced for {found.reduced:,} s."
        return {"tone": "good", "title": f"{found.name} matches.", "lines": [{"text": line}]}


def _limits(kind: str, rule: Flood) -> list[dict[str, str]]:
    part = (
        [{"label": "All limits", "text": f"{rule.reduce_to} %", "tip": "of the normal ones"}] if rule.reduce_to else []
    )
    return [*part, *limits_of(kind, rule)]


def _when(rule: Flood) -> str:
    """Its threshold, in words."""
    if rule.percent is not None:
        return f"{rule.percent} % of {rule.attempts}"
    return f"{rule.count} in {rule.period} s" if rule.count > 1 else "the first"


def _said(outcome: Outcome) -> str:
    return answer_text(outcome.code, outcome.status, outcome.description)


def _words(outcome: Outcome) -> str:
    """What stands after the code, as a line."""
    return shown(answer_text(None, outcome.status, outcome.description), 160)


PAGE = ConsolePage(
    path="/floods",
    title="Flood patterns",
    section="Deliver",
    icon="M2.5 7q2 0 4 1.5t4 0 4 0 3-1M2.5 12.5q2 0 4 1.500t4 0 4 0 3-1",
    key="f",
    build=FloodsPage,
    purpose="What receivers answer when mail comes too fast, and how its lane is slowed down then.",
)
