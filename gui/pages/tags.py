"""Tags: what each one's mail does now, with a pause and a stop for it; and their shares of lanes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gui.components.drawing import tag, text
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.rules.rule_page import RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.view import ConsolePage
from pipeline.views.figures import FIGURES
from settings.rules import Rule
from settings.rules.tenants import TagRule
from settings.store import REFUSED

MOST = 200  # tags
COLUMNS = (
    Column("tag", "Tag", "link", "Its name leads to its Overview.", width="22%", main=True),
    Column("state", "State", "state", "Whether its mail is paused or stopped as a whole.", width="100px"),
    Column("processed", "Processed", "number", FIGURES["processed"].definition + " In the last 60 s.", width="90px"),
    Column("delivered", "Delivered", "number", FIGURES["delivered"].definition + " In the last 60 s.", width="90px"),
    Column("errors", "Errors", "number", FIGURES["errors"].definition + " In the last 60 s.", width="74px"),
    Column("in_memory", "In memory", "number", FIGURES["in_memory"].definition, width="90px"),
    Column("parked", "Parked", "number", FIGURES["parked"].definition, width="76px"),
    Column("log", "Log", "link", width="60px"),
    Column("acts", "", "actions", width="170px"),
)
NOTHING = Empty("No tag yet", "A tag appears here when a message that has it comes into memory.")


class Tags(RulePage):
    """One opened Tags."""

    path = "/tags"
    kind = "tags"
    noun = "tag"
    label = "Shares and rates"
    empty = (
        "All tags are alike",
        "Tags take turns in a lane. Give one more weight, or a rate of its own.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        del found["figures"]
        return list(found.values())

    def above(self) -> None:
        with tag("section", "card"):
            with tag("div", "card-head"):
                text("h2", "Tags now")
                text("span", "counters of the last 60 s", "of")
            self._now = LiveTable(COLUMNS, "Tags now", NOTHING)
        self._now.on_act(self._acted)

    def refresh(self) -> None:
        super().refresh()
        names = self.facade.telemetry.keys("tag")[:MOST]
        figures = self.facade.telemetry.snapshots("tag", names)
        self._now.show([self._tag_row(name, figures[name]) for name in names])

    def _tag_row(self, name: str, figures: dict[str, int]) -> dict[str, Any]:
        state = self.facade.rules.tag_state(name)
        acts = [("pause", "Pause"), ("stop", "Stop")] if state == "running" else []
        kept = ("processed", "delivered", "errors", "in_memory", "parked")
        return {
            "key": name,
            "tag": {"text": shown(name, 80), "href": "/?tag=" + quote(name, safe="")},
            "state": state,
            **{figure: figures[figure] for figure in kept},
            "log": {"text": "log", "href": "/logs?tag=" + quote(name, safe="")},
            "acts": acts,
        }

    async def _acted(self, name: str, action: str) -> None:
        if action not in ("pause", "stop") or not self.allowed():
            return
        who = self.view.who
        if action == "stop" and not await self.box.confirm(
            f"Stop {shown(name, 80)}?", ["All its mail is given up, also what waits."], "Stop", danger=True
        ):
            return
        try:
            rule = await (self.facade.rules.pause if action == "pause" else self.facade.rules.stop)({"tag": name}, who)
        except REFUSED as error:
            self.notes.say(str(error), level="bad")
            return
        kind = "pauses" if action == "pause" else "errors"
        said = "Paused" if action == "pause" else "Stopped"
        self.done(f"{said}: {shown(name, 80)}", lambda: self.store.delete(kind, rule.id, who))

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, TagRule)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, TagRule)
        return rule.name


PAGE = ConsolePage(
    path="/tags",
    title="Tags",
    section="Monitor",
    icon="M3 3h7l7 7-7 7-7-7zM6.500 6.500h.01",
    key="y",
    build=Tags,
    purpose="What the mail of each tag does now, with a pause and a stop for it.",
)
