"""Cluster: the instances that live, what each does, and all of them together."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from gui.components import drawing
from gui.components.gauge_strip import GaugeStrip
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.view import ConsolePage, View
from pipeline.views.cluster import InstanceRow
from pipeline.views.figures import FIGURES

STRIP = ("delivered", "errors", "in_memory", "parked", "waiting", "active")
COLUMNS = (
    Column("instance", "Instance", "link", "Its name leads to its console.", main=True),
    Column("state", "State", "text", "The first line of its Overview.", width="110px"),
    *(
        Column(name, FIGURES[name].label, "number", FIGURES[name].definition, width="94px")
        for name in ("delivered", "errors", "in_memory", "parked", "active")
    ),
    Column("workers", "Workers", "number", "Its processes that carry mail.", width="84px"),
    Column("load", "Load", "amount", "Of its machine, in the last minute.", width="70px"),
    Column("heard", "Heard", "text", "How long ago it said something.", width="92px"),
    Column("outbox", "Outbox", "text", "The queue that it reads on the cluster's broker."),
    Column("ips", "MTA IPs", "text", "Where its mail leaves from."),
    Column("version", "Version", "text", width="84px"),
)
ALONE = Empty(
    "This instance is alone",
    "Instances that share a broker find each other: give them the same cluster-address, or the same rabbitmq-address.",
)


class ClusterPage:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._cluster = view.facade.cluster
        with ui.element("div").classes("card-head"):
            drawing.text("h2", "Whole cluster")
            self._note = ui.label("").classes("of").props("role=status")
        self._strip = GaugeStrip({name: (FIGURES[name].label, FIGURES[name].definition) for name in STRIP})
        self._table = LiveTable(COLUMNS, "Instances", ALONE)
        self._table.classes("card table-card")
        self._trouble = ui.label("").classes("of")
        self._show()
        view.live.each(self._show)

    def _show(self) -> None:
        whole = self._cluster.whole()
        self._strip.show("values", {name: whole.figures.get(name, 0) for name in STRIP})
        self._note.set_text(self._cluster.note() if whole.instances else "")
        refused = f"{whole.refused:,} messages on the exchange were of no use." if whole.refused else ""
        self._trouble.set_text(" ".join(filter(None, (shown(whole.trouble or ""), refused))))
        self._table.show([_row(row) for row in whole.instances])


def _row(row: InstanceRow) -> dict[str, Any]:
    name = {"text": shown(row.id, 64), "under": "this one"} if row.own else {"text": shown(row.id, 64)}
    href = "/cluster" if row.own else f"/instances/{row.id}?to=/"
    return {
        "key": row.id,
        "instance": {**name, "href": href},
        "state": shown(row.state, 40),
        **{name: row.figures.get(name, 0) for name in ("delivered", "errors", "in_memory", "parked", "active")},
        "workers": row.workers,
        "load": f"{row.load:.2f}",
        "heard": "now" if row.silent < 4 else f"{row.silent:.0f} s ago",
        "outbox": shown(row.outbox, 200),
        "ips": shown(", ".join(row.ips)),
        "version": shown(row.version, 40),
    }


PAGE = ConsolePage(
    path="/cluster",
    title="Cluster",
    section="Monitor",
    icon=drawing.CLUSTER,
    key="j",
    build=ClusterPage,
    purpose="The instances that work together: how each is, and what goes through it.",
)
