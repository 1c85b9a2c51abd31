"""Rewrite rules: what is changed in messages before their route is chosen, in the operator's order."""

from __future__ import annotations

from gui.components.rules.rule_page import Cells
from gui.components.rules.rule_table import RuleColumn
from gui.components.rules.selecting_page import SelectingPage, does
from gui.components.view import ConsolePage
from settings.rules import Rule

CHOOSES = (
    "id", "name", "ip", "pool", "domain", "remote_ip", "tag", "when", "hours", "order", "go_on", "until", "used",
)  # fmt: skip
ANSWER = ("extended", "description")  # of `fail` alone


class Rewrites(SelectingPage):
    """One opened Rewrite rules."""

    path = "/rewrites"
    kind = "rewrites"
    noun = "rewrite rule"
    label = "Rewrite rules"
    drag = True
    empty = (
        "Messages go as they came",
        "A rule changes messages before their route is chosen: pool, MTA IPs, tags, smarthost, delay, a header.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = {column.name: column for column in super().shown_columns()}
        acting = RuleColumn(name="does", label="Does", help="What it changes in such a message.", sortable=False)
        kept = [found[name] for name in ("name", "ip", "target", "tag", "used", "when", "hours")]
        return [*kept, acting, found["go_on"], found["until"]]

    def cells(self, rule: Rule) -> Cells:
        answer = () if getattr(rule, "fail", None) else ANSWER
        return {**super().cells(rule), "does": does(self.kind, rule, (*CHOOSES, *answer))}


PAGE = ConsolePage(
    path="/rewrites",
    title="Rewrite rules",
    section="Deliver",
    icon="M4 15.500l1-4 8-8 3 3-8 8zM11 5.500l3 3",
    key="w",
    build=Rewrites,
    purpose="What is changed in messages before their route is chosen, in your order.",
)
