"""The palette: a field over every view, opened with `/`, that finds what one types wherever it is."""

from __future__ import annotations

from collections.abc import Sequence

from gui.components.latest import Latest
from gui.components.parts import SCRIPTS, Shown
from gui.components.search.finder import Finder, found_row
from gui.components.view import ConsolePage
from pipeline.views.facade import Facade


class Palette(Shown, component=f"../{SCRIPTS}/palette.js"):
    """Finds as one types: what is known at once, what the queue and the log have a moment later."""

    def __init__(self, facade: Facade, pages: Sequence[ConsolePage]) -> None:
        super().__init__()
        self._finder, self._wanted = Finder(facade, pages), ""
        self._look = Latest(self._ask)
        self.on("ask", lambda event: self._asked(str(event.args)))

    def _asked(self, text: str) -> None:
        self._wanted = text
        self._look()

    async def _ask(self) -> None:
        text = self._wanted
        quick = self._finder.quickly(text)
        rows = [found_row(one) for one in quick]
        self.run_method("found", {"text": text, "rows": rows, "whole": False})
        deep = [found_row(one) for one in await self._finder.thoroughly(text)]
        self.run_method(
            "found", {"text": text, "rows": [*deep, *rows] if "@" in text else [*rows, *deep], "whole": True}
        )
