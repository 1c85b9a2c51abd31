"""The rules in the database: reading them all, and every change, each in one transaction with its audit record.

Synchronous; `settings.store.store` calls it in its one thread. A change is validated against the rows that its own
transaction reads, under a lock that all instances take: two that change at once cannot make a loop or a duplicate.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import SecretStr

from settings.rules import validate
from settings.rules.models import KINDS, NAMES, DkimKey, Pool, Rule
from settings.rules.snapshot import Snapshot
from settings.rules.validate import FieldError, InvalidRule, NoSuchRule
from settings.store import audit, engine, tables
from settings.store.audit import Who
from settings.store.engine import RulesUnavailable
from settings.store.vault import Locked, Vault

Row = dict[str, Any]


class Change(NamedTuple):
    """What a change came to: the rule (for a deletion, what it was) and all rules after it."""

    rule: Rule
    snapshot: Snapshot


class Database:
    """The rules of one database, seen by one instance.

    Args:
        address: as `database-address`.
        data_dir: for SQLite and the key file.
        instance: this instance's id: pauses of other instances alone are not seen.
    """

    def __init__(self, address: str, data_dir: Path, instance: str) -> None:
        self._url = engine.location(address, data_dir)
        self.name = self._url.set(drivername=self._url.get_backend_name()).render_as_string(hide_password=True)
        self._data_dir = data_dir
        self._instance = instance
        self._alone = not address  # a file in `data-dir` is this instance's, whatever its name was before
        self._vault = Vault(data_dir)
        self._engine = engine.engine_for(self._url)
        self._raw: Any = None  # the driver's connection
        self._damaged = False  # SQLite found its file so, and has not read all of it since
        self._reader = self._engine.execution_options(reads=True)
        sa.event.listen(self._engine, "connect", self._connected)
        self._known: dict[tuple[str, int], tuple[Row, Rule]] = {}

    def open(self) -> Snapshot:
        """Migrate, and read everything. Raises `RulesUnavailable`."""
        if self._url.get_backend_name() == "sqlite":
            self._make_file(Path(str(self._url.database)))
        with self._errors():
            engine.migrate(self._engine)
            self._engine.dispose()  # MySQL keeps the migration's lock as long as its connection
        return self.read()

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def interrupt(self) -> None:
        """From another thread: end the wait for a silent server. (psycopg has no time-out for reading.)"""
        fileno = getattr(self._raw, "fileno", None)
        if fileno is not None:
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    def _connected(self, connection: Any, record: object) -> None:
        self._raw = connection

    def read(self) -> Snapshot:
        """All rules. Raises `RulesUnavailable`."""
        consistent = {"postgresql": "REPEATABLE READ"}.get(self._engine.dialect.name)
        source = self._engine.execution_options(isolation_level=consistent) if consistent else self._reader
        with self._errors(), source.begin() as connection:
            self._whole(connection)
            return self._read(connection).indexed()

    # -- changes --------------------------------------------------------------------------------------------------

    def create(self, kind: str, values: Mapping[str, Any], who: Who, now: float, reason: str) -> Change:
        """Store a new rule. Raises `InvalidRule`, `NoSuchRule`, `RulesUnavailable`."""

        def change(connection: sa.Connection, snapshot: Snapshot) -> Rule:
            return self._create(connection, snapshot, kind, values, who, now, reason)

        return self._change(change)

    def update(self, kind: str, id_: int, values: Mapping[str, Any], who: Who, now: float) -> Change:
        """Replace a rule's fields. Raises `InvalidRule`, `NoSuchRule`, `RulesUnavailable`."""

        def change(connection: sa.Connection, snapshot: Snapshot) -> Rule:
            old = self._one(snapshot, kind, id_)
            return self._update(connection, snapshot, old, values, who, now)

        return self._change(change)

    def delete(self, kind: str, id_: int, who: Who, now: float) -> Change:
        """Remove a rule. Raises `NoSuchRule`, `RulesUnavailable`."""

        def change(connection: sa.Connection, snapshot: Snapshot) -> Rule:
            old = self._one(snapshot, kind, id_)
            validate.deletable(old, snapshot)
            self._delete(connection, old, who, now, "delete")
            return old

        return self._change(change)

    def reorder(self, ids: Sequence[int], who: Who, now: float, kind: str = "floods") -> Snapshot:
        """Put a kind's rules in this order; those not named come after. Raises `NoSuchRule`, `RulesUnavailable`."""
        with self._writing() as connection:
            snapshot = self._read(connection)
            named = [self._one(snapshot, kind, id_) for id_ in dict.fromkeys(ids)]
            rest = (rule for rule in snapshot.rules(kind) if rule not in named)
            for order, rule in enumerate([*named, *rest], 1):
                if getattr(rule, "order", order) != order:
                    self._store(connection, rule, rule.model_copy(update={"order": order}), who, now)
            return self._read(connection).indexed()

    def merge(
        self, entries: Sequence[tuple[str, Mapping[str, Any]]], who: Who, now: float
    ) -> tuple[list[str], Snapshot]:
        """Create or change many rules, all but the unusable. For each what was done, or `InvalidRule`'s text."""
        done: list[str] = []
        with self._writing() as connection:
            snapshot = self._read(connection)
            for kind, values in entries:
                try:
                    result, snapshot = self._merge_one(connection, snapshot, kind, values, who, now)
                except InvalidRule as error:
                    result = f"error: {error}"
                done.append(result)
            return done, self._read(connection).indexed()

    def sweep(self, now: float) -> Snapshot:
        """Remove the rules that have ended, and the oldest audit records. Raises `RulesUnavailable`."""
        with self._writing() as connection:
            snapshot = self._read(connection)
            for rule in snapshot.ending():
                if rule.ended(now):
                    self._delete(connection, rule, Who("mailrace"), now, "end")
            audit.trim(connection)
            return self._read(connection).indexed()

    def note(
        self, who: Who, now: float, action: audit.Action, kind: str, number: int, facts: Mapping[str, Any]
    ) -> None:
        """Record something that is no change of a rule. Raises `RulesUnavailable`."""
        with self._errors(), self._engine.begin() as connection:
            audit.note(connection, who, now, action, kind, number, None, facts)

    def records(self, limit: int) -> list[audit.AuditRecord]:
        """The newest changes, newest first. Raises `RulesUnavailable`."""
        with self._errors(), self._reader.begin() as connection:
            return audit.read(connection, limit)

    # -- transactions ---------------------------------------------------------------------------------------------

    def _change(self, change: Callable[[sa.Connection, Snapshot], Rule]) -> Change:
        with self._writing() as connection:
            rule = change(connection, self._read(connection))
            return Change(rule, self._read(connection).indexed())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """One transaction; no other instance writes meanwhile: all lock the one row of Alembic's table first."""
        with self._errors(), self._engine.begin() as connection:
            lock = "SELECT version_num FROM alembic_version"
            connection.exec_driver_sql(lock if connection.dialect.name == "sqlite" else f"{lock} FOR UPDATE")
            yield connection

    @contextlib.contextmanager
    def transaction(self, reads: bool = False) -> Iterator[sa.Connection]:
        """A transaction of another part of the store, in its thread. `reads`: only that. Raises `RulesUnavailable`."""
        with self._errors(), (self._reader if reads else self._engine).begin() as connection:
            self._whole(connection)
            yield connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        if self._damaged:
            self._engine.dispose()  # a connection knows pages of before, and a file that has gone
        try:
            yield
        except sa.exc.IntegrityError:
            raise InvalidRule(
                [FieldError("", "another program has stored the same rule meanwhile; allowed is one")]
            ) from None
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self._damaged = self._damaged or engine.damaged(error)
            why = engine.reason(error) if isinstance(error, sa.exc.SQLAlchemyError) else error.strerror
            raise RulesUnavailable(f"{self.name}: {why}") from None
        except Locked as error:
            raise RulesUnavailable(f"private keys: {error}") from None

    def _whole(self, connection: sa.Connection) -> None:
        """Raises `RulesUnavailable` where the file was damaged, and is so still: parts of it can be read even then."""
        if self._damaged:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise RulesUnavailable(f"{self.name}: its file is damaged ({' '.join(str(found).split())[:100]})")
            self._damaged = False

    def _make_file(self, path: Path) -> None:
        """Only we may read the rules."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise RulesUnavailable(f"{path}: {error.strerror}") from None

    # -- one rule -------------------------------------------------------------------------------------------------

    def _one(self, snapshot: Snapshot, kind: str, id_: int) -> Rule:
        validate.model_of(kind)
        rule = snapshot.rule(kind, id_)
        if rule is None:
            raise NoSuchRule(f"there is no rule {id_} among the {kind}")
        return rule

    def _create(
        self,
        connection: sa.Connection,
        snapshot: Snapshot,
        kind: str,
        values: Mapping[str, Any],
        who: Who,
        now: float,
        reason: str,
    ) -> Rule:
        given = {"reason": reason, "instance": self._instance}
        ours = {name: given[name] for name in validate.read_only(validate.model_of(kind)) & set(given)}
        rule = validate.complete(validate.validate(kind, values, snapshot, now, ours=ours), snapshot, now)
        rule = self._store(connection, None, rule, who, now)
        if isinstance(rule, Pool):
            self._leave_others(connection, snapshot, rule, who, now)
        return rule

    def _update(
        self, connection: sa.Connection, snapshot: Snapshot, old: Rule, values: Mapping[str, Any], who: Who, now: float
    ) -> Rule:
        checked = validate.validate(NAMES[type(old)], values, snapshot, now, old)
        rule = validate.complete(checked, snapshot, now, old)
        if rule == old:
            return rule
        rule = self._store(connection, old, rule, who, now)
        if isinstance(rule, Pool):
            self._leave_others(connection, snapshot, rule, who, now)
        return rule

    def _merge_one(
        self, connection: sa.Connection, snapshot: Snapshot, kind: str, values: Mapping[str, Any], who: Who, now: float
    ) -> tuple[str, Snapshot]:
        old = validate.counterpart(kind, values, snapshot)
        if old is None:
            reason = str(values.get("reason") or "imported")
            rule = self._create(connection, snapshot, kind, values, who, now, reason)
            return "created", snapshot.having(rule)
        rule = self._update(connection, snapshot, old, values, who, now)
        return ("unchanged", snapshot) if rule == old else ("updated", snapshot.having(rule))

    def _store(self, connection: sa.Connection, old: Rule | None, rule: Rule, who: Who, now: float) -> Rule:
        table = tables.table_of(type(rule))
        row = tables.row_of(rule)
        if isinstance(rule, DkimKey) and rule.key is not None:
            row["key"] = self._vault.encrypt(rule.key.get_secret_value())
        if sealed := {name: self._vault.encrypt(text) for name, text in rule.revealed().items()}:
            row["document"] = tables.with_sealed(row["document"], sealed)
        if old is None:
            result = connection.execute(table.insert().values(row))
            rule = rule.model_copy(update={"id": (result.inserted_primary_key or (0,))[0]})
        else:
            connection.execute(table.update().where(table.c.id == rule.id).values(row))
        if isinstance(rule, DkimKey):
            self._store_patterns(connection, rule)
        audit.write(connection, who, now, "create" if old is None else "update", old, rule)
        return rule

    def _leave_others(self, connection: sa.Connection, snapshot: Snapshot, pool: Pool, who: Who, now: float) -> None:
        """A MTA IP is in one pool: those of this one leave the others."""
        for other, left in pool.taking(snapshot.pools):
            self._store(connection, other, left, who, now)

    def _store_patterns(self, connection: sa.Connection, rule: DkimKey) -> None:
        table = tables.dkim_patterns
        connection.execute(table.delete().where(table.c.dkim_key == rule.id))
        for pattern in rule.patterns:
            connection.execute(table.insert().values(dkim_key=rule.id, type=pattern.type, pattern=pattern.pattern))

    def _delete(self, connection: sa.Connection, rule: Rule, who: Who, now: float, action: audit.Action) -> None:
        if isinstance(rule, DkimKey):
            patterns = tables.dkim_patterns
            connection.execute(patterns.delete().where(patterns.c.dkim_key == rule.id))
        table = tables.table_of(type(rule))
        connection.execute(table.delete().where(table.c.id == rule.id))
        audit.write(connection, who, now, action, rule, None)

    # -- reading --------------------------------------------------------------------------------------------------

    def _read(self, connection: sa.Connection) -> Snapshot:
        """All rows as rules. A row that has not changed stays the same object: its key is decrypted once."""
        rules: dict[str, list[Rule]] = {kind: [] for kind in KINDS}
        known: dict[tuple[str, int], tuple[Row, Rule]] = {}
        faults = []
        for kind, row in self._rows(connection):
            if kind not in KINDS:
                faults.append(f"{kind} {row['id']} is left out: a newer Mailrace has stored it")
                continue
            seen = self._known.get((kind, row["id"]))
            try:
                rule = seen[1] if seen is not None and seen[0] == row else self._rule(kind, row)
            except (InvalidRule, Locked) as error:
                faults.append(f"{kind} {row['id']} is left out: {error}")
                continue
            known[kind, row["id"]] = row, rule
            if self._is_ours(rule):
                rules[kind].append(rule)
        self._known = known
        return Snapshot(rules, faults)

    def _is_ours(self, rule: Rule) -> bool:
        if self._alone or getattr(rule, "cluster", True):
            return True
        return getattr(rule, "instance", None) in (None, self._instance)

    def _rows(self, connection: sa.Connection) -> Iterator[tuple[str, Row]]:
        patterns: dict[int, list[Row]] = {}
        for row in connection.execute(tables.dkim_patterns.select().order_by(tables.dkim_patterns.c.id)):
            patterns.setdefault(row.dkim_key, []).append({"type": row.type, "pattern": row.pattern})
        for model, table in tables.TABLES.items():
            names = [column.key for column in table.columns]
            for values in connection.execute(table.select().order_by(table.c.id)):
                more = {"patterns": patterns.get(values.id, [])} if model is DkimKey else {}
                yield NAMES[model], {**dict(zip(names, values, strict=True)), **more}
        for row in connection.execute(tables.documents.select().order_by(tables.documents.c.id)):
            yield row.kind, {"id": row.id, "document": row.document}

    def _rule(self, kind: str, row: Row) -> Rule:
        values = dict(row)
        if "more" in row:
            values |= tables.parsed(values.pop("more") or "{}")
        if "document" in row:
            values = {"id": row["id"], **tables.parsed(row["document"])}
            sealed = values.pop(tables.SEALED, None)
            values |= {n: self._vault.decrypt(str(t)) for n, t in (sealed if isinstance(sealed, dict) else {}).items()}
        if kind == "dkim-keys":
            values["key"] = SecretStr(self._vault.decrypt(values["key"]))
        return validate.parse(kind, values)
