"""Redirected deliveries: which MTA IP stands in for which, for what mail, until when, and what goes that way now."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from gui.components.mail.target import target_cells, target_name, with_target
from gui.components.rules.rule_page import EDIT, Cells, RulePage
from gui.components.rules.rule_table import Action, RuleColumn, columns_of
from gui.components.view import ConsolePage
from settings.rules import Redirect, Rule

NOW = RuleColumn(
    name="now",
    label="Now",
    help="Messages from this MTA IP, and to this domain, that were redirected in the last 60 s.",
    empty="nothing",
    live=True,
    sortable=False,
)


class RedirectsPage(RulePage):
    """One opened Redirected deliveries."""

    path = "/redirects"
    kind = "redirects"
    noun = "redirect"
    label = "Redirects"
    actions = (EDIT, Action("end", "End", text=True))
    gone = "Ended"
    empty = (
        "Nothing is redirected",
        "When a receiver greylists or blocks one MTA IP, let its mail leave from another one for a while.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = with_target(columns_of(self.kind), "from_ip", {"until": "somebody ends it"})
        total = msgspec.structs.replace(found.pop("redirected"), live=True, kind="number")
        order = [
            found.pop("from_ip"),
            found.pop("to_ip"),
            msgspec.structs.replace(found.pop("target"), label="For mail to"),
        ]
        return [*order, NOW, total, *found.values()]

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Redirect)
        return f"{rule.from_ip} leaves from {rule.to_ip}, to {target_name(rule)}"

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Redirect)
        return (rule.from_ip, rule.domain is None, rule.remote_ip is None, target_name(rule))

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Redirect)
        return target_cells(rule)

    def live_cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Redirect)
        recent = self.facade.telemetry.snapshot("ip", rule.from_ip)["redirected"]
        if rule.domain is not None:
            recent = min(recent, self.facade.telemetry.snapshot("domain", rule.domain)["redirected"])
        now = {"tone": "good", "text": f"{recent:,} a minute"} if recent else None
        return {**super().live_cells(rule), "now": now}

    def warnings(self, rule: Rule) -> dict[str, str]:
        assert isinstance(rule, Redirect)
        remotes = (rule.remote_ip,) if rule.remote_ip else ()
        onward = self.store.snapshot.redirect(rule.to_ip, rule.domain or "", remotes, time.time())
        found = {"to_ip": f"goes on to {onward.to_ip}"} if onward is not None else {}
        if not self.facade.ips.is_ours(rule.to_ip):
            found["to_ip"] = "not an address of this machine"
        return found

    async def acted(self, action: str, rule: Rule) -> None:
        if action == "end":
            await self.take_away(rule)


PAGE = ConsolePage(
    path="/redirects",
    title="Redirected deliveries",
    section="Deliver",
    icon="M3 14.500v-2a4 4 0 0 1 4-4h9M12.500 5l3.500 3.500-3.500 3.500",
    key="r",
    build=RedirectsPage,
    purpose="Which MTA IP stands in for which, for what mail, and until when.",
)
