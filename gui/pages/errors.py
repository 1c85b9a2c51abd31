"""Forced errors: mail that is ended with an answer of the operator's, without a connection: a campaign is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gui.components.live_table import shown
from gui.components.progress import Progress
from gui.components.rules.rule_page import EDIT, Cells
from gui.components.rules.rule_table import Action
from gui.components.rules.selecting_page import SelectingPage, chosen_mail
from gui.components.view import ConsolePage
from pipeline.views.queues import Withdrawal
from settings.rules import ForcedError, Rule


class ForcedErrors(SelectingPage):
    """One opened Forced errors."""

    path = "/errors"
    kind = "errors"
    noun = "forced error"
    label = "Forced errors"
    actions = (EDIT, Action("end", "End", text=True))
    gone = "Ended"
    hidden = (*SelectingPage.hidden, "all")
    empty = (
        "No mail is stopped",
        "A campaign that must not go on, or a domain that must get no more mail, is ended here with an answer of "
        "yours. What waits already is ended too.",
    )

    def above(self) -> None:
        self._progress = Progress()
        self.view.live.each(self._show_progress)

    def _show_progress(self) -> None:
        going = next((one for one in self.facade.withdrawals() if one.over is None), None)
        self._progress.show("job", None if going is None else _progress(going))

    def consequence(self, rule: Rule) -> str:
        return "Mail goes out again from the next message. What it has ended stays ended."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, ForcedError):
            return []
        what = {2: "taken for delivered", 4: "tried again later"}.get(rule.code // 100, "given up")
        said = " ".join(str(part) for part in (rule.code, rule.extended, rule.description) if part)
        lines = [{"text": f"Its result says: {said}"}]
        title = f"This ends {chosen_mail(rule)}: it is {what}, without a connection."
        return [{"tone": "watch", "title": title, "lines": lines}]

    async def acted(self, action: str, rule: Rule) -> None:
        if action == "end":
            await self.take_away(rule)


def _progress(withdrawal: Withdrawal) -> dict[str, Any]:
    share = round(100 * min(1, withdrawal.looked / withdrawal.total)) if withdrawal.total else 100
    text = f"Ending what waits: {withdrawal.ended:,} ended, {withdrawal.looked:,} of {withdrawal.total:,} looked at"
    return {"text": f"{text}; {shown(withdrawal.error, 200)}" if withdrawal.error else text, "share": share}


PAGE = ConsolePage(
    path="/errors",
    title="Forced errors",
    section="Deliver",
    icon="M10 2.500a7.500 7.500 0 1 1 0 15 7.500 7.500 0 0 1 0-15zM5 5l10 10",
    key="x",
    build=ForcedErrors,
    purpose="Mail that is ended with an answer of yours, without a connection: a campaign is stopped.",
)
