"""DNS overrides: the receiving servers of a domain, in place of what DNS says."""

from __future__ import annotations

from typing import Any

from gui.components.rules.rule_page import RulePage
from gui.components.view import ConsolePage
from settings.rules import Rule
from settings.rules.models import Dns


class DnsOverrides(RulePage):
    """One opened DNS overrides."""

    path = "/dns"
    kind = "dns"
    noun = "DNS override"
    label = "DNS overrides"
    empty = (
        "DNS decides where mail goes",
        "Add a domain whose mail must go to other servers than its MX records say: a test server, or one that moves.",
    )

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Dns)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Dns)
        return rule.name

    def consequence(self, rule: Rule) -> str:
        return "Mail for it goes where DNS says again."


PAGE = ConsolePage(
    path="/dns",
    title="DNS overrides",
    section="Deliver",
    icon="M10 2.500a7.500 7.500 0 1 1 0 15 7.500 7.500 0 0 1 0-15M2.500 10h15M10 2.500c-5 5-5 10 0 15",
    key="0",
    build=DnsOverrides,
    purpose="Which servers take a domain's mail, in place of what DNS says.",
)
