"""docs/rules.md: what it shows can be used, and each kind of rule that decides on mail is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from settings.rules import KINDS
from settings.rules.validate import parse

PAGE = (Path(__file__).parent.parent / "docs" / "rules.md").read_text()
OF_SECTION = {  # kinds whose examples stand in a section as JSON alone
    "Throttles": "throttles",
    "Pauses": "pauses",
    "Flood patterns": "floods",
    "Response rules": "responses",
    "Rewrite rules": "rewrites",
    "Tags": "tags",
    "Providers": "providers",
}
DECIDING = set(KINDS) - {"dkim-keys", "locals", "mta-names", "dns"}  # the rest is about names, keys and addresses


def _curled() -> list[tuple[str, str]]:
    """(kind, JSON) of each POST that makes a rule."""
    found = re.findall(r"/api/v1/([a-z-]+)\s*\\?\s*-d '(\{.*?\})'", PAGE, re.DOTALL)
    return [(kind, text) for kind, text in found if kind in KINDS or kind == "suppressions"]


def _alone() -> list[tuple[str, str]]:
    """(kind, JSON) of each example without a command."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        kind = next((kind for title, kind in OF_SECTION.items() if section.startswith(title)), None)
        for text in re.findall(r"^    (\{.*?\})$", section, re.DOTALL | re.MULTILINE):
            assert kind is not None, section[:60]
            found.append((kind, text))
    return found


@pytest.mark.parametrize(("kind", "text"), [*_curled(), *_alone()])
def test_each_example_is_a_rule(kind: str, text: str) -> None:
    """As it stands there."""
    values: dict[str, Any] = json.loads(text)
    assert parse(kind, values)


def test_each_kind_that_decides_on_mail_has_an_example() -> None:
    """Somebody who looks for one finds it."""
    assert {kind for kind, _ in [*_curled(), *_alone()]} >= DECIDING
