"""The parts of the README that the code writes: `python -m tests.support.readme` brings them up to date."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Callable, Mapping

import settings
from pipeline.log import schema
from pipeline.telemetry.figures import BACKGROUND, COUNTERS, GAUGES, LOST_LINES, REMOVED, UNREACHED

ROOT = pathlib.Path(__file__).parent.parent.parent
README = ROOT / "README.md"


def operators() -> str:
    """A row for each operator: its file, and what its docstring says first."""
    rows = []
    for path in sorted((ROOT / "operators").glob("*.py")):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
        if path.stem != "__init__":
            rows.append(f"| `{path.stem}` | {first.removeprefix(path.stem + ': ')} |")
    return "\n".join(["| file | what it is |", "|---|---|", *rows])


def metrics() -> str:
    """A row for each metric of `/metrics`."""
    rows = [
        f"| `mailrace_{one.name}_total` | counter | {one.definition} |"
        for one in (*COUNTERS, UNREACHED, BACKGROUND, LOST_LINES, REMOVED)
    ]
    rows += [f"| `mailrace_{one.name}` | gauge | {one.definition} |" for one in GAUGES]
    return "\n".join(["| metric | kind | meaning |", "|---|---|---|", *rows])


PARTS: Mapping[str, Callable[[], str]] = {
    "config": settings.reference,
    "log": schema.reference,
    "metrics": metrics,
    "operators": operators,
}


def part(text: str, name: str) -> str | None:
    """What stands between a part's markers."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    return found[1].strip() if found else None


def renewed(text: str) -> str:
    """The README with all parts as the code has them now."""
    for name, make in PARTS.items():
        block = f"<!-- {name} -->\n{make().strip()}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
