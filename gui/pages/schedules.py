"""Schedules: how much may leave on which day of a warm-up."""

from __future__ import annotations

from typing import Any

import msgspec

from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.view import ConsolePage
from settings.rules import Rule
from settings.rules.form import fields
from settings.rules.warming import LIMITS, Schedule, WarmupStep, followers


class Schedules(RulePage):
    """One opened Schedules."""

    path = "/schedules"
    kind = "schedules"
    noun = "schedule"
    label = "Schedules"
    empty = (
        "No schedules yet",
        "A schedule says how many messages may leave on which day: 1=50, 2=100, 5=1000. Warm-ups follow it.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        steps = msgspec.structs.replace(found["steps"], sortable=False)
        used = RuleColumn(
            name="used", label="Followed by", help="Warm-ups that follow it.", empty="none", sortable=False
        )
        return [found["name"], found["description"], steps, used]

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Schedule)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Schedule)
        return rule.name.casefold()

    def entered(self, rule: Rule) -> dict[str, Any]:
        assert isinstance(rule, Schedule)
        return {**rule.shown(), "steps": [str(step) for step in rule.steps]}

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Schedule)
        chips = [{"text": f"{step.cap:,}" if step.cap else "no cap", "label": _label(step)} for step in rule.steps]
        return {**rule.shown(), "steps": chips, "used": self._users(rule)}

    def _users(self, schedule: Schedule) -> str | None:
        return ", ".join(followers(schedule.name, self.store.snapshot.rules("warmups"))) or None

    def consequence(self, rule: Rule) -> str:
        return "One that a warm-up follows cannot be deleted."


def _label(step: WarmupStep) -> str:
    labels = {field.name: f"{field.group}: {field.label}" for field in fields("throttles")}
    limits = [f"{labels[name]} {value:,}" for name in LIMITS if (value := getattr(step, name)) is not None]
    return ", ".join([f"from day {step.day}", *limits])


PAGE = ConsolePage(
    path="/schedules",
    title="Schedules",
    section="Deliver",
    icon="M3.500 16.500h3v-3h3.500v-4h3.500v-5h3",
    key="g",
    build=Schedules,
    purpose="How many messages may leave on which day of a warm-up.",
)
