"""Audit: who changed which rule, when, from where, before and after."""

from __future__ import annotations

import time
from typing import Any

from gui.components import drawing
from gui.components.detail_drawer import DetailDrawer, facts, text
from gui.components.filter_bar import Field
from gui.components.listing import Listing, Rows, Wanted
from gui.components.live_table import Column, Empty, shown
from gui.components.view import ConsolePage, View
from settings.rules import KINDS
from settings.store import AuditRecord, RulesUnavailable

MOST = 5000  # records that are looked at
LOOK = 5.0  # seconds between looks into the database, while nothing is asked for
ACTIONS = ("create", "update", "delete", "end", "retry", "release")
COLUMNS = (
    Column("time", "When", "clock", sortable=True, width="130px"),
    Column(
        "who",
        "Who",
        "text",
        "The console, a token of the API by its name, or a part of the machine.",
        True,
        "13%",
        main=True,
    ),
    Column("origin", "From", "text", "The address it came from.", True, "11%"),
    Column("action", "Did", "state", sortable=True, width="110px"),
    Column("kind", "To", "text", "The rules; lanes and messages, where no rule was changed.", True, "11%"),
    Column("what", "What", "text", "What it is for, or what changed in it."),
)
CHANGED = (*KINDS, "suppressions", "lanes", "messages")
FIELDS = (
    Field("search", "Search", "search", "Who, from where, or what"),
    Field(
        "kind",
        "To",
        "choice",
        options=(("", "All"), *((kind, kind) for kind in CHANGED)),
    ),
    Field("action", "Action", "choice", options=(("", "Any"), *((action, action) for action in ACTIONS))),
)
EMPTY = Empty(
    "Nothing was changed yet",
    "Every change of a rule stands here, with what it was before and after; so do retries, ended floods, and what was "
    "done to messages.",
)


class Audit:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._rules = view.facade.store
        self._looked, self._records, self._asked = 0.0, dict[str, AuditRecord](), ""
        self._listing = Listing(
            view, "/audit", FIELDS, COLUMNS, "-time", EMPTY, "changes", self._fetch, (RulesUnavailable,), opens=True
        )
        self._listing.table.on_open(self._open)
        self._drawer = DetailDrawer(lambda: None)

    async def _fetch(self, wanted: Wanted) -> Rows:
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._records = {str(record.id): record for record in await self._rules.audit(MOST)}
        found = [_row(record) for record in self._records.values()]
        for name in ("kind", "action"):
            if value := wanted.filters.get(name):
                found = [row for row in found if row[name] == value]
        if searched := wanted.filters.get("search", "").lower():
            found = [row for row in found if searched in f"{row['who']} {row['origin']} {row['what']}".lower()]
        found.sort(key=lambda row: (row[wanted.sort], int(row["key"])), reverse=wanted.descending)
        return Rows(found[wanted.offset : wanted.offset + wanted.limit], len(found))

    def _open(self, key: str) -> None:
        record = self._records.get(key)
        if record is None:
            return
        sections = [
            facts(
                "Change",
                [
                    ("When", f"{record.time.astimezone():%Y-%m-%d %H:%M:%S %Z}"),
                    ("Who", record.who),
                    ("From", record.origin or "inside"),
                    ("To", f"{record.kind} {record.rule or ''}"),
                ],
            )
        ]
        if changes := _changes(record):
            sections.append(facts("What changed", [(name, f"{old} → {new}") for name, old, new in changes]))
        for title, rule in (("Before", record.before), ("After", record.after)):
            if rule is not None:
                sections.append(text(title, "\n".join(f"{name}: {_plain(value)}" for name, value in rule.items())))
        self._drawer.show(f"{record.action} {record.kind}", sections, under=_what(record))


def _row(record: AuditRecord) -> dict[str, Any]:
    return {
        "key": str(record.id),
        "time": record.time.timestamp(),
        "who": shown(record.who, 200),
        "origin": shown(record.origin or "inside", 200),
        "action": record.action,
        "kind": record.kind,
        "what": shown(_what(record), 300),
    }


def _what(record: AuditRecord) -> str:
    if changes := _changes(record):
        return "; ".join(f"{name}: {old} → {new}" for name, old, new in changes)
    rule = record.after or record.before or {}
    told = [
        f"{name} {_plain(value)}"
        for name, value in rule.items()
        if name != "id" and value not in (None, "", [], 0, False)
    ]
    return ", ".join(told[:5])


def _changes(record: AuditRecord) -> list[tuple[str, str, str]]:
    """(field, before, after) of a rule that was changed."""
    before, after = record.before, record.after
    if before is None or after is None:
        return []
    names = dict.fromkeys((*before, *after))
    return [
        (name, _plain(before.get(name)), _plain(after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _plain(value: Any) -> str:
    return "empty" if value in (None, "", []) else str(value)[:300]


PAGE = ConsolePage(path="/audit", title="Audit", section="System", icon=drawing.CLOCK, key="u", build=Audit)
