"""External MTAs: MTA IPs that are not of this machine, and the way that their mail leaves by."""

from __future__ import annotations

from typing import Any

from gui.components.rules.rule_page import RulePage
from gui.components.view import ConsolePage
from settings.rules import Rule
from settings.rules.external import ExternalMtaRule


class ExternalMtas(RulePage):
    """One opened External MTAs."""

    path = "/external"
    kind = "external-mtas"
    noun = "external MTA"
    label = "External MTAs"
    empty = (
        "Mail leaves from this machine's addresses",
        "Add a public IP whose mail leaves elsewhere: through a SOCKS5 server, an HTTP proxy, HAProxy, or behind NAT.",
    )

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, ExternalMtaRule)
        return rule.public_ip

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, ExternalMtaRule)
        return rule.public_ip

    def consequence(self, rule: Rule) -> str:
        return "Mail that names it alone is given up, unless the configuration has it."


PAGE = ConsolePage(
    path="/external",
    title="External MTAs",
    section="Deliver",
    icon="M3 10h9M8 6l4 4-4 4M12 4h5v12h-5",
    key="2",
    build=ExternalMtas,
    purpose="MTA IPs that are elsewhere: the proxy or address that their mail leaves through.",
)
