"""Providers by MTA IP: which of them puts off or refuses the mail of which, and the way to its lane."""

from __future__ import annotations

import collections
from typing import Any

from gui.components.drawing import tag, text
from gui.components.filter_bar import address
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.view import View
from pipeline.views.state.standing import SHARE, WORST, Standing, condition, provider

MOST = 12  # providers
COLUMNS = 12  # MTA IPs
TONES = {"failing": "bad", "deferring": "bad", "running": "good"}
EMPTY = Empty(
    "No provider answered in the last 5 minutes",
    "A provider, which is the servers of one or more domains, stands here with how it answers each MTA IP.",
)


class ProviderMatrix:
    """A card of a page; its columns are the MTA IPs that are in use when it is opened."""

    def __init__(self, view: View) -> None:
        self._facade = view.facade
        used = [ip for ip in self._facade.backlog.by("ip") if ip]
        self._ips = list(dict.fromkeys((*self._facade.ips.sending(None), *used)))[:COLUMNS]
        columns = (
            Column("provider", "Provider", "text", "The servers of one or more domains.", width="26%", main=True),
            *(Column(ip, ip, "mark", "What of its attempts in the last 5 minutes went wrong.") for ip in self._ips),
        )
        with tag("section", "matrix"):
            text("h2", "How providers answer each MTA IP")
            self._table = LiveTable(columns, "Providers by MTA IP", EMPTY)
        self._table.classes("card table-card")
        self._refresh()
        view.live.each(self._refresh)

    def _refresh(self) -> None:
        found: dict[str, dict[str, Standing]] = collections.defaultdict(dict)
        for lane, standing in self._facade.backlog.by("lane").items():
            ip, _, group = lane.partition("/")
            if ip in self._ips and (standing.ended or standing.retrying):
                found[group][ip] = standing
        ordered = sorted(found.items(), key=lambda pair: _rank(pair[1]))
        rows = [self._row(group, by_ip) for group, by_ip in ordered[:MOST]]
        more = {"text": f"{len(rows)} of {len(found):,} providers, the worst first"} if len(found) > len(rows) else {}
        self._table.show(rows, pager=more)

    def _row(self, group: str, by_ip: dict[str, Standing]) -> dict[str, Any]:
        cells = {ip: _cell(f"{ip}/{group}", by_ip[ip]) if ip in by_ip else None for ip in self._ips}
        return {"key": group, "provider": shown(provider(group), 255), **cells}


def _cell(lane: str, standing: Standing) -> dict[str, str]:
    """How one provider answers one MTA IP."""
    wrong, state = standing.deferred + standing.bounced, condition(standing)
    said = f"{100 * wrong / standing.ended:.0f} % wrong" if standing.ended else f"{standing.retrying:,} wait"
    if state:
        tone, word = TONES[state], f"{state}, {said}"
    elif wrong and wrong >= SHARE * standing.ended:  # too few to call it deferring
        tone, word = "watch", f"{wrong} of {standing.ended} wrong"
    else:
        tone, word = TONES["running"], said if wrong or not standing.ended else "works"
    return {"tone": tone, "text": word, "href": address("/domains", {"lane": lane})}


def _rank(by_ip: dict[str, Standing]) -> tuple[int, int]:
    """The worst state first, then the most mail."""
    states = [condition(standing) or "running" for standing in by_ip.values()]
    return min(map(WORST.index, states)), -sum(standing.ended + standing.retrying for standing in by_ip.values())
