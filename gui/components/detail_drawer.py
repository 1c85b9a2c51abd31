"""The detail drawer: everything about one message, one change, one thing, in sections."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from nicegui.element import Element

from gui.components.live_table import shown
from gui.components.parts import SCRIPTS

LONGEST = 200_000  # characters of a text
Section = dict[str, Any]


class DetailDrawer(Element, component=f"{SCRIPTS}/detail_drawer.js"):
    """A drawer of one page.

    Args:
        left: told when somebody closes it.
        acted: told the action of a button.
    """

    def __init__(self, left: Callable[[], object], acted: Callable[[str], object] = lambda action: None) -> None:
        super().__init__()
        self.on("leave", self.shut)
        self.on("leave", lambda: left())
        self.on("act", lambda event: acted(str(event.args)))

    def show(
        self,
        title: str,
        sections: Sequence[Section],
        under: str = "",
        actions: Sequence[tuple[str, str]] = (),
        links: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Open it. `actions`: pairs of name and label; `links`: pairs of address and label."""
        state = {"title": shown(title, 300), "under": shown(under, 300), "sections": list(sections)}
        self.run_method(
            "show", {**state, "actions": [list(pair) for pair in actions], "links": [list(p) for p in links]}
        )

    def shut(self) -> None:
        """Close it."""
        self.run_method("shut")


def facts(title: str, rows: Sequence[tuple[str, object]], tab: str = "") -> Section:
    """Names with their values, a time with its zone; what is None or empty is left out."""
    kept = [[name, _cell(value)] for name, value in rows if value not in (None, "", [])]
    return {"kind": "facts", "title": title, "rows": kept, "tab": tab}


def _cell(value: object) -> object:
    """A time is shown in the zone that the person chose."""
    return {"at": value.timestamp()} if isinstance(value, datetime.datetime) else shown(value, 2000)


def text(title: str, content: str, tab: str = "", hint: str = "") -> Section:
    """Text of many lines, as it is; control and direction characters made visible."""
    lines = content[:LONGEST].replace("\r\n", "\n").split("\n")
    more = f" The first {LONGEST:,} characters." if len(content) > LONGEST else ""
    told = "\n".join(shown(line.replace("\t", "    "), LONGEST) for line in lines)
    return {"kind": "text", "title": title, "text": told, "tab": tab, "hint": hint + more}


def html(title: str, document: str, tab: str = "", hint: str = "") -> Section:
    """HTML from outside; `document` must come from `preview.framed`."""
    return {"kind": "html", "title": title, "html": document, "tab": tab, "hint": hint}


def steps(title: str, rows: Sequence[dict[str, Any]], tab: str = "") -> Section:
    """What happened, in order: title, state, and, where known, time, code, text, under."""
    return {"kind": "steps", "title": title, "rows": list(rows), "tab": tab}
