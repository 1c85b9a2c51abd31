"""Domains: each destination now and in the last minute, and, in a drawer, why a lane's mail waits."""

from __future__ import annotations

from typing import Any

from gui.components import drawing
from gui.components.dialog_box import DialogBox
from gui.components.filter_bar import Field
from gui.components.listing import Listing, Rows, Wanted
from gui.components.live_table import Column, Empty, shown
from gui.components.mail.lane_drawer import LaneDrawer, overview
from gui.components.notes import Notes
from gui.components.view import ConsolePage, View
from pipeline.views.figures import FIGURES
from pipeline.views.state.destinations import DomainPage, DomainRow, LastError
from pipeline.views.state.standing import WORST

ALL = 1_000_000
STATES = {
    "paused": "Paused: a rule holds its mail", "flooded": "Flooded: a flood pattern pauses it",
    "failing": "Failing: much is given up", "deferring": "Deferring: much is put off",
    "reduced": "Reduced: runs on a flood pattern's limits", "throttled": "Throttled: waits for its limits",
    "running": "Running",
}  # fmt: skip
COLUMNS = (
    Column(
        "domain",
        "Domain",
        "link",
        "The destination; its name leads to its Overview, its row to what its mail waits for.",
        True,
        "21%",
        main=True,
    ),
    Column(
        "state",
        "State",
        "state",
        "Paused or flooded: held. Failing or deferring: a quarter or more of its attempts of the last 5 minutes was "
        "given up, or put off. Reduced, throttled: slower. The worst counts.",
        True,
        "104px",
    ),
    Column("in_memory", "In memory", "number", FIGURES["in_memory"].definition, True, "92px"),
    Column("parked", "Parked", "number", FIGURES["parked"].definition, True, "70px"),
    Column("retrying", "Retrying", "number", "Messages that wait for their retry now.", True, "80px"),
    Column("attempts", "Attempts", "number", FIGURES["attempts"].definition + " In the last 60 s.", True, "84px"),
    Column(
        "errors",
        "Errors",
        "number",
        "Negative answers and attempts without a usable one, in the last 60 s.",
        True,
        "78px",
    ),
    Column("ratio", "Success", "share", "Accepted, in a hundred ended attempts of the last 60 s.", True, "84px"),
    Column("connections", "Conn.", "number", "Connections open now, in the lanes that it is in.", True, "60px"),
    Column("last_error", "Last error", "answer", "The last negative answer or strange end."),
)
FIELDS = (
    Field("search", "Search", "search", "Domain"),
    Field("state", "State", "choice", options=(("", "All states"), *((state, STATES[state]) for state in WORST))),
)
OF = Field("of", "Of", "choice", options=(("", "This instance"), ("cluster", "Whole cluster")))
EMPTY = Empty(
    "No destination yet", "A domain appears here as soon as mail for it comes into memory. Try:", "mailrace demo"
)


class Domains:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._facade = view.facade
        self._lanes_of: dict[str, list[str]] = {}
        self._domain = ""
        self._listing = Listing(
            view,
            "/domains",
            (*FIELDS, OF) if view.facade.cluster.there else FIELDS,
            COLUMNS,
            "-errors",
            EMPTY,
            "destinations",
            self._fetch,
            opens=True,
            more=("domain", "lane"),
            window="Counters: last 60 s",
        )
        self._listing.table.on_open(self._open)
        self._drawer = LaneDrawer(view, DialogBox(), Notes(), self._picked)
        view.live.each(self._drawer.refresh)
        self._arrive(view.query.get("domain", "")[:255], view.query.get("lane", "")[:600])

    def _arrive(self, domain: str, lane: str) -> None:
        """Open what the address names."""
        if domain:
            self._domain = domain
            self._listing.more = {"domain": domain, "lane": lane}
            self._drawer.show(domain, overview("domain", domain), self._lanes, lane, domain)
        elif lane:
            self._listing.more = {"lane": lane}
            self._drawer.show(lane, "", lambda: [lane] if self._facade.explainer.explain(lane) else [], lane)

    async def _fetch(self, wanted: Wanted) -> Rows:
        found = await self._page(wanted)
        self._lanes_of.update((row.domain, row.lanes) for row in found.domains)
        return Rows([_row(row) for row in found.domains], found.total)

    async def _page(self, wanted: Wanted) -> DomainPage:
        state, searched = wanted.filters.get("state"), wanted.filters.get("search", "")
        offset, limit = (0, ALL) if state else (wanted.offset, wanted.limit)
        whole = bool(wanted.filters.get("of"))
        found = await self._facade.destinations.page(wanted.sort, wanted.descending, searched, offset, limit, whole)
        if not state:
            return found
        rows = [row for row in found.domains if row.state == state]
        return DomainPage(rows[wanted.offset : wanted.offset + wanted.limit], len(rows))

    def _lanes(self) -> list[str]:
        known = self._lanes_of.get(self._domain)
        if known is None:  # it is not on the page that is shown
            names = (*self._facade.explainer.names(), *self._facade.history.lanes())
            known = [name for name in dict.fromkeys(names) if self._domain in self._facade.explainer.domains(name)]
        return known

    def _open(self, domain: str) -> None:
        self._domain = domain
        self._drawer.show(domain, overview("domain", domain), self._lanes, "", domain)
        self._picked(self._drawer.chosen)

    def _picked(self, lane: str) -> None:
        if not self._drawer.is_open:
            self._domain = ""
        self._listing.more = {"domain": self._domain, "lane": lane}
        self._listing.say()


def _row(row: DomainRow) -> dict[str, Any]:
    return {
        "key": row.domain,
        "domain": {
            "text": shown(row.domain, 255),
            "href": overview("domain", row.domain),
            "under": shown(row.says, 200) if row.state in ("failing", "deferring") else "",
        },
        "state": row.state,
        "in_memory": row.in_memory,
        "parked": row.parked,
        "retrying": row.retrying,
        "attempts": row.attempts,
        "errors": row.errors,
        "ratio": None if row.ratio is None else round(100 * row.ratio),
        "connections": row.connections,
        "last_error": _answer(row.last_error) if row.last_error else None,
    }


def _answer(last: LastError) -> dict[str, Any]:
    text = " ".join(part for part in (last.status, last.description) if part)
    return {"code": str(last.code or last.result), "text": shown(text), "time": round(last.time)}


PAGE = ConsolePage(
    path="/domains",
    title="Domains",
    section="Monitor",
    icon=drawing.GLOBE,
    key="d",
    build=Domains,
    purpose="Where mail goes: how each destination answers, what waits for it, why, and what can be done.",
)
