"""Pools: MTA IPs under one name, their shares of the mail that names it, and what goes through each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from gui.components.rules.pool_members import PoolMembers
from gui.components.rules.rule_page import EDIT, REMOVE, Cells, RulePage, whole
from gui.components.rules.rule_table import Action, RuleColumn, columns_of
from gui.components.view import ConsolePage, View
from pipeline.views.figures import FIGURES
from pipeline.views.scoped import moved
from settings.rules import Pool, Rule

COUNTED = ("attempts", "delivered", "errors", "in_memory", "parked")
NAMED = 4  # members that a warning names


class PoolsPage(RulePage):
    """One opened Pools."""

    path = "/pools"
    kind = "pools"
    noun = "pool"
    label = "Pools"
    actions = (Action("members", "Members", text=True), EDIT, REMOVE)
    empty = (
        "No pools yet",
        "A pool is a name for some MTA IPs. A message that says pool, or x-mq-pool, leaves from one of them, by "
        "weight, and from no other.",
    )

    def __init__(self, view: View) -> None:
        self._opened: int | None = None
        super().__init__(view)

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        counted = [
            RuleColumn(name=name, label=FIGURES[name].label, help=FIGURES[name].definition, kind="number", live=True)
            for name in COUNTED
        ]
        name = msgspec.structs.replace(found["name"], link="pool")
        members = msgspec.structs.replace(found["members"], empty="none: its mail is given up", sortable=False)
        return [name, found["description"], members, *counted]

    def below(self) -> None:
        PoolMembers(self.view, self.notes, self.box, self._open_pool)

    def _open_pool(self) -> Pool | None:
        rule = self.store.snapshot.rule("pools", self._opened) if self._opened else None
        return rule if isinstance(rule, Pool) else None

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Pool)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Pool)
        return rule.name.casefold()

    def entered(self, rule: Rule) -> dict[str, Any]:
        assert isinstance(rule, Pool)
        return {**rule.shown(), "members": [str(member) for member in rule.members]}

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Pool)
        chips = [{"text": one.ip, "label": f"×{one.weight}" if one.weight > 1 else ""} for one in rule.members]
        return {**rule.shown(), "members": chips}

    def live_cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Pool)
        figures = self.facade.scoped.snapshot("pool", rule.name)
        return {name: figures[name] for name in COUNTED}

    def warnings(self, rule: Rule) -> dict[str, str]:
        assert isinstance(rule, Pool)
        away = [member.ip for member in rule.members if not self.facade.ips.is_ours(member.ip)]
        named = ", ".join(away[:NAMED]) + (f" and {len(away) - NAMED:,} more" if len(away) > NAMED else "")
        return {"members": f"not of this machine, passed over: {named}"} if away else {}

    def consequence(self, rule: Rule) -> str:
        return "Mail that names it is given up from the next message on, as bind/error."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, Pool):
            return []
        left = moved(rule, self.store.snapshot.pools)
        lines = [{"text": f"{one['ip']} leaves the pool {one['from']}"} for one in left]
        return [{"tone": "watch", "title": "An MTA IP is in one pool.", "lines": lines}] if left else []

    async def _store(self, values: dict[str, Any], id_: int | None) -> tuple[Rule, str, Callable[[], Awaitable[Any]]]:
        """What leaves another pool goes back there with Undo."""
        before, who = self.store.snapshot.pools, self.view.who
        rule, said, undo = await super()._store(values, id_)
        assert isinstance(rule, Pool)
        lost = [other for other, _ in rule.taking(before)]
        if not lost:
            return rule, said, undo

        async def back() -> None:
            await undo()
            for other in lost:
                await self.store.update("pools", other.id, whole(other), who)

        left = ", ".join(f"{one['ip']} left {one['from']}" for one in moved(rule, before))
        return rule, f"{said}, and {left}", back

    async def acted(self, action: str, rule: Rule) -> None:
        if action == "members":
            self._opened = None if self._opened == rule.id else rule.id


PAGE = ConsolePage(
    path="/pools",
    title="Pools",
    section="Deliver",
    icon="M3.500 4.500h5v4h-5zM11.500 4.500h5v4h-5zM7.500 12.500h5v4h-5zM6 8.500v2h8v-2M10 10.500v2",
    key="m",
    build=PoolsPage,
    purpose="MTA IPs under one name: mail that names a pool leaves from one of its members, by weight.",
)
