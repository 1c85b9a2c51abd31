"""The parts of `docs/` that the code writes: `python -m tests.support.docs` brings them up to date."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping

import settings
from gui.access.connections import Connections
from gui.web.health import LABELLED, Doors
from pipeline.log import schema
from pipeline.telemetry.figures import (
    ALERTS,
    BACKGROUND,
    CLASSED,
    COUNTERS,
    DISCARDED,
    GAUGES,
    INSTANCES,
    LOST_LINES,
    NOTICES,
    REMOVED,
    STRAY,
    UNREACHED,
    WARMED,
)
from tests.support.sources import FLOORS, ROOT, tree

DOCS = ROOT / "docs"


def operators() -> str:
    """A row for each module of `operators`: its file, and what its docstring says first."""
    rows = []
    for path in sorted((ROOT / "operators").rglob("*.py")):
        first = (ast.get_docstring(tree(path)) or "").split("\n\n")[0].replace("\n", " ")
        if path.stem != "__init__":
            rows.append(f"| `{path.relative_to(ROOT / 'operators')}` | {first.removeprefix(path.stem + ': ')} |")
    return "\n".join(["| file | what it is |", "|---|---|", *rows])


def rooms() -> str:
    """A row for each package: its folder, and what its docstring says."""
    rows = []
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("__init__.py")):
            first = (ast.get_docstring(tree(path)) or "").split("\n\n")[0].replace("\n", " ")
            rows.append(f"| `{path.parent.relative_to(ROOT)}/` | {first} |")
    return "\n".join(["| folder | what it is |", "|---|---|", *rows])


def metrics() -> str:
    """A row for each metric of `/metrics`."""
    rows = [
        f"| `mailrace_{one.name}_total` | counter | {one.definition} |"
        for one in (*COUNTERS, UNREACHED, BACKGROUND, LOST_LINES, CLASSED, REMOVED, STRAY, DISCARDED, NOTICES)
    ]
    rows += [f"| `mailrace_{one.name}` | gauge | {one.definition} |" for one in (*GAUGES, INSTANCES, ALERTS)]
    rows += [f"| `mailrace_{one.name}{{ip,destination}}` | gauge | {one.definition} |" for one in WARMED]
    for one in Doors(Connections(())).collect():
        counts = one.type == "counter"
        name = f"{one.name}_total" if counts else one.name
        rows.append(f"| `{name}{{{','.join(one._labelnames)}}}` | {one.type} | {one.documentation} |")
    for dimension in ("ip", "domain"):
        names = ", ".join(f"`mailrace_{dimension}_{name}`" for name in LABELLED)
        key = "MTA IP" if dimension == "ip" else "domain"
        rows.append(f"| {names} | gauge | Of one {key}: the last 60 s, or now. |")
    return "\n".join(["| metric | kind | meaning |", "|---|---|---|", *rows])


PARTS: Mapping[str, tuple[str, Callable[[], str]]] = {
    "config": ("configuration.md", settings.reference),
    "log": ("log.md", schema.reference),
    "metrics": ("metrics.md", metrics),
    "operators": ("operators.md", operators),
    "rooms": ("architecture.md", rooms),
}


def part(name: str) -> str | None:
    """What stands between a part's markers."""
    text = (DOCS / PARTS[name][0]).read_text()
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    return found[1].strip() if found else None


def renew() -> None:
    """Write all parts as the code has them now."""
    for name, (page, make) in PARTS.items():
        block = f"<!-- {name} -->\n{make().strip()}\n<!-- /{name} -->"
        pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        (DOCS / page).write_text(pattern.sub(lambda _, block=block: block, (DOCS / page).read_text()))


if __name__ == "__main__":
    renew()
