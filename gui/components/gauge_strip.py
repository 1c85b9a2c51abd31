"""A strip of figures of this moment, each with a line under it where there is more to say."""

from __future__ import annotations

from collections.abc import Mapping

from gui.components.parts import SCRIPTS, Shown


class GaugeStrip(Shown, component=f"{SCRIPTS}/gauge_strip.js"):
    """Figures by name.

    `values` has for each a count, {"at": epoch seconds}, a text or None, and under `<name>_under` the line below it.

    Args:
        gauges: label and definition of each.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, str]]) -> None:
        super().__init__()
        self._props["gauges"] = [[name, label, tip] for name, (label, tip) in gauges.items()]
        self._props["values"] = {}
