"""The benchmarks' table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """What was measured, the figure, and the ratio to its peer or bound in the same run."""

    what: str
    figure: str
    ratio: str = ""


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    return "\n".join(["| what | measured | ratio |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows)])
