"""Bounce classes: what negative answers mean. The operator's own patterns, and the answers that have no class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gui.components.drawing import tag, text
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.rules.tryout import Tryout
from gui.components.view import ConsolePage
from pipeline.views.answers import classify
from settings.rules import Rule
from settings.rules.acting import BounceClass
from settings.rules.patterns import compile_pattern

MOST = 100
EXAMPLE = "452 4.2.2 The recipient's inbox is out of storage space"
COLUMNS = (
    Column("answer", "Answer", "code", main=True),
    Column("domain", "Domain", width="22%"),
    Column("count", "Times", "number", width="90px"),
)
NOTHING = Empty("Every answer has a class", "Answers that no pattern matches stand here, to be classed.")


class BounceClasses(RulePage):
    """One opened Bounce classes."""

    path = "/classes"
    kind = "classes"
    noun = "pattern"
    label = "Own patterns"
    drag = True
    tryout = ("Try it on an answer", EXAMPLE)
    empty = (
        "The shipped table decides alone",
        "Each negative answer gets a class. Add a pattern for answers that it does not know, or knows wrongly.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        del found["order"]
        found["pattern"] = msgspec.structs.replace(found["pattern"], kind="code")
        found["used"] = msgspec.structs.replace(found["used"], live=True, kind="number")
        return list(found.values())

    def above(self) -> None:
        with tag("section", "card"):
            Tryout("Which class has this answer?", EXAMPLE, self._judge)

    def below(self) -> None:
        with tag("section", "card"):
            with tag("div", "card-head"):
                text("h2", "Answers without a class")
            self._other = LiveTable(COLUMNS, "Answers without a class", NOTHING)

    def refresh(self) -> None:
        super().refresh()
        unknown = self.facade.unknown_answers()[:MOST]
        self._other.show(
            [
                {
                    "key": str(number),
                    "answer": shown(answer.text, 200),
                    "domain": shown(answer.domain, 80),
                    "count": answer.count,
                }
                for number, answer in enumerate(unknown)
            ]
        )

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, BounceClass)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, BounceClass)
        return (rule.order or 0, rule.id)

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, BounceClass):
            return []
        matches = compile_pattern(rule.type, rule.pattern)
        hits = [answer for answer in self.facade.unknown_answers() if matches(answer.text)]
        title = f"Would class {sum(answer.count for answer in hits)} answers that have no class now"
        return [
            {"tone": "good" if hits else "idle", "title": title, "lines": [{"text": a.text[:160]} for a in hits[:6]]}
        ]

    def _judge(self, said: str) -> Cells:
        class_, own = classify(self.store.snapshot, said.strip())
        line = "By a pattern of yours." if own else "By the shipped table."
        return {"tone": "good" if class_ != "other" else "idle", "title": f"{class_}.", "lines": [{"text": line}]}


PAGE = ConsolePage(
    path="/classes",
    title="Bounce classes",
    section="Deliver",
    icon="M3 4h6v6H3zM11 4h6v6h-6zM3 12h6v4H3zM11 12h6v4h-6z",
    key="c",
    build=BounceClasses,
    purpose="What negative answers mean: your own patterns, and the answers that have no class.",
)
