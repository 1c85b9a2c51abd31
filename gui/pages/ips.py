"""MTA IPs: every address of this machine, what it is called, and what goes through it."""

from __future__ import annotations

import functools
from typing import Any

from gui.components import drawing
from gui.components.dialog_box import DialogBox
from gui.components.filter_bar import Field
from gui.components.listing import Listing, Rows, Wanted
from gui.components.live_table import Column, Empty, shown
from gui.components.mail.lane_drawer import LaneDrawer, overview
from gui.components.mail.mta_names import MtaNames
from gui.components.mail.provider_matrix import ProviderMatrix
from gui.components.notes import Notes
from gui.components.view import ConsolePage, View
from pipeline.views.figures import FIGURES
from pipeline.views.state.mta_ips import MtaIp
from pipeline.views.state.standing import WORST

COUNTED = {"attempts": "82px", "delivered": "84px", "errors": "62px", "in_memory": "92px", "parked": "66px"}
COLUMNS = (
    Column("ip", "MTA IP", "link", "The address, and its console name.", True, "17%", main=True),
    Column(
        "state", "State", "state", "Paused by a rule; failing or deferring by its answers; else running.", True, "100px"
    ),
    Column("ehlo", "Host name", "link", "Its reverse DNS name, else this machine's; leads to its graph.", True),
    *(
        Column(name, FIGURES[name].label, "number", FIGURES[name].definition, True, width)
        for name, width in COUNTED.items()
    ),
    Column(
        "retrying", "Retrying", "number", "Messages that wait for their retry, and left from it last.", True, "78px"
    ),
    Column("connections", "Conn.", "text", "Connections: active now, and being attempted.", width="72px"),
    Column("spark", "Last minute", "spark", "Attempts in each second of the last minute.", width="88px"),
    Column("lanes", "Lanes", "open", "The lanes that hold its mail now.", True, "58px"),
    Column("edit", "", "actions", width="96px"),
)
FIELDS = (Field("search", "Search", "search", "Address or name"),)
OF = Field("of", "Of", "choice", options=(("", "This instance"), ("cluster", "Whole cluster")))
WINDOW = "Counters: last 60 s"
EMPTY = Empty(
    "No MTA IP", "The addresses of this machine appear here; smtp-default-ips says which ones mail leaves from."
)


class MtaIpsPage:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._facade, self._telemetry = view.facade, view.facade.telemetry
        self._lanes_of: dict[str, list[str]] = {}
        fields = (*FIELDS, OF) if view.facade.cluster.there else FIELDS
        self._listing = Listing(view, "/ips", fields, COLUMNS, "ip", EMPTY, "MTA IPs", self._fetch, window=WINDOW)
        self._listing.table.on_open(self._open)
        self._box, self._notes = DialogBox(), Notes()
        self._names = MtaNames(view, self._box, self._notes, self._listing.again)
        self._listing.table.on_act(lambda ip, _: self._names.edit(ip))
        self._drawer = LaneDrawer(view, self._box, self._notes, lambda lane: None)
        view.live.each(self._drawer.refresh)
        ProviderMatrix(view)

    async def _fetch(self, wanted: Wanted) -> Rows:
        found = self._facade.ips.everywhere() if wanted.filters.get("of") else self._facade.ips.known()
        self._lanes_of = {ip.ip: ip.lanes for ip in found}
        if searched := wanted.filters.get("search", "").lower():
            found = [ip for ip in found if searched in f"{ip.ip} {ip.name or ''} {ip.ehlo} {ip.host_name}".lower()]
        rank = {ip.ip: number for number, ip in enumerate(found)}  # the machine's own order: default ones first
        found.sort(key=functools.partial(_order, wanted.sort, rank), reverse=wanted.descending)
        return Rows([self._row(ip) for ip in found[wanted.offset : wanted.offset + wanted.limit]], len(found))

    def _row(self, ip: MtaIp) -> dict[str, Any]:
        _, series = self._telemetry.series(("attempts",), "1m", "ip", ip.ip)
        where = [] if ip.default else ["not a default one" if ip.mine else "not on this machine"]
        where += [f"pool {ip.pool}"] if ip.pool else []
        elsewhere = not ip.mine and not any(ip.figures.values())  # only a rule names it: it has no state here
        return {
            "key": ip.ip,
            "ip": {
                "text": shown(ip.name, 100) if ip.name else ip.ip,
                "under": " · ".join([*([ip.ip] if ip.name else []), *where]),
                "href": overview("ip", ip.ip),
            },
            "ehlo": {
                "text": shown(ip.host_name, 255),
                "under": "" if ip.ehlo == ip.host_name else f"EHLO {shown(ip.ehlo, 255)}",
                "href": overview("ip", ip.ip),
            }
            if ip.mine
            else None,
            "state": None if elsewhere and ip.state == "running" else ip.state,
            **{name: ip.figures[name] for name in COUNTED},
            "retrying": ip.retrying,
            "connections": f"{ip.active:,} + {ip.attempting:,}" if ip.active or ip.attempting else "",
            "spark": series["attempts"] if any(series["attempts"]) else None,
            "lanes": f"{len(ip.lanes):,}" if ip.lanes else "",
            "edit": [["rename", "Rename"]],
        }

    def _open(self, ip: str) -> None:
        self._drawer.show(ip, overview("ip", ip), lambda: self._lanes_of.get(ip, []))


def _order(sort: str, rank: dict[str, int], ip: MtaIp) -> Any:
    if sort == "ip":
        return rank[ip.ip]
    if sort == "lanes":
        return len(ip.lanes), -rank[ip.ip]
    if sort == "state":
        return WORST.index(ip.state), rank[ip.ip]
    if sort == "retrying":
        return ip.retrying, -rank[ip.ip]
    return (ip.ehlo, rank[ip.ip]) if sort == "ehlo" else (ip.figures[sort], -rank[ip.ip])


PAGE = ConsolePage(
    path="/ips",
    title="MTA IPs",
    section="Monitor",
    icon=drawing.SERVER,
    key="i",
    build=MtaIpsPage,
    purpose="The addresses that mail leaves from: their traffic, their names, and how providers answer them.",
)
