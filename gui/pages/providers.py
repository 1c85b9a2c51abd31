"""Providers: whose MX hosts are one destination, and a catalogue of rules that their guidance asks for."""

from __future__ import annotations

from typing import Any

from gui.components.drawing import tag, text
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.rules.rule_page import RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.view import ConsolePage
from settings.rules import Rule
from settings.rules.tenants import ProviderRule
from settings.store import REFUSED

COLUMNS = (
    Column("provider", "Provider", width="14%", main=True),
    Column("kind", "Kind", width="100px"),
    Column("what", "Rule", "code"),
    Column("state", "State", "state", "off: not adopted. adopted. changed: yours is another.", width="100px"),
    Column("source", "Source", width="22%"),
    Column("acts", "", "actions", width="110px"),
)
NOTHING = Empty("Nothing is shipped", "")


class Providers(RulePage):
    """One opened Providers."""

    path = "/providers"
    kind = "providers"
    noun = "provider"
    label = "Own providers"
    empty = (
        "The shipped providers are in force",
        "Add one whose domains are one destination, or one with a shipped name to replace it.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        return list(columns_of(self.kind).values())

    def below(self) -> None:
        with tag("section", "card"):
            with tag("div", "card-head"):
                text("h2", "Catalogue of rules")
            self._catalogue = LiveTable(COLUMNS, "Catalogue of rules", NOTHING)
        self._catalogue.on_act(self._adopt)

    def refresh(self) -> None:
        super().refresh()
        self._catalogue.show([self._entry(entry) for entry in self.facade.rules.catalogue()])

    @staticmethod
    def _entry(entry: Any) -> dict[str, Any]:
        what = ", ".join(f"{name} {value}" for name, value in entry.values.items() if name not in ("domain", "type"))
        return {
            "key": str(entry.number),
            "provider": entry.provider,
            "kind": entry.kind,
            "what": shown(what, 200),
            "state": entry.state,
            "source": entry.source.removeprefix("https://"),
            "acts": [("adopt", "Adopt")] if entry.state != "adopted" else [],
        }

    async def _adopt(self, number: str, action: str) -> None:
        if action != "adopt" or not number.isdecimal() or not self.allowed():
            return
        try:
            await self.facade.rules.adopt(self.view.who, number=int(number))
        except REFUSED as error:
            self.notes.say(str(error), level="bad")
            return
        self.refresh()
        self.notes.say("Adopted: it is a rule of yours now")

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, ProviderRule)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, ProviderRule)
        return rule.name


PAGE = ConsolePage(
    path="/providers",
    title="Providers",
    section="Deliver",
    icon="M3 17v-9l7-5 7 5v9zM8 17v-5h4v5",
    key="z",
    build=Providers,
    purpose="Whose servers are one destination, and the limits that each provider's guidance asks for.",
)
