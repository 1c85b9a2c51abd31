"""The instance switch: which instance this is, and the others of its cluster, each a way to the same view there."""

from __future__ import annotations

from nicegui import ui

from gui.components.drawing import tag, text
from gui.components.live import LiveUpdates
from pipeline.views.cluster import InstanceRow
from pipeline.views.facade import Facade


class InstanceSwitch:
    """In the menu, under the brand. Without a cluster it is a name.

    Args:
        under: the path that a proxy shows the console under.
    """

    def __init__(self, facade: Facade, instance: str, under: str, live: LiveUpdates) -> None:
        self._facade, self._under = facade, under
        self._drawn: list[InstanceRow] | None = None
        if not facade.cluster.there:
            ui.label(instance).classes("brand-instance")
            return
        with tag("details", "instances"):
            with tag("summary", "brand-instance").props('aria-label="Instances of the cluster"'):
                ui.label(instance)
            self._list = tag("ul")
        self._show()
        live.each(self._show)

    def _show(self) -> None:
        rows = self._facade.cluster.others()
        told = [(row.id, row.url, row.state, row.level) for row in rows]
        if self._drawn is not None and told == [(row.id, row.url, row.state, row.level) for row in self._drawn]:
            return
        self._drawn = rows
        self._list.clear()
        with self._list:
            for row in rows:
                self._entry(row)
            if not rows:
                text("li", "No other instance is there.", "of")

    def _entry(self, row: InstanceRow) -> None:
        with tag("li"), tag("a", f"instance {row.level or 'idle'}") as link:
            link._props["href"] = f"{self._under}/instances/{row.id}"
            link._props["data-instance"] = row.id
            link._props["title"] = row.url  # where it leads, as the instance has said
            tag("i")
            ui.label(row.id)
            ui.label(row.state).classes("of")


class WholeNote:
    """How many instances a view's figures are of, and who did not answer; in the view's header."""

    def __init__(self, facade: Facade, live: LiveUpdates) -> None:
        self._facade = facade
        self._label = ui.label("").classes("of").props("role=status")
        self.show()
        live.each(self.show)

    def show(self) -> None:
        """Say it."""
        self._label.set_text(self._facade.cluster.note())
