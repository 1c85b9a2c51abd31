"""docs/console.md: what it names exists."""

from __future__ import annotations

import pathlib
import re

from gui.pages import PAGES

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs/console.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| word", "| what a"))]


def test_every_test_that_the_page_names_exists() -> None:
    """By its name, or by its file."""
    source = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    known = set(re.findall(r"def (test_\w+)", source))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 40
    assert [name for name in named if name not in known] == []
    files = [name for name in re.findall(r"`(tests/[\w/.]+)`", PAGE) if not (ROOT / name).exists()]
    assert files == []


def test_every_view_that_the_page_names_exists_and_says_what_it_is_for() -> None:
    """So that nobody is led nowhere."""
    paths = {page.path for page in PAGES} | {"/help", "/login"}
    promised = PAGE.partition("## What is promised")[2]
    assert [path for path in re.findall(r"`(/\w*)`", promised) if path not in paths] == []
    assert [page.title for page in PAGES if not page.purpose.endswith(".")] == []


def test_every_promise_has_its_place_and_its_test() -> None:
    """No row is left open."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.partition("## What is promised")[2].splitlines()]
    rows = [cells for cells in rows if len(cells) > 1 and not cells[0].startswith(("---", "what a console"))]
    assert len(rows) >= 55
    assert all(len(cells) == 3 and cells[2].startswith("`test") for cells in rows)
