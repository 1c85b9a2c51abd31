"""A view of one kind of rules: what all of them do. A page adds its own: columns, figures, what a rule would do.

Owner of: what one opened page shows, and its way back from each change (in `Notes`). Rows are worked out anew when the
rules or the address change; live figures once a second, of the rows shown only. Bound: PAGE rows in the browser;
a search of 3,000 rules takes 18 ms.
When the rules database does not answer, the change is refused with its line, and nothing is lost from the form.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from nicegui import ui

from gui.access.gate import session
from gui.components.dialog_box import DialogBox
from gui.components.drawing import tag
from gui.components.notes import Notes
from gui.components.rules.rule_listing import LONGEST, RuleListing, as_csv
from gui.components.rules.rule_table import Action, RuleColumn, RuleForm, RuleTable, columns_of
from gui.components.view import View
from settings.rules import DkimKey, FieldError, InvalidRule, NoSuchRule, Rule, Snapshot
from settings.rules.form import fields
from settings.rules.rule import REMOVED
from settings.store import REFUSED

PAGE = 100  # rows
OFFERED = 200  # suggestions for a field
EDIT, REMOVE = Action("edit", "Edit"), Action("remove", "Delete")
GONE = "It is gone: somebody else has taken it away, or it has ended."
Cells = dict[str, Any]


class RulePage:
    """One opened view of rules.

    Attributes:
        path: its address.
        kind: of its rules, as the API calls it.
        noun: what one rule is called.
        label: what the table is a table of.
        empty: title and text where there is none.
    """

    path: ClassVar[str]
    kind: ClassVar[str]
    noun: ClassVar[str]
    label: ClassVar[str]
    empty: ClassVar[tuple[str, str]]
    actions: ClassVar[tuple[Action, ...]] = (EDIT, REMOVE)
    gone: ClassVar[str] = "Deleted"  # what is said when a rule has been taken away
    drag: ClassVar[bool] = False
    tryout: ClassVar[tuple[str, str] | None] = None
    words: ClassVar[Mapping[str, str]] = {}
    initial: ClassVar[Mapping[str, Any]] = {}  # of a new rule, where it is not the model's default

    def __init__(self, view: View) -> None:
        self.view, self.facade, self.store = view, view.facade, view.facade.store
        self.notes, self.box = Notes(), DialogBox()
        self._listing = RuleListing.of(view.query)
        self._drawn: tuple[Snapshot, RuleListing] | None = None
        self._visible: list[Rule] = []
        self.columns = self.shown_columns()
        self.above()
        with tag("section", "card rules-card"):
            self.table = RuleTable(
                self.label, self.columns, self.actions, f"Add {_a(self.noun)}", self.empty, drag=self.drag
            )
        self.below()
        self.form = RuleForm(
            self.kind, self.noun, self._check, self._save, self._suggestions(), self.words, self.tryout
        )
        self._listen()
        self.refresh()
        view.live.each(self.refresh)
        self._open()

    # -- what a page says of its own --------------------------------------------------------------------------------

    def shown_columns(self) -> list[RuleColumn]:
        """The table's columns."""
        return list(columns_of(self.kind).values())

    def above(self) -> None:
        """Draw what stands above the table."""

    def below(self) -> None:
        """Draw what stands below the table."""

    def title(self, rule: Rule) -> str:
        """What this rule is called."""
        raise NotImplementedError

    def rank(self, rule: Rule) -> Any:
        """Sorts the rules where the operator has chosen no order."""
        return rule.id

    def entered(self, rule: Rule) -> dict[str, Any]:
        """The values that its form begins with."""
        return rule.shown()

    def cells(self, rule: Rule) -> Cells:
        """The values of a row, as JSON; a column of the same name shows each."""
        return rule.shown()

    def live_cells(self, rule: Rule) -> Cells:
        """The values of a row that come from the running machine."""
        shown = self.facade.rules.shown(rule)
        return {name: shown.get(name) for name in rule.live}

    def warnings(self, rule: Rule) -> dict[str, str]:
        """What the operator should know of this rule, by the column where it stands."""
        return {}

    def consequence(self, rule: Rule) -> str:
        """What happens when this rule is taken away; asked once."""
        return "It holds no more from the next message."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        """What the rule in the form would do, in blocks of tone, title and lines; None where it cannot be used yet."""
        return []

    def stored(self, rule: Rule) -> None:
        """A rule has been stored from the form."""

    async def acted(self, action: str, rule: Rule) -> None:
        """An action of the page's own."""

    # -- what is shown ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the rules in force, and the figures of those that are seen."""
        snapshot = self.store.snapshot
        if self._drawn is None or self._drawn[0] is not snapshot or self._drawn[1] != self._listing:
            self._drawn = (snapshot, msgspec.structs.replace(self._listing))
            self._list()
        self.table.show("live", {str(rule.id): self.live_cells(rule) for rule in self._visible})

    def matching(self) -> list[Rule]:
        """The rules that are looked for, in order."""
        rules = sorted(self.store.list(self.kind), key=self.rank)
        wanted = self._listing.query.casefold().split()
        if wanted:
            rules = [rule for rule in rules if _has(self._searched(rule), wanted)]
        if self._listing.sort in {column.name for column in self.columns}:
            rules.sort(key=lambda rule: _order(self._value(rule)), reverse=self._listing.down)
            rules.sort(key=lambda rule: self._value(rule) in (None, "", []))
        return rules

    def _value(self, rule: Rule) -> Any:
        name = self._listing.sort
        live = any(column.live for column in self.columns if column.name == name)
        return (self.live_cells(rule) if live else self.cells(rule)).get(name)

    def _searched(self, rule: Rule) -> str:
        return json.dumps(list(self.cells(rule).values()), ensure_ascii=False).casefold()

    def _list(self) -> None:
        rules, listing = self.matching(), self._listing
        pages = max(1, -(-len(rules) // PAGE))
        page = min(listing.page, pages)
        self._visible = rules[(page - 1) * PAGE : page * PAGE]
        total = len(self.store.list(self.kind))
        rows = [self._row(rule) for rule in self._visible]
        shown = {"rows": rows, "page": page, "pages": pages, "found": len(rules), "total": total}
        shown |= {"query": listing.query, "sort": listing.sort, "down": listing.down}
        for name, value in shown.items():
            self.table.show(name, value)

    def _row(self, rule: Rule) -> Cells:
        return {"id": rule.id, "title": self.title(rule), "cells": self.cells(rule), "notes": self.warnings(rule)}

    def _suggestions(self) -> dict[str, list[str]]:
        telemetry, ips = self.facade.telemetry, self.facade.ips.own
        offered = {"ip": ips, "from_ip": ips, "to_ip": ips, "members": ips}
        if self.kind != "dkim-keys":
            offered["domain"] = sorted(telemetry.keys("domain")[:OFFERED])
        return {**offered, "tag": sorted(telemetry.keys("tag")[:OFFERED])}

    # -- what the operator does -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self.table.told("filter", lambda text: self._look(query=str(text)[:LONGEST], page=1))
        self.table.told("sort", lambda name: self._sorted(str(name)))
        self.table.told("page", lambda page: self._look(page=page if isinstance(page, int) else 1))
        self.table.told("export", lambda form: self._export(str(form)))
        self.table.told("add", lambda _: self.form.begin(self.initial))
        self.table.told("act", self._act)
        self.table.told("order", self._ordered)

    def _look(self, **changes: Any) -> None:
        self._listing = msgspec.structs.replace(self._listing, **changes)
        ui.navigate.history.replace(self._listing.address(self.path))
        self.refresh()

    def _sorted(self, name: str) -> None:
        """Up, down, and back to the order that the view has by itself."""
        listing = self._listing
        if listing.sort != name:
            self._look(sort=name, down=False)
        elif not listing.down:
            self._look(down=True)
        else:
            self._look(sort="", down=False)

    def _open(self) -> None:
        """The address may ask for the form, of one rule or of a new one with these fields; or to be shown one rule."""
        query = self.view.query
        if (number := query.get("rule", "")).isdecimal() and len(number) < 19:
            self._point_at(int(number))
        if "add" in query:
            names = {field.name for field in fields(self.kind) if not (field.read_only or field.write_only)}
            self.form.begin({**self.initial, **{name: query[name][:300] for name in names if name in query}})
        elif (number := query.get("edit", "")).isdigit() and (rule := self.store.snapshot.rule(self.kind, int(number))):
            self.form.begin(self.entered(rule), rule.id)

    def _point_at(self, id_: int) -> None:
        """Show the page that has this rule, and mark it there."""
        ids = [rule.id for rule in self.matching()]
        if id_ in ids:
            self._listing.page = ids.index(id_) // PAGE + 1
            self.refresh()
            self.table.show("marked", id_)
        else:
            self.notes.say("The rule that the link meant is gone.", level="bad")

    def _export(self, form: str) -> None:
        rules = [self.facade.rules.shown(rule) for rule in self.matching()]
        if form == "csv":
            ui.download.content(as_csv(self.kind, rules), f"{self.kind}.csv", "text/csv")
        else:
            ui.download.content(
                json.dumps(rules, indent=2, ensure_ascii=False, default=msgspec.to_builtins),
                f"{self.kind}.json",
                "application/json",
            )

    def allowed(self) -> bool:
        """Whether the session lasts; a page may stay open longer."""
        return session(self.view.request.headers, self.view.access) is not None

    def _check(self, values: dict[str, Any], id_: int | None, trying: str) -> None:
        rule: Rule | None = None
        errors: Sequence[FieldError] = ()
        try:
            rule = self.store.validate(self.kind, values, id_)
        except InvalidRule as error:
            errors = error.errors
        except NoSuchRule:
            pass  # deleted elsewhere meanwhile; saving says so
        self.form.show("errors", [msgspec.to_builtins(error) for error in errors])
        self.form.show("aside", self.aside(rule, values, trying))

    async def _save(self, values: dict[str, Any], id_: int | None, trying: str) -> None:
        if not self.allowed():
            return
        try:
            rule, said, undo = await self._store(values, id_)
        except NoSuchRule:
            self.form.anew()
            return
        except REFUSED as error:
            self.form.refuse(error)
            return
        self.form.run_method("stored")
        self.done(f"{said}: {self.title(rule)}", undo)
        self.stored(rule)

    async def _store(self, values: dict[str, Any], id_: int | None) -> tuple[Rule, str, Callable[[], Awaitable[Any]]]:
        who = self.view.who
        if id_ is None:
            rule = await self.store.create(self.kind, values, who)
            return rule, "Added", lambda: self.store.delete(self.kind, rule.id, who)
        before = self.store.get(self.kind, id_)
        rule = await self.store.update(self.kind, id_, values, who)
        return rule, "Changed", lambda: self.store.update(self.kind, id_, whole(before), who)

    async def _act(self, said: Any) -> None:
        action, id_ = (str(said.get("action")), said.get("id")) if isinstance(said, dict) else ("", None)
        rule = self.store.snapshot.rule(self.kind, id_) if isinstance(id_, int) else None
        if rule is None:
            self.notes.say(GONE, level="bad")
        elif not self.allowed():
            return
        elif action == "edit":
            self.form.begin(self.entered(rule), rule.id)
        elif action == "remove":
            if await self.box.confirm(f"Delete {self.title(rule)}?", [self.consequence(rule)], "Delete", danger=True):
                await self.take_away(rule)
        else:
            await self.acted(action, rule)

    async def take_away(self, rule: Rule) -> None:
        """Delete a rule, with a way back."""
        who, reason = self.view.who, getattr(rule, "reason", None) or "manual"
        try:
            before = await self.store.delete(self.kind, rule.id, who)
        except NoSuchRule:
            self.notes.say(GONE, level="bad")
            return
        except REFUSED as error:
            self.notes.say(str(error), level="bad")
            return
        self.done(f"{self.gone}: {self.title(rule)}", lambda: self.store.create(self.kind, whole(before), who, reason))

    async def _ordered(self, ids: Any) -> None:
        if not self.allowed() or not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            return
        before, who = [rule.id for rule in self.store.list(self.kind)], self.view.who
        order = iter(ids)
        moved = [next(order, one) if one in ids else one for one in before]  # those on other pages stay where they are
        try:
            await self.store.reorder(moved, who, self.kind)
        except REFUSED as error:
            self._drawn = None
            self.refresh()
            self.notes.say(str(error), level="bad")
            return
        self.done("The order has changed", lambda: self.store.reorder(before, who, self.kind))

    def done(self, text: str, undo: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Say what has been done, and offer the way back."""

        async def back() -> None:
            if not self.allowed() or undo is None:
                return
            try:
                await undo()
            except REFUSED as error:
                self.notes.say(f"This cannot be undone: {error}", level="bad")
                return
            self.refresh()
            self.notes.say("Undone")

        self.refresh()
        self.notes.say(text, back if undo is not None else None)


def whole(rule: Rule) -> dict[str, Any]:
    """A rule's fields to store it again, a private key among them: for the way back, never to show."""
    values = rule.shown()
    if isinstance(rule, DkimKey) and rule.key is not None:
        values["key"] = rule.key.get_secret_value()
    return {**values, **dict.fromkeys(rule.secrets, REMOVED), **rule.revealed()}


def _has(text: str, wanted: Sequence[str]) -> bool:
    return all(word in text for word in wanted)


def _order(value: Any) -> tuple[int, Any]:
    """Numbers before texts, so that anything can be put in order."""
    if isinstance(value, bool | int | float):
        return (0, value)
    return (1, json.dumps(msgspec.to_builtins(value), ensure_ascii=False).casefold())


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
