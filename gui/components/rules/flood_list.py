"""The floods in force: what receivers have slowed down, until when, and a way to end it early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from nicegui import ui

from gui.components.dialog_box import DialogBox
from gui.components.drawing import tag, text
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.notes import Notes
from gui.components.view import View
from settings.rules import InvalidRule
from settings.store import NotAllowed, RulesUnavailable

MOST = 200  # rows; what is paused, and ends first, comes first
COLUMNS = (
    Column("lane", "Destination", "link", width="19%", main=True),
    Column("state", "State", "state", width="104px"),
    Column("until", "Until", "in", tip="When the pause, or the time on the pattern's limits, ends.", width="96px"),
    Column("waits", "Waits", "number", tip="Messages in memory and parked that wait for this lane.", width="82px"),
    Column("pattern", "Pattern", width="12%"),
    Column("answer", "Answer that matched", "code"),
    Column("acts", "", "actions", width="170px"),
)
NOTHING = Empty(
    "No receiver has slowed us down",
    "A lane appears here when an answer of its receiver matches a flood pattern, as long as it is slowed down.",
)

NOTHING_PAUSED = Empty(
    "No receiver has us paused",
    "A lane appears here while a flood pattern pauses it; slower but running ones stand under Flood patterns.",
)


class FloodList:
    """The floods in force, as a card of a page.

    Args:
        heading: of the card.
        paused_only: leave out what runs already, on the pattern's limits.
        allowed: whether the session lasts.
    """

    def __init__(
        self,
        view: View,
        notes: Notes,
        box: DialogBox,
        heading: str,
        allowed: Callable[[], bool],
        paused_only: bool = False,
    ) -> None:
        self._view, self._notes, self._box = view, notes, box
        self._allowed, self._paused_only = allowed, paused_only
        with tag("section", "card floods-card"):
            with tag("div", "card-head"):
                text("h2", heading)
                ui.label("by what receivers answered").classes("of")
            self._table = LiveTable(COLUMNS, heading, NOTHING_PAUSED if paused_only else NOTHING)
        self._table.on_act(self._act)
        self.refresh()
        view.live.each(self.refresh)

    def refresh(self) -> None:
        """Show what is in force now."""
        wanted = [flood for flood in self._view.facade.floods.all() if not self._paused_only or flood.state == "paused"]
        wanted.sort(key=lambda flood: (flood.state, flood.paused_until))
        self._table.show([self._row(flood) for flood in wanted[:MOST]])

    def _row(self, flood: Any) -> dict[str, Any]:
        ip, _, group = flood.lane.partition("/")
        explainer = self._view.facade.explainer
        brief, domains = explainer.brief(flood.lane), explainer.domains(flood.lane) or [group]
        more = f" and {len(domains) - 1} more" if len(domains) > 1 else ""
        return {
            "key": f"{flood.lane} {flood.tag or ''}".strip(),
            "lane": {
                "href": "/?domain=" + quote(domains[0], safe=""),
                "text": shown(domains[0]) + more,
                "under": f"from {ip}" + (f", tag {shown(flood.tag, 80)} only" if flood.tag else ""),
            },
            "state": flood.state,
            "until": flood.paused_until if flood.state == "paused" else flood.reduced_until,
            "waits": brief.in_memory + brief.parked,
            "pattern": shown(flood.pattern),
            "answer": shown(flood.answer, 200),
            "acts": [("end", "End it"), ("keep", "Keep")],
        }

    async def _keep(self, lane: str) -> None:
        """The lane stays paused until somebody resumes it."""
        try:
            kept = await self._view.facade.floods.keep(lane, self._view.who)
        except (InvalidRule, RulesUnavailable) as error:
            self._notes.say(str(error), level="bad")
            return
        self._notes.say(f"Kept: {shown(lane)} is paused until you resume it" if kept else "It had ended already.")

    async def _act(self, lane: str, action: str) -> None:
        if action not in ("end", "keep") or not self._allowed():
            return
        lane = lane.partition(" ")[0]
        if action == "keep":
            await self._keep(lane)
            return
        title, line = (
            f"End the flood on {shown(lane)}?",
            "Its mail goes out at full speed at once. The next matching answer begins it anew.",
        )
        if await self._box.confirm(title, [line], "End it"):
            try:
                ended = self._view.facade.floods.end(lane, self._view.who)
            except NotAllowed as error:
                self._notes.say(str(error), level="bad")
                return
            self._notes.say(f"Ended: the flood on {shown(lane)}" if ended else "It had ended already.")
            self.refresh()
