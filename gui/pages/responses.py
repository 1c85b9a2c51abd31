"""Response rules: what happens when a negative answer comes, in the operator's order; and bounce classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gui.components.rules.rule_page import Cells
from gui.components.rules.rule_table import RuleColumn
from gui.components.rules.selecting_page import SelectingPage, does
from gui.components.view import ConsolePage
from settings.rules import Rule
from settings.rules.acting import Response
from settings.rules.snapshot import answer_text

TRIGGER = ("name", "ip", "pool", "domain", "remote_ip", "tag", "type", "pattern", "meaning", "answer")
SHOWN = ("order", "go_on", "dry", "until")
SILENT = ("id", "suppress_days", "pause_seconds", "used", "would")
MOST = 6


class Responses(SelectingPage):
    """One opened Response rules."""

    path = "/responses"
    kind = "responses"
    noun = "response rule"
    label = "Response rules"
    drag = True
    empty = (
        "Nothing happens by itself",
        "A rule acts on negative answers: it retries from another IP, gives up, suppresses, pauses or tags. "
        "Let it run dry first, and see what it would have done.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = super().shown_columns()
        acting = RuleColumn(name="does", label="Does", help="What it does with such an answer.", sortable=False)
        kept = [column for column in found if column.name in (*TRIGGER, "target", "used", "dry", "go_on", "until")]
        would = RuleColumn(name="would", label="Would have", help="While dry.", kind="number", live=True)
        return [*kept, acting, would]

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Response)
        return {**super().cells(rule), "does": does(self.kind, rule, (*TRIGGER, *SHOWN, *SILENT))}

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        """Which of the last real answers it would have acted on."""
        if not isinstance(rule, Response):
            return []
        matches = rule.matcher
        answers = [answer for answer in self.facade.telemetry.answers if answer.outcome.code is not None]
        said = [
            (answer, answer_text(answer.outcome.code, answer.outcome.status, answer.outcome.description))
            for answer in answers
            if rule.meaning in (None, answer.outcome.bounce_class) and rule.domain in (None, answer.domain)
        ]
        hits = dict.fromkeys(text for _, text in said if matches(text))
        lines = [{"text": text[:160]} for text in hits]
        title = f"Would fit {sum(matches(text) for _, text in said)} of the last {len(answers)} negative answers"
        return [{"tone": "good" if hits else "idle", "title": title, "lines": lines[:MOST]}]


PAGE = ConsolePage(
    path="/responses",
    title="Response rules",
    section="Deliver",
    icon="M3 5h14v8H9l-4 4v-4H3zM7 9h6",
    key="v",
    build=Responses,
    purpose="What happens when a negative answer comes, in your order.",
)
