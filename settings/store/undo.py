"""Undo, at any time: takes back one change that the audit has, where nothing has changed the rule since."""

from __future__ import annotations

from typing import Any

from settings.rules import KINDS, FieldError, InvalidRule, Rule
from settings.store.audit import AuditRecord, Who
from settings.store.store import RuleStore


def undoable(record: AuditRecord) -> bool:
    """Whether it is a change of a rule that can be taken back; a private key is not in the audit."""
    if record.kind not in KINDS or record.action not in ("create", "update", "delete"):
        return False
    return not (record.kind == "dkim-keys" and record.action == "delete")


async def undo(store: RuleStore, record: AuditRecord, who: Who) -> Rule:
    """Take the change back.

    Raises:
        InvalidRule: the rule has been changed since, or cannot be as it was; says why.
        NoSuchRule, RulesUnavailable: as `RuleStore.update`.
    """
    if not undoable(record):
        raise _refused("this cannot be undone")
    if record.action == "delete":
        values = dict(record.before or {})
        return await store.create(record.kind, values, who, str(values.get("reason") or "manual"))

    def unchanged() -> None:
        now = store.snapshot.rule(record.kind, record.rule)
        if now is None:
            raise _refused("it has been deleted since")
        if differs := _differing(now.shown(), record.after or {}):
            raise _refused(f"it has been changed since: {', '.join(differs)}")

    if record.action == "create":
        return await store.delete(record.kind, record.rule, who, unchanged)
    return await store.update(record.kind, record.rule, record.before or {}, who, unchanged)


def _differing(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """The fields that are not as they were; those that the audit of an older version does not know are left out."""
    return [name for name, value in now.items() if name in then and name != "order" and then[name] != value]


def _refused(why: str) -> InvalidRule:
    return InvalidRule([FieldError("", why)])
