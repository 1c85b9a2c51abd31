"""What a view of rules lists: what its address says, and the rules as a file. No state."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from pipeline.views.text import no_formula
from settings.rules import Rule
from settings.rules.form import fields

LONGEST = 200  # characters of a search
WHERE = {  # the view of each kind of rules that has one of its own
    "throttles": "/throttling", "floods": "/floods", "pauses": "/paused", "redirects": "/redirects",
    "pools": "/pools", "errors": "/errors", "responses": "/responses", "rewrites": "/rewrites", "classes": "/classes",
    "tags": "/tags", "dkim-keys": "/dkim", "locals": "/local",
    "dns": "/dns", "schedules": "/schedules", "warmups": "/warmups", "alerts": "/alerts",
}  # fmt: skip


class RuleListing(msgspec.Struct):
    """What the address says: what is looked for, in which order, and which page."""

    query: str = ""
    sort: str = ""
    down: bool = False
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> RuleListing:
        """From an address; what cannot be used is left at its default."""
        number = query.get("page", "")
        page = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 1
        sort, down = query.get("sort", "")[:50], query.get("down") == "1"
        return cls(query=query.get("q", "")[:LONGEST], sort=sort, down=down, page=max(1, page))

    def address(self, path: str) -> str:
        """The address that says this."""
        said = {"q": self.query, "sort": self.sort, "down": "1" if self.down else ""}
        said["page"] = str(self.page) if self.page > 1 else ""
        return path + ("?" + urlencode(kept) if (kept := {name: text for name, text in said.items() if text}) else "")


def limits_of(kind: str, rule: Rule) -> list[dict[str, str]]:
    """The limits that a rule sets, as small as they can be said."""
    grouped = [field for field in fields(kind) if field.group]
    return [
        {
            "label": f"{field.group}: {field.label}",
            "text": f"{getattr(rule, field.name):}",
            "tip": f"{field.help} ({field.unit})",
        }
        for field in grouped
        if getattr(rule, field.name) is not None
    ]


def as_csv(kind: str, rules: Sequence[Mapping[str, Any]]) -> str:
    """Rules as CSV; what is no plain value is JSON. A text that a spreadsheet would take for a formula gets a quote."""
    names = [field.name for field in fields(kind) if not field.write_only]
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(names)
    rows.writerows([_plain(rule.get(name)) for name in names] for rule in rules)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, list | dict | tuple):
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    return no_formula(value) if isinstance(value, str) else value
