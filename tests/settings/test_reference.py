"""The reference of all keys: complete, and in the documents as it is."""

from __future__ import annotations

import re
from pathlib import Path

import settings
from settings.config.keys import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_reference_has_every_key_with_its_help() -> None:
    """One row a key: its name, default, meaning, and what is allowed."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in settings.reference().splitlines()[2:]]
    assert [row[0].strip() for row in rows] == [f"`{name.replace('_', '-')}`" for name in FIELDS]
    assert all(len(row) == 4 and all(cell.strip() for cell in row) for row in rows)


def test_the_documents_have_the_reference() -> None:
    """Between its markers; `python -m settings` prints it anew."""
    found = re.search(r"<!-- config -->\n(.*?)\n?<!-- /config -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1].strip() == settings.reference()
