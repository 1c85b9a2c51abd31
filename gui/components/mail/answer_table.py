"""Answers of receivers, equal ones counted together; each leads to a flood pattern that matches it."""

from __future__ import annotations

from typing import Any

from gui.components.filter_bar import address
from gui.components.live_table import shown
from gui.components.parts import SCRIPTS, Shown
from pipeline.views.state.standing import Standing, answers

PATTERN = 120  # characters of an answer that a pattern begins with


class AnswerTable(Shown, component=f"../{SCRIPTS}/answer_table.js"):
    """A row: count, share, kind (deferred or bounced), code, text, and the address of a new flood pattern."""

    def __init__(self) -> None:
        super().__init__()
        self._props["rows"] = []


def answer_rows(standing: Standing, most: int = 8) -> list[dict[str, Any]]:
    """The rows of how something stands."""
    return [
        {
            "count": one.count,
            "share": round(100 * one.count / max(1, standing.ended)),
            "kind": one.kind,
            "code": shown(one.code, 20),
            "text": shown(one.text, 300),
            "flood": pattern_of(one.code, one.text) if one.code.isdecimal() else "",
        }
        for one in answers(standing, most)
    ]


def pattern_of(code: str, text: str) -> str:
    """The address of the form of a flood pattern that matches this answer."""
    said = max(f"{code} {text}".split("…"), key=len).strip()[:PATTERN]  # what is the same in all of them
    return address("/floods", {"add": "1", "name": f"{code} {text}"[:60].strip(), "pattern": said})
