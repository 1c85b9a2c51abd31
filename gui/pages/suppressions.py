"""Suppressions: addresses and domains that get no mail, and why. There may be a million: the database is searched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nicegui import background_tasks, ui

from gui.access.gate import session
from gui.components.dialog_box import DialogBox
from gui.components.drawing import tag
from gui.components.notes import Notes
from gui.components.rules.rule_listing import LONGEST, RuleListing
from gui.components.rules.rule_page import EDIT, REMOVE
from gui.components.rules.rule_table import RuleForm, RuleTable, columns_of
from gui.components.view import ConsolePage, View
from settings.rules import FieldError, InvalidRule
from settings.rules.suppression import Suppression, SuppressionFilter
from settings.store import REFUSED, RulesUnavailable

PAGE_ROWS = 100
EMPTY = (
    "Nobody is suppressed",
    "Addresses and domains that must get no more mail stand here: added by hand, by the API, by a file, or by a rule.",
)


class SuppressionsPage:
    """One opened Suppressions."""

    path, kind = "/suppressions", "suppressions"

    def __init__(self, view: View) -> None:
        self.view, self.known = view, view.facade.store.suppressions
        self.notes, self.box = Notes(), DialogBox()
        self._listing = RuleListing.of(view.query)
        self._shown: dict[int, Suppression] = {}
        columns = [msgspec.structs.replace(column, sortable=False) for column in columns_of(self.kind).values()]
        with tag("section", "card rules-card"):
            self.table = RuleTable("Suppressions", columns, (EDIT, REMOVE), "Add a suppression", EMPTY)
        self.form = RuleForm(self.kind, "suppression", self._check, self._save, {}, {})
        self._listen()
        background_tasks.create(self._list(), name="suppressions")
        if "add" in view.query:
            self.form.begin({"value": view.query.get("value", "")[:320]})

    def _listen(self) -> None:
        self.table.told("filter", lambda text: self._look(query=str(text)[:LONGEST], page=1))
        self.table.told("page", lambda page: self._look(page=page if isinstance(page, int) else 1))
        self.table.told("add", lambda _: self.form.begin({}))
        self.table.told("act", self._act)
        self.table.told("export", self._export)

    async def _look(self, **changes: Any) -> None:
        self._listing = msgspec.structs.replace(self._listing, **changes)
        ui.navigate.history.replace(self._listing.address(self.path))
        await self._list()

    async def _list(self) -> None:
        filter = SuppressionFilter(containing=self._listing.query)
        try:
            found, total = await self.known.count(filter), len(self.known.index)
            pages = max(1, -(-found // PAGE_ROWS))
            page = min(self._listing.page, pages)
            rules = await self.known.newest(filter, (page - 1) * PAGE_ROWS, PAGE_ROWS)
        except RulesUnavailable as error:
            self.notes.say(str(error), level="bad")
            return
        self._shown = {rule.id: rule for rule in rules}
        rows = [{"id": rule.id, "title": rule.value, "cells": rule.shown(), "notes": {}} for rule in rules]
        shown = {"rows": rows, "page": page, "pages": pages, "found": found, "total": max(total, found)}
        for name, value in (shown | {"query": self._listing.query, "sort": "", "down": False}).items():
            self.table.show(name, value)

    def _allowed(self) -> bool:
        return session(self.view.request.headers, self.view.access) is not None

    def _check(self, values: dict[str, Any], id_: int | None, trying: str) -> None:
        errors: tuple[FieldError, ...] = ()
        try:
            self.known.validate(values, "console")
        except InvalidRule as error:
            errors = error.errors
        self.form.show("errors", [msgspec.to_builtins(error) for error in errors])

    async def _save(self, values: dict[str, Any], id_: int | None, trying: str) -> None:
        if not self._allowed():
            return
        who = self.view.who
        undo: Callable[[], Awaitable[Any]]
        try:
            if id_ is None:
                rule = await self.known.create(values, who, "console")
                said, undo = "Added", lambda: self.known.delete(rule.id, who)
            else:
                before = await self.known.get(id_)
                rule = await self.known.update(id_, values, who)
                said, undo = "Changed", lambda: self.known.update(id_, before.shown(), who)
        except REFUSED as error:
            self.form.refuse(error)
            return
        self.form.run_method("stored")
        await self._done(f"{said}: {rule.value}", undo)

    async def _act(self, said: Any) -> None:
        action, id_ = (str(said.get("action")), said.get("id")) if isinstance(said, dict) else ("", None)
        rule = self._shown.get(id_) if isinstance(id_, int) else None
        if rule is None or not self._allowed():
            return
        if action == "edit":
            self.form.begin(rule.shown(), rule.id)
        elif await self.box.confirm(f"Delete {rule.value}?", ["It gets mail again."], "Delete", danger=True):
            try:
                before = await self.known.delete(rule.id, self.view.who)
            except REFUSED as error:
                self.notes.say(str(error), level="bad")
                return
            who, source = self.view.who, before.source or "console"
            await self._done(f"Deleted: {before.value}", lambda: self.known.create(before.shown(), who, source))

    async def _done(self, text: str, undo: Callable[[], Awaitable[Any]]) -> None:
        async def back() -> None:
            if not self._allowed():
                return
            try:
                await undo()
            except REFUSED as error:
                self.notes.say(f"This cannot be undone: {error}", level="bad")
                return
            await self._list()
            self.notes.say("Undone")

        await self._list()
        self.notes.say(text, back)

    async def _export(self, form: Any) -> None:
        """What is looked for; all of a million is a matter of the API."""
        filter = SuppressionFilter(containing=self._listing.query)
        parts = [part async for part in self.view.facade.suppressions.export(filter)]
        ui.download.content(await asyncio.to_thread("".join, parts), "suppressions.csv", "text/csv")


PAGE = ConsolePage(
    path="/suppressions",
    title="Suppressions",
    section="Deliver",
    icon="M3 5.500h14v9h-14zM3 5.500l7 5 7-5M2.500 17.500l15-15",
    key="b",
    build=SuppressionsPage,
    purpose="Addresses and domains that get no mail, since when, and why.",
)
