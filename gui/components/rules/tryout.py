"""A field for a text that rules are tried on, with what they make of it, before anything is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gui.components.parts import SCRIPTS, Shown

LONGEST = 4096  # characters


class Tryout(Shown, component=f"../{SCRIPTS}/tryout.js"):
    """Asks `judge` as one types: it answers with a tone (good, bad or idle), a title, and lines."""

    def __init__(self, label: str, placeholder: str, judge: Callable[[str], Mapping[str, Any]]) -> None:
        super().__init__()
        self._props["label"] = label
        self._props["placeholder"] = placeholder
        self._props["result"] = None
        self.on("try", lambda event: self.show("result", self._judged(judge, str(event.args)[:LONGEST])))

    @staticmethod
    def _judged(judge: Callable[[str], Mapping[str, Any]], text: str) -> dict[str, Any] | None:
        return dict(judge(text)) if text.strip() else None
