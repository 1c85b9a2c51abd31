"""What the views of rules that choose deliveries have in common: from where, to where, and with which tag."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from gui.components.mail.target import target_cells, target_name, with_target
from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from settings.rules import Rule
from settings.rules.form import FormField, fields
from settings.rules.selection import Selecting

EMPTIES = {"ip": "all MTA IPs", "until": "somebody ends it", "tag": "any", "cluster": "this one"}


class SelectingPage(RulePage):
    """A view of rules that choose deliveries."""

    hidden: tuple[str, ...] = ("instance", "order", "pool")

    def shown_columns(self) -> list[RuleColumn]:
        found = with_target(columns_of(self.kind), "ip", EMPTIES)
        for name in self.hidden:
            found.pop(name, None)
        used = [msgspec.structs.replace(found.pop(name), live=True, kind="number") for name in self._live(found)]
        chosen = [found.pop(name) for name in ("ip", "target", "tag")]
        named = [found.pop("name")] if "name" in found else []
        return [*named, msgspec.structs.replace(chosen[0], label="From"), *chosen[1:], *used, *found.values()]

    def _live(self, columns: Mapping[str, RuleColumn]) -> list[str]:
        return [name for name in ("used",) if name in columns]

    def title(self, rule: Rule) -> str:
        return getattr(rule, "name", None) or chosen_mail(rule)

    def rank(self, rule: Rule) -> Any:
        """By the operator's order, where there is one; else the newest first."""
        order = getattr(rule, "order", None)
        return (order, rule.id) if order is not None else (0, -rule.id)

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Selecting)
        source = rule.ip or (f"pool {rule.pool}" if rule.pool else None)
        return {**target_cells(rule), "ip": source}


def does(kind: str, rule: Rule, besides: Collection[str]) -> str:
    """What a rule does, in words: its fields but for those `besides`, where they say something."""
    said = [(field, getattr(rule, field.name, None)) for field in fields(kind) if field.name not in besides]
    return "; ".join(_deed(field, value) for field, value in said if value not in (None, (), False))


def _deed(field: FormField, value: Any) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else "" if value is True else str(value)
    return f"{field.label[:1].lower()}{field.label[1:]} {text} {field.unit}".strip()


def chosen_mail(rule: Rule) -> str:
    """Which mail a rule is for, as one says it."""
    assert isinstance(rule, Selecting)
    source = rule.ip or (f"pool {rule.pool}" if rule.pool else "")
    target = target_name(rule)
    parts = [f"tag {rule.tag}" if rule.tag else "", "" if target == "everywhere" else f"to {target}"]
    parts.append(f"from {source}" if source else "")
    return " ".join(part for part in parts if part) or "all mail"
