"""Local addresses: recipients whose mail goes to the local queue, and which need no login at intake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gui.components.drawing import tag
from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.rules.tryout import Tryout
from gui.components.view import ConsolePage
from settings.rules import Local, Rule
from settings.rules.patterns import compile_pattern


class LocalAddresses(RulePage):
    """One opened Local addresses."""

    path = "/local"
    kind = "locals"
    noun = "local address"
    label = "Local addresses"
    tryout = ("Try it on an address", "info@example.com")
    empty = (
        "No local addresses yet",
        "Mail to a local address is taken without a login, and goes to the local queue instead of out. Add an address "
        "such as info@yourdomain.com, or a pattern such as *@yourdomain.com.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        return [msgspec.structs.replace(found.pop("pattern"), kind="code"), *found.values()]

    def above(self) -> None:
        with tag("section", "card"):
            Tryout("Is this address local?", "info@example.com", self._judge)

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Local)
        return rule.pattern

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Local)
        return (rule.type != "exact", rule.pattern.casefold())

    def consequence(self, rule: Rule) -> str:
        return "Mail to it needs a login again, and is delivered like any other."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, Local) or not trying.strip():
            return []
        hit = compile_pattern(rule.type, rule.pattern)(trying.strip())
        title = "This address would be local" if hit else "This pattern does not match the address"
        return [{"tone": "good" if hit else "idle", "title": title, "lines": []}]

    def _judge(self, text: str) -> Cells:
        address = text.strip()
        rules = [rule for rule in self.matching_all() if compile_pattern(rule.type, rule.pattern)(address)]
        if not rules:
            return {"tone": "idle", "title": "Not local.", "lines": [{"text": "Its mail is delivered like any other."}]}
        names = ", ".join(f"{rule.pattern} ({rule.type})" for rule in rules[:5])
        return {"tone": "good", "title": "Local.", "lines": [{"text": f"By {names}"}]}

    def matching_all(self) -> tuple[Local, ...]:
        """All patterns, whatever is looked for."""
        return self.store.snapshot.locals


PAGE = ConsolePage(
    path="/local",
    title="Local addresses",
    section="Receive",
    icon="M3 9l7-6 7 6v8H3zM7.500 17v-5h5v5",
    key="h",
    build=LocalAddresses,
    purpose="Recipients whose mail is taken without a login, and goes to the local queue.",
)
