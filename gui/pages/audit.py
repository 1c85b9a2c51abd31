"""Audit: who changed which rule, when, from where, before and after; and the way back, at any time."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Sequence
from typing import Any

from nicegui import background_tasks

from gui.access.gate import session
from gui.components import drawing
from gui.components.detail_drawer import DetailDrawer, facts
from gui.components.dialog_box import DialogBox
from gui.components.filter_bar import Field, address
from gui.components.listing import Listing, Rows, Wanted
from gui.components.live_table import Column, Empty, shown
from gui.components.notes import Notes
from gui.components.rules.rule_listing import WHERE
from gui.components.view import ConsolePage, View
from settings.rules import KINDS
from settings.rules.words import changed_words, rule_words, told_words
from settings.store import REFUSED, AuditRecord, RulesUnavailable, undo, undoable

MOST = 5000  # records that are looked at
LOOK = 5.0  # seconds between looks into the database, while nothing is asked for
ACTIONS = ("create", "update", "delete", "end", "retry", "release")
SPANS = {"1h": 3600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
COLUMNS = (
    Column("time", "When", "clock", sortable=True, width="118px"),
    Column("who", "Who", "text", "The user, a token of the API by its name, or a part of the machine.", True, "11%"),
    Column("origin", "From", "text", "The address it came from.", True, "10%"),
    Column("action", "Did", "state", sortable=True, width="100px"),
    Column("rule", "What", "open", "The rule; a lane or messages, where no rule was changed.", True, "27%", main=True),
    Column("change", "How", "text", "What changed in it, or what it said."),
)
CHANGED = (*KINDS, "suppressions", "lanes", "messages")
FIELDS = (
    Field("search", "Search", "search", "Who, from where, or what"),
    Field(
        "range",
        "Time",
        "choice",
        options=(
            ("", "Any time"),
            ("1h", "Last hour"),
            ("24h", "Last 24 h"),
            ("7d", "Last 7 days"),
            ("30d", "Last 30 days"),
        ),
    ),
    Field(
        "kind",
        "To",
        "choice",
        options=(("", "All"), *((kind, kind) for kind in CHANGED)),
    ),
    Field("action", "Action", "choice", options=(("", "Any"), *((action, action) for action in ACTIONS))),
    Field("who", "Who", placeholder="Whole name", rare=True),
)
EMPTY = Empty(
    "Nothing was changed yet",
    "Every change of a rule stands here, with what it was before and after; so do retries, ended floods, and what was "
    "done to messages.",
)


class Audit:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._view, self._rules = view, view.facade.store
        self._looked, self._records = 0.0, dict[str, AuditRecord]()
        self._open_record: AuditRecord | None = None
        self._listing = Listing(
            view, "/audit", FIELDS, COLUMNS, "-time", EMPTY, "changes", self._fetch, (RulesUnavailable,), opens=True
        )
        self._listing.table.on_open(self._open)
        self._notes, self._box = Notes(), DialogBox()
        self._drawer = DetailDrawer(lambda: None, lambda action: background_tasks.create(self._act(action)))

    async def _fetch(self, wanted: Wanted) -> Rows:
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._records = {str(record.id): record for record in await self._rules.audit(MOST)}
        found = [_row(record) for record in self._records.values()]
        for name in ("kind", "action", "who"):
            if value := wanted.filters.get(name):
                found = [row for row in found if row[name] == value]
        if span := SPANS.get(wanted.filters.get("range", "")):
            found = [row for row in found if row["time"] >= time.time() - span]
        if words := wanted.filters.get("search", "").lower().split():
            found = [row for row in found if all(word in row["searched"] for word in words)]
        found.sort(key=lambda row: (row[wanted.sort], int(row["key"])), reverse=wanted.descending)
        page = found[wanted.offset : wanted.offset + wanted.limit]
        return Rows([{name: row[name] for name in row if name != "searched"} for row in page], len(found))

    def _open(self, key: str) -> None:
        record = self._records.get(key)
        if record is None:
            return
        self._open_record = record
        sections = [_who_and_when(record)]
        if changes := changed_words(record.kind, record.before, record.after):
            sections.append(facts("What changed", [(name, f"{old} → {new}") for name, old, new in changes]))
        for title, rule in (("Before", record.before), ("After", record.after)):
            if rule is not None:
                sections.append(facts(title, told_words(record.kind, rule)))
        rule = record.after or record.before or {}
        actions = [("undo", "Undo this change…")] if undoable(record) else []
        self._drawer.show(
            rule_words(record.kind, rule), sections, under=_how(record), actions=actions, links=self._links(record)
        )

    def _links(self, record: AuditRecord) -> Sequence[tuple[str, str]]:
        """To the rule, where it still is; and to all that was ever done to rules of its kind."""
        links = []
        if record.kind in WHERE and self._rules.snapshot.rule(record.kind, record.rule) is not None:
            links.append((address(WHERE[record.kind], {"rule": str(record.rule)}), "Show the rule"))
        value = (record.after or record.before or {}).get("value")
        if record.kind == "suppressions" and isinstance(value, str):
            links.append((address("/suppressions", {"q": value}), "Show the suppression"))
        lane = (record.after or {}).get("lane")
        if record.kind in ("lanes", "floods") and isinstance(lane, str):
            links.append((address("/domains", {"lane": lane}), "Show the lane"))
        return links

    async def _act(self, action: str) -> None:
        record, view = self._open_record, self._view
        if action != "undo" or record is None or session(view.request.headers, view.access) is None:
            return
        changes = changed_words(record.kind, record.before, record.after)
        lines = [f"{name}: {new} becomes {old} again." for name, old, new in changes]
        lines = lines or [{"create": "It is deleted.", "delete": "It is stored again as it was."}[record.action]]
        title = f"Undo: {record.action} {rule_words(record.kind, record.after or record.before or {})}?"
        if not await self._box.confirm(shown(title, 200), [shown(line) for line in lines], "Undo"):
            return
        try:
            await undo(self._rules, record, view.who)
        except REFUSED as error:
            self._notes.say(f"This cannot be undone: {error}", level="bad")
            return
        self._notes.say("Undone: it is as it was before this change.")
        self._looked = 0.0
        self._drawer.shut()
        self._listing.again()


def _who_and_when(record: AuditRecord) -> dict[str, Any]:
    utc = record.time.replace(tzinfo=datetime.UTC) if record.time.tzinfo is None else record.time
    rows = [
        ("When", utc),
        ("Who", record.who),
        ("From", record.origin or "inside"),
        ("To", f"{record.kind} {record.rule or ''}"),
    ]
    return facts("Change", rows)


def _row(record: AuditRecord) -> dict[str, Any]:
    rule, how = rule_words(record.kind, record.after or record.before or {}), _how(record)
    row = {
        "key": str(record.id),
        "time": record.time.timestamp(),
        "who": shown(record.who, 200),
        "origin": shown(record.origin or "inside", 200),
        "action": record.action,
        "kind": record.kind,
        "rule": shown(rule, 300),
        "change": shown(how, 300),
    }
    return {**row, "searched": f"{record.who} {record.origin} {record.action} {record.kind} {rule} {how}".lower()}


def _how(record: AuditRecord) -> str:
    """What changed, or what it said."""
    if changes := changed_words(record.kind, record.before, record.after):
        return "; ".join(f"{name} {old} → {new}" for name, old, new in changes)
    rule = record.after or record.before or {}
    told = (f"{name}: {_said(value)}" for name, value in told_words(record.kind, rule))
    return "; ".join(itertools.islice(told, 5))


def _said(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime.datetime) else str(value)


PAGE = ConsolePage(
    path="/audit",
    title="Audit",
    section="System",
    icon=drawing.CLOCK,
    key="u",
    build=Audit,
    purpose="Who changed what, when and from where; each change can be taken back.",
)
