"""The audit: who changed which rule, when, from where, before and after. Never with a private key.

What is done besides rules has a record too: of `kind` floods (one in force was ended), lanes or messages.

Bound: the newest KEPT records stay.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa

from settings.rules.models import NAMES, Rule
from settings.rules.validate import FieldError, InvalidRule
from settings.store import tables

KEPT = 100_000
Action = Literal["create", "update", "delete", "end", "retry", "release", "hold", "go-on", "advance", "reset"]


class NotAllowed(InvalidRule):
    """The caller may not do this; the text says what they may."""

    def __init__(self, why: str) -> None:
        super().__init__([FieldError("", why)])


Role = Literal["read", "operate", "administer"]
ROLES: tuple[Role, ...] = get_args(Role)


class Who(msgspec.Struct, frozen=True):
    """Who changes something: a user, token or part of the machine, and from where (IP address; empty: from inside).

    `role`: what a user may: read (look), operate (change rules and mail), administer (all, users and tokens too).
    """

    name: str
    origin: str = ""
    role: Role = "administer"

    def may(self, role: Role) -> bool:
        """Whether what needs this role is allowed."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def must(self, role: Role) -> None:
        """Raises `NotAllowed` where it is not."""
        if not self.may(role):
            raise NotAllowed(f"{self.name} may {self.role}; this needs {role}")


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `before` and `after` are the rule as the API shows it; None where there was none.

    `rule` is its id; of messages the number of the bulk action.
    """

    id: int
    time: datetime.datetime
    who: str
    origin: str
    action: Action
    kind: str
    rule: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def write(
    connection: sa.Connection, who: Who, now: float, action: Action, before: Rule | None, after: Rule | None
) -> None:
    """Record one change, in the transaction that makes it."""
    rule = after or before
    if rule is None:
        raise ValueError("neither before nor after")
    note(connection, who, now, action, NAMES[type(rule)], rule.id, _shown(before), _shown(after))


def note(
    connection: sa.Connection,
    who: Who,
    now: float,
    action: Action,
    kind: str,
    number: int,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> int:
    """Record anything; facts are JSON values. Returns the record's id."""
    values = {
        "time": datetime.datetime.fromtimestamp(int(now), datetime.UTC),
        "who": who.name[:200],
        "origin": who.origin[:200],
        "action": action,
        "kind": kind,
        "rule": number,
        "before": _json(before),
        "after": _json(after),
    }
    return int((connection.execute(tables.audit.insert().values(values)).inserted_primary_key or (0,))[0])


def latest(connection: sa.Connection, kind: str) -> int:
    """The id of the newest record of a kind; 0 where there is none."""
    column = tables.audit.c
    newest = sa.select(column.id).where(column.kind == kind).order_by(column.id.desc()).limit(1)
    return int(connection.execute(newest).scalar() or 0)


def only_created(connection: sa.Connection, kind: str, since: int) -> bool:
    """Whether all records of a kind that are newer than this one are of what was created."""
    column = tables.audit.c
    other = sa.select(column.id).where(column.kind == kind, column.id > since, column.action != "create")
    return connection.execute(other.limit(1)).first() is None


def read(connection: sa.Connection, limit: int) -> list[AuditRecord]:
    """The newest changes, newest first."""
    rows = connection.execute(tables.audit.select().order_by(tables.audit.c.id.desc()).limit(limit)).mappings()
    return [AuditRecord(**{**row, "before": _parsed(row["before"]), "after": _parsed(row["after"])}) for row in rows]


def trim(connection: sa.Connection) -> None:
    """Forget all but the newest KEPT records."""
    column = tables.audit.c.id
    newest = connection.execute(sa.select(sa.func.max(column))).scalar() or 0
    connection.execute(tables.audit.delete().where(column <= newest - KEPT))


def _shown(rule: Rule | None) -> dict[str, Any] | None:
    return rule.shown() if rule is not None else None


def _json(facts: Mapping[str, Any] | None) -> str | None:
    return json.dumps(facts, ensure_ascii=False) if facts is not None else None


def _parsed(text: str | None) -> dict[str, Any] | None:
    return json.loads(text) if text else None
