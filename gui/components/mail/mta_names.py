"""The names of an MTA IP: its console name and its EHLO name, changed in a small form, with a way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gui.components.dialog_box import DialogBox, Entry, Errors, Values
from gui.components.notes import Notes
from gui.components.view import View
from settings.rules import InvalidRule, MtaName, Rule
from settings.store import RulesUnavailable

ENTRIES = (
    Entry("name", "Console name", "Shown here only, never to receivers."),
    Entry("ehlo", "EHLO name", "What it says to receivers. Empty: its reverse DNS name, else the host name."),
)


class MtaNames:
    """Asks for the names.

    Args:
        changed: told when they have been changed.
    """

    def __init__(self, view: View, box: DialogBox, notes: Notes, changed: Callable[[], object]) -> None:
        self._rules, self._who, self._box, self._notes, self._changed = view.facade.store, view.who, box, notes, changed

    async def edit(self, ip: str) -> None:
        """Ask for the names of an MTA IP."""
        before = self._rule(ip)

        def check(values: Values) -> Errors:
            return self._check(ip, values)

        async def save(values: Values) -> Errors:
            return check(values) or await self._save(ip, values)

        if await self._box.fill(f"Names of {ip}", ENTRIES, _names(before), "Save", save, check) is not None:
            self._notes.say(f"The names of {ip} are changed.", lambda: self._restore(ip, before))
        self._changed()

    def _rule(self, ip: str) -> MtaName | None:
        return next((rule for rule in self._rules.snapshot.mta_names if rule.ip == ip), None)

    def _check(self, ip: str, values: Values) -> Errors:
        if not any(value.strip() for value in values.values()):
            return {}
        rule = self._rule(ip)
        try:
            self._rules.validate("mta-names", {**values, "ip": ip}, rule.id if rule else None)
        except InvalidRule as error:
            return _mistakes(error, values)
        return {}

    async def _save(self, ip: str, values: Values) -> Errors:
        rule = self._rule(ip)
        try:
            if any(value.strip() for value in values.values()):
                await self._put(rule, {**values, "ip": ip})
            elif rule is not None:
                await self._rules.delete("mta-names", rule.id, self._who)
        except InvalidRule as error:
            return _mistakes(error, values)
        except RulesUnavailable as error:
            return {"": str(error)}
        return {}

    async def _put(self, rule: Rule | None, values: dict[str, Any]) -> None:
        if rule is None:
            await self._rules.create("mta-names", values, self._who)
        else:
            await self._rules.update("mta-names", rule.id, values, self._who)

    async def _restore(self, ip: str, before: MtaName | None) -> None:
        errors = await self._save(ip, _names(before))
        self._notes.say(next(iter(errors.values()), "Undone."), level="bad" if errors else "good")
        self._changed()


def _names(rule: MtaName | None) -> Values:
    return {"name": (rule and rule.name) or "", "ehlo": (rule and rule.ehlo) or ""}


def _mistakes(error: InvalidRule, values: Values) -> Errors:
    """What is wrong, by the form's field; under "" where it is of none."""
    return {mistake.field if mistake.field in values else "": mistake.message for mistake in error.errors}
