"""Notes: what was done, said for a moment at the page's edge, with a way back where there is one."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Awaitable, Callable
from typing import Literal

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from gui.components.parts import SCRIPTS

Undo = Callable[[], Awaitable[None]]
UNDOABLE = 10  # notes of a page whose way back is kept


class Notes(Element, component=f"{SCRIPTS}/notes.js"):
    """The notes of one page."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = itertools.count(1)
        self._undo: collections.OrderedDict[int, Undo] = collections.OrderedDict()
        self.on("undo", self._undone)

    def say(self, text: str, undo: Undo | None = None, level: Literal["good", "bad"] = "good") -> None:
        """Show a line; `undo` takes back what it says."""
        id = next(self._ids)
        if undo is not None:
            self._undo[id] = undo
            while len(self._undo) > UNDOABLE:
                self._undo.popitem(last=False)
        self.run_method("say", {"id": id, "text": text, "undo": undo is not None, "level": level})

    async def _undone(self, event: GenericEventArguments) -> None:
        undo = self._undo.pop(event.args, None) if isinstance(event.args, int) else None
        if undo is not None:
            await undo()
