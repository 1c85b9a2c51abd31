"""Small parts whose drawing is a Vue component in `static/components`: each takes plain values, and sends them once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element

from pipeline.views.figures import Figure

SCRIPTS = "../static/components"


class Shown(Element):
    """An element that shows one value, and sends it again only where it has changed."""

    def show(self, name: str, value: Any) -> None:
        """Set a property of the component."""
        if self._props.get(name) != value:
            self._props[name] = value
            self.update()


class Counters(Shown, component=f"{SCRIPTS}/counters.js"):
    """The counters as tiles, with the window that they are of; a click toggles the tile's line.

    Args:
        figures: what to show, in order.
        on: the names whose lines are drawn.
        toggled: told the names that are on, after each click.
    """

    def __init__(self, figures: Iterable[Figure], on: Sequence[str], toggled: Callable[[list[str]], None]) -> None:
        super().__init__()
        self._props["figures"] = [
            {"name": figure.name, "label": figure.label, "definition": figure.definition} for figure in figures
        ]
        self._props["on"] = list(on)
        self._props["values"], self._props["window"] = {}, {"seconds": 60, "text": "last 60 s"}
        self.on("toggle", lambda event: toggled([str(name) for name in event.args]))


class Gauges(Shown, component=f"{SCRIPTS}/gauges.js"):
    """Figures of this moment, with a bar of their shares where they are parts of one whole."""

    def __init__(self, figures: Iterable[Figure], bar: bool = False) -> None:
        super().__init__()
        self._props["figures"] = [
            {"name": figure.name, "label": figure.label, "definition": figure.definition} for figure in figures
        ]
        self._props["bar"] = bar
        self._props["values"] = {}


class Troubles(Shown, component=f"{SCRIPTS}/troubles.js"):
    """Destinations by errors, with their last answer. A row: domain, errors, share, code, text, host, time, link."""

    def __init__(self) -> None:
        super().__init__()
        self._props["rows"] = []


class Verdict(Shown, component=f"{SCRIPTS}/verdict.js"):
    """One sentence on how things are: level is good, watch, bad or idle."""


class Moment(Shown, component=f"{SCRIPTS}/moment.js"):
    """A time, in the zone that the person chose."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._props["seconds"] = seconds


class Bars(Shown, component=f"{SCRIPTS}/bars.js"):
    """Bars one below the other. A row: label, and `parts`, counts by name."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self._props["label"] = label
        self._props["rows"] = []


class Chart(Element, component=f"{SCRIPTS}/chart.js"):
    """Lines over time, to which points are added at the right."""


def empty(title: str, text: str, code: str = "") -> None:
    """What stands where nothing is to be shown yet: what would appear, and how to make it appear."""
    with ui.element("div").classes("empty"):
        ui.label(title).classes("empty-title")
        ui.label(text)
        if code:
            ui.label(code).classes("code")
