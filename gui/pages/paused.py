"""Paused deliveries: what is held, from which MTA to which target, until when, why, and how many wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gui.components.mail.target import pool_cell, target_cells, with_target
from gui.components.rules.flood_list import FloodList
from gui.components.rules.rule_page import EDIT, Cells, RulePage
from gui.components.rules.rule_table import Action, RuleColumn, columns_of
from gui.components.view import ConsolePage
from pipeline.views.bulk import Busy
from pipeline.views.state.pauses import named
from pipeline.views.state.standing import many
from settings.rules import Pause, Rule
from settings.store import NotAllowed

EMPTIES = {"ip": "all MTA IPs", "until": "somebody resumes it", "cluster": "this one", "tag": "any"}


class Paused(RulePage):
    """One opened Paused deliveries."""

    path = "/paused"
    kind = "pauses"
    noun = "pause"
    label = "Pauses"
    actions = (
        EDIT,
        Action("resume", "Resume", text=True, tone="good"),
        Action("delete-held", "Delete held…", text=True, tone="danger"),
    )
    gone = "Resumed"
    empty = (
        "Nothing is paused by hand",
        "Mail to a domain, from an MTA IP, or all of it can be held here, or with the Running button on the Overview. "
        "What is held stays in the queue, and goes out in order when it is resumed.",
    )

    def shown_columns(self) -> list[RuleColumn]:
        found = with_target(columns_of(self.kind), "ip", EMPTIES)
        del found["instance"], found["pool"]
        held = msgspec.structs.replace(found.pop("held"), live=True, kind="number", label="Waiting")
        return [msgspec.structs.replace(found.pop("ip"), label="From"), found.pop("target"), held, *found.values()]

    def below(self) -> None:
        FloodList(self.view, self.notes, self.box, "Paused by flood patterns", self.allowed, paused_only=True)

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Pause)
        return named(rule)

    def rank(self, rule: Rule) -> Any:
        """The newest first."""
        return -rule.id

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Pause)
        return {**target_cells(rule), "ip": pool_cell(rule.pool) if rule.pool else rule.ip}

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if isinstance(rule, Pause) and not (rule.ip or rule.pool or rule.domain or rule.remote_ip or rule.tag):
            line = {"text": "Mail is still taken in, and waits in the queue."}
            return [{"tone": "watch", "title": "This pauses the whole machine.", "lines": [line]}]
        return []

    async def acted(self, action: str, rule: Rule) -> None:
        if action == "resume":
            await self.take_away(rule)
        elif action == "delete-held" and isinstance(rule, Pause):
            await self._delete_held(rule)

    async def _delete_held(self, pause: Pause) -> None:
        """What it holds is thrown away; the pause stays."""
        held = self.facade.rules.held(pause)
        if not held:
            self.notes.say("It holds no message.")
            return
        lines = ["Nobody is told, and it cannot be undone. The pause itself stays."]
        if not await self.box.confirm_count(f"Delete {many(held)} of {named(pause)}?", lines, "Delete", held):
            return
        try:
            job = self.facade.queue.begin("delete", self.facade.rules.held_by(pause), self.view.who)
        except (Busy, NotAllowed) as error:
            self.notes.say(str(error), level="bad")
            return
        await self.facade.bulk.finished(job)
        self.notes.say(job.error or f"Deleted: {many(job.changed)}.", level="bad" if job.error else "good")


PAGE = ConsolePage(
    path="/paused",
    title="Paused deliveries",
    section="Deliver",
    icon="M10 2.500a7.500 7.500 0 1 1 0 15 7.500 7.500 0 0 1 0-15zM8 7v6M12 7v6",
    key="p",
    build=Paused,
    purpose="What is held, from which MTA IP to which target, until when and why; it fills the queue.",
)
