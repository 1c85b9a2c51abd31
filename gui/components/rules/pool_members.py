"""The members of a pool: what goes through each MTA IP, what holds it up, and its lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from gui.components.dialog_box import DialogBox
from gui.components.drawing import tag
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.mail.lane_drawer import LaneDrawer, overview
from gui.components.notes import Notes
from gui.components.view import View
from pipeline.views.figures import FIGURES
from pipeline.views.scoped import PoolMemberFigures
from settings.rules import Pool

COUNTED = ("attempts", "delivered", "errors", "in_memory", "parked")
COLUMNS = (
    Column("ip", "MTA IP", "link", "The address, and its console name.", main=True),
    Column("weight", "Weight", "number", "Its share of the pool's mail.", width="82px"),
    *(Column(name, FIGURES[name].label, "number", FIGURES[name].definition, width="100px") for name in COUNTED),
    Column("spark", "Last minute", "spark", "Attempts in each second of the last minute.", width="101px"),
    Column("lanes", "Lanes", "open", "The lanes that hold its mail now, and why.", width="76px"),
)
NOTHING = Empty("This pool has no members", "Mail that names it is given up as bind/error. Edit it to add MTA IPs.")


class PoolMembers:
    """A card with the members of the pool that was opened; hidden while none is.

    Args:
        pool: the pool that is open, as it is now, or None.
    """

    def __init__(self, view: View, notes: Notes, box: DialogBox, pool: Callable[[], Pool | None]) -> None:
        self._facade, self._pool = view.facade, pool
        self._lanes: dict[str, list[str]] = {}
        self._card = tag("section", "card floods-card")
        with self._card:
            with tag("div", "card-head"):
                self._heading = TextElement(tag="h2", text="")
                ui.label("last minute, and now").classes("of")
            self._table = LiveTable(COLUMNS, "Members", NOTHING)
        self._table.on_open(self._open)
        self._drawer = LaneDrawer(view, box, notes, lambda lane: None)
        self.refresh()
        view.live.each(self.refresh)

    def refresh(self) -> None:
        """Show what is so now."""
        pool = self._pool()
        self._card.set_visibility(pool is not None)
        if pool is None:
            return
        self._heading.set_text(f"Members of {pool.name}")
        self._lanes = {ip.ip: ip.lanes for ip in self._facade.ips.known()}
        self._table.show([self._row(member) for member in self._facade.scoped.members(pool)])
        self._drawer.refresh()

    def _row(self, member: PoolMemberFigures) -> dict[str, Any]:
        name, lanes = self._facade.store.snapshot.mta_name(member.ip), self._lanes.get(member.ip, [])
        _, series = self._facade.telemetry.series(("attempts",), "1m", "ip", member.ip)
        where = [] if member.mine else ["not on this machine"]
        return {
            "key": member.ip,
            "ip": {
                "text": shown(name, 100) if name else member.ip,
                "under": " · ".join([*([member.ip] if name else []), *where]),
                "href": overview("ip", member.ip),
            },
            "weight": member.weight,
            **{figure: member.figures[figure] for figure in COUNTED},
            "spark": series["attempts"] if any(series["attempts"]) else None,
            "lanes": f"{len(lanes):,}" if lanes else "",
        }

    def _open(self, ip: str) -> None:
        self._drawer.show(ip, overview("ip", ip), lambda: self._lanes.get(ip, []))
