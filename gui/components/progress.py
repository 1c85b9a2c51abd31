"""Progress of something that takes a while: a bar and a line; nothing while there is nothing."""

from __future__ import annotations

from gui.components.parts import SCRIPTS, Shown


class Progress(Shown, component=f"{SCRIPTS}/progress.js"):
    """`job` is None, or {"text": what is done, "share": 0 to 100}."""

    def __init__(self) -> None:
        super().__init__()
        self._props["job"] = None
