"""MTA IPs: every address of this machine, what it is called, and what goes through it."""

from __future__ import annotations

import functools
from typing import Any

from gui.components import drawing
from gui.components.dialog_box import DialogBox, Entry, Errors, Values
from gui.components.filter_bar import Field
from gui.components.listing import Listing, Rows, Wanted
from gui.components.live_table import Column, Empty, shown
from gui.components.mail.lane_drawer import LaneDrawer, overview
from gui.components.notes import Notes
from gui.components.view import ConsolePage, View
from pipeline.views.facade import MtaIp
from pipeline.views.figures import FIGURES
from settings.rules import InvalidRule, MtaName, Rule
from settings.store import RulesUnavailable

COUNTED = {"attempts": "90px", "delivered": "92px", "errors": "74px", "in_memory": "100px", "parked": "76px"}
COLUMNS = (
    Column("ip", "MTA IP", "link", "The address, and its console name.", True, "12%", main=True),
    Column(
        "ehlo", "EHLO name", "text", "How it greets: the override, else its reverse DNS name, else the host name.", True
    ),
    Column("host", "Host name", "text", "Its reverse DNS name, else the name of this machine."),
    *(
        Column(name, FIGURES[name].label, "number", FIGURES[name].definition, True, width)
        for name, width in COUNTED.items()
    ),
    Column("spark", "Last minute", "spark", "Attempts in each second of the last minute.", width="101px"),
    Column("lanes", "Lanes", "open", "The lanes that hold its mail now.", True, "76px"),
    Column("edit", "", "actions", width="100px"),
)
FIELDS = (Field("search", "Search", "search", "Address or name"),)
OF = Field("of", "Of", "choice", options=(("", "This instance"), ("cluster", "Whole cluster")))
EMPTY = Empty(
    "No MTA IP", "The addresses of this machine appear here; smtp-default-ips says which ones mail leaves from."
)
ENTRIES = (
    Entry("name", "Console name", "Shown here only, never to receivers."),
    Entry("ehlo", "EHLO name", "What it says to receivers. Empty: its reverse DNS name, else the host name."),
)


class MtaIpsPage:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._facade, self._who = view.facade, view.who
        self._rules, self._telemetry = view.facade.store, view.facade.telemetry
        self._lanes_of: dict[str, list[str]] = {}
        fields = (*FIELDS, OF) if view.facade.cluster.there else FIELDS
        self._listing = Listing(view, "/ips", fields, COLUMNS, "ip", EMPTY, "MTA IPs", self._fetch)
        self._listing.table.on_open(self._open)
        self._listing.table.on_act(lambda ip, _: self._edit(ip))
        self._box, self._notes = DialogBox(), Notes()
        self._drawer = LaneDrawer(view, self._box, self._notes, lambda lane: None)
        view.live.each(self._drawer.refresh)

    async def _fetch(self, wanted: Wanted) -> Rows:
        found = self._facade.all_ips() if wanted.filters.get("of") else self._facade.ips()
        self._lanes_of = {ip.ip: ip.lanes for ip in found}
        if searched := wanted.filters.get("search", "").lower():
            found = [ip for ip in found if searched in f"{ip.ip} {ip.name or ''} {ip.ehlo} {ip.host_name}".lower()]
        rank = {ip.ip: number for number, ip in enumerate(found)}  # the machine's own order: default ones first
        found.sort(key=functools.partial(_order, wanted.sort, rank), reverse=wanted.descending)
        return Rows([self._row(ip) for ip in found[wanted.offset : wanted.offset + wanted.limit]], len(found))

    def _row(self, ip: MtaIp) -> dict[str, Any]:
        _, series = self._telemetry.series(("attempts",), "1m", "ip", ip.ip)
        where = [f"pool {ip.pool}"] if ip.pool else []
        where += [] if ip.default else ["not a default one" if ip.mine else "not on this machine"]
        return {
            "key": ip.ip,
            "ip": {
                "text": shown(ip.name, 100) if ip.name else ip.ip,
                "under": " · ".join([*([ip.ip] if ip.name else []), *where]),
                "href": overview("ip", ip.ip),
            },
            "ehlo": shown(ip.ehlo, 255),
            "host": shown(ip.host_name, 255),
            **{name: ip.figures[name] for name in COUNTED},
            "spark": series["attempts"] if any(series["attempts"]) else None,
            "lanes": f"{len(ip.lanes):,}" if ip.lanes else "",
            "edit": [["rename", "Rename"]],
        }

    def _open(self, ip: str) -> None:
        self._drawer.show(ip, overview("ip", ip), lambda: self._lanes_of.get(ip, []))

    # -- names ------------------------------------------------------------------------------------------------------

    def _rule(self, ip: str) -> MtaName | None:
        return next((rule for rule in self._rules.snapshot.mta_names if rule.ip == ip), None)

    async def _edit(self, ip: str) -> None:
        before = self._rule(ip)
        start = {"name": (before and before.name) or "", "ehlo": (before and before.ehlo) or ""}

        def check(values: Values) -> Errors:
            return self._check(ip, values)

        async def save(values: Values) -> Errors:
            return check(values) or await self._save(ip, values)

        if await self._box.fill(f"Names of {ip}", ENTRIES, start, "Save", save, check) is not None:
            self._notes.say(f"The names of {ip} are changed.", lambda: self._restore(ip, before))
        self._listing.again()

    def _check(self, ip: str, values: Values) -> Errors:
        if not any(value.strip() for value in values.values()):
            return {}
        rule = self._rule(ip)
        try:
            self._rules.validate("mta-names", {**values, "ip": ip}, rule.id if rule else None)
        except InvalidRule as error:
            return {known(mistake.field, values): mistake.message for mistake in error.errors}
        return {}

    async def _save(self, ip: str, values: Values) -> Errors:
        rule = self._rule(ip)
        try:
            if any(value.strip() for value in values.values()):
                await self._put(rule, {**values, "ip": ip})
            elif rule is not None:
                await self._rules.delete("mta-names", rule.id, self._who)
        except InvalidRule as error:
            return {known(mistake.field, values): mistake.message for mistake in error.errors}
        except RulesUnavailable as error:
            return {"": str(error)}
        return {}

    async def _put(self, rule: Rule | None, values: dict[str, Any]) -> None:
        if rule is None:
            await self._rules.create("mta-names", values, self._who)
        else:
            await self._rules.update("mta-names", rule.id, values, self._who)

    async def _restore(self, ip: str, before: MtaName | None) -> None:
        names = {"name": (before and before.name) or "", "ehlo": (before and before.ehlo) or ""}
        errors = await self._save(ip, names)
        self._notes.say(next(iter(errors.values()), "Undone."), level="bad" if errors else "good")
        self._listing.again()


def known(field: str, values: Values) -> str:
    """The form's field that a mistake is of; "" where it is of none."""
    return field if field in values else ""


def _order(sort: str, rank: dict[str, int], ip: MtaIp) -> Any:
    if sort == "ip":
        return rank[ip.ip]
    if sort == "lanes":
        return len(ip.lanes), -rank[ip.ip]
    return (ip.ehlo, rank[ip.ip]) if sort == "ehlo" else (ip.figures[sort], -rank[ip.ip])


PAGE = ConsolePage(path="/ips", title="MTA IPs", section="Monitor", icon=drawing.SERVER, key="i", build=MtaIpsPage)
