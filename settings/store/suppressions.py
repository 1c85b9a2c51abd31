"""The suppressions in the rules database: a table of its own, for they may be a million, and an index in memory.

Owner of: the index. Everything that asks the database runs in the rule store's thread, in its turn; what takes long
does so in parts, so that rules can be changed between them. Bound: 16 bytes an entry, CACHED entries as they are.
Other instances see a change with their next reload (`database-ttl`), as they do with rules.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import functools
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from settings.rules import validate
from settings.rules.snapshot import Snapshot
from settings.rules.suppression import (
    DEFAULT,
    HashIndex,
    Suppression,
    SuppressionFilter,
    SuppressionIndex,
    digest,
)
from settings.rules.validate import InvalidRule, NoSuchRule
from settings.store import audit, tables
from settings.store.audit import Who
from settings.store.database import Database
from settings.store.engine import RulesUnavailable

PART = 5000  # entries in one transaction
FETCHED = 20_000  # rows of the index at once
CACHED = 10_000  # entries that were asked for lately
STALE = 100_000  # changes after which the index is read anew
T = TypeVar("T")
Work = Callable[[Callable[[], T]], Awaitable[T]]
NO_RULES = Snapshot()


class Suppressions:
    """Who gets no mail.

    Args:
        database: the rules database.
        work: does a piece of work in the store's thread, in its turn; raises `RulesUnavailable`.
        clock: epoch seconds.
    """

    def __init__(
        self, database: Database, work: Callable[[Callable[[], Any]], Awaitable[Any]], clock: Callable[[], float]
    ) -> None:
        self._database, self._work, self._clock = database, work, clock
        self.index = SuppressionIndex()
        # Of the table, as the index was read: count, highest id, and the newest record in the audit: of an edit, too.
        self._mark: tuple[int, int, int] = (0, 0, 0)
        self._cache: collections.OrderedDict[int, Suppression] = collections.OrderedDict()
        self.told: Callable[[], None] = lambda: None  # that there was a change, here or elsewhere, for workers
        self.changed_here: Callable[[], None] = lambda: None  # for other processes and instances
        self._second = (0, datetime.datetime.fromtimestamp(0, datetime.UTC))
        self._asked: list[tuple[Sequence[int], Callable[[Sequence[Suppression] | None], None]]] = []
        self._asking: asyncio.Task[None] | None = None

    # -- for each message ---------------------------------------------------------------------------------------------

    def candidates(self, address: str) -> Sequence[int]:
        """The ids of entries that may be for this address; from memory."""
        return self.index.candidates(address)

    def fetch(self, ids: Sequence[int], found: Callable[[Sequence[Suppression] | None], None]) -> None:
        """Those entries as they are; None: the database does not answer. All of one turn are asked for together."""
        cached = [self._cache.get(id_) for id_ in ids]
        if None not in cached:
            found([rule for rule in cached if rule is not None])
            return
        self._asked.append((ids, found))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="suppressions")

    async def _ask(self) -> None:
        while self._asked:
            asked, self._asked = self._asked[:PART], self._asked[PART:]
            wanted = {id_ for ids, _ in asked for id_ in ids}
            try:
                rules = await self._work(functools.partial(self._rows, wanted))
            except RulesUnavailable:
                for _, found in asked:
                    found(None)
                continue
            self._remember(rules)
            for ids, found in asked:
                found([rules[id_] for id_ in ids if id_ in rules])

    def _remember(self, rules: Mapping[int, Suppression]) -> None:
        self._cache.update(rules)
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self) -> SuppressionIndex | Sequence[Suppression] | None:
        """In the store's thread: what is new where others have only added some, else the index, read anew where the
        table is not as it was; what has ended is removed.
        """
        self._sweep()
        with self._database.transaction(reads=True) as connection:
            mark = self._marked(connection)
            if mark == self._mark and self.index.changes < STALE:
                return None
            if (added := self._added(connection, mark)) is not None:
                self._mark = mark
                return added
            found = {type_: HashIndex(self._hashes(connection, type_)) for type_ in ("address", "domain")}
            self._mark = mark
        return SuppressionIndex(found["address"], found["domain"])

    def _added(self, connection: sa.Connection, mark: tuple[int, int, int]) -> list[Suppression] | None:
        """The entries that others have added, where nothing else has changed, and there are few."""
        count, highest, known = self._mark
        if not 0 < mark[0] - count <= PART or self.index.changes >= STALE or not count:
            return None
        if not audit.only_created(connection, KIND, known):
            return None
        chosen = _TABLE.select().where(_TABLE.c.id > highest).limit(PART + 1)
        found = [_rule(row) for row in connection.execute(chosen).mappings()]
        return found if len(found) == mark[0] - count else None

    def use(self, new: SuppressionIndex | Sequence[Suppression] | None) -> None:
        """On the event loop: this index holds now, or with these entries. Any entry may be another one since."""
        self._cache.clear()
        if isinstance(new, SuppressionIndex):
            self.index = new
        elif new is not None:
            for rule in new:
                self.index.changed(rule)
        if new is not None:
            self.told()

    async def reload(self) -> None:
        """Read the index anew, where the table has changed. Raises `RulesUnavailable`."""
        self.use(await self._work(self.read))

    def _sweep(self) -> None:
        """To write where nothing has ended would hold up all that write, of each worker and instance."""
        ended = _TABLE.c.until <= datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)
        with self._database.transaction(reads=True) as connection:
            some = connection.execute(sa.select(_TABLE.c.id).where(ended).limit(1)).first()
        if some is not None:
            with self._database.transaction() as connection:
                connection.execute(_TABLE.delete().where(ended))

    def _marked(self, connection: sa.Connection) -> tuple[int, int, int]:
        count, highest = connection.execute(sa.select(sa.func.count(), sa.func.max(_TABLE.c.id))).one()
        return count, highest or 0, audit.latest(connection, KIND)

    def _hashes(self, connection: sa.Connection, type_: str) -> Iterator[Sequence[tuple[int, int]]]:
        """By the driver's own cursor: a million rows take 0.7 s so, and 3 s as SQLAlchemy's."""
        chosen = sa.select(_TABLE.c.hash, _TABLE.c.id).where(_TABLE.c.type == type_).order_by(_TABLE.c.hash)
        text = str(chosen.compile(connection.engine, compile_kwargs={"literal_binds": True}))
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text)
            while part := cursor.fetchmany(FETCHED):
                yield part
        finally:
            cursor.close()

    def _rows(self, ids: Iterable[int]) -> dict[int, Suppression]:
        with self._database.transaction(reads=True) as connection:
            return self._of(connection, ids)

    def _of(self, connection: sa.Connection, ids: Iterable[int]) -> dict[int, Suppression]:
        wanted = list(ids)
        found: dict[int, Suppression] = {}
        for start in range(0, len(wanted), 500):
            chosen = _TABLE.select().where(_TABLE.c.id.in_(wanted[start : start + 500]))
            found |= {row["id"]: _rule(row) for row in connection.execute(chosen).mappings()}
        return found

    async def page(self, filter: SuppressionFilter, after: int = 0, limit: int = 100) -> list[Suppression]:
        """Entries in the order of their ids, from `after` on; of more than one page. Raises `RulesUnavailable`."""

        def look() -> list[Suppression]:
            chosen = _TABLE.select().where(_TABLE.c.id > after, *_conditions(filter)).order_by(_TABLE.c.id).limit(limit)
            with self._database.transaction(reads=True) as connection:
                return [_rule(row) for row in connection.execute(chosen).mappings()]

        return list(await self._work(look))

    async def newest(self, filter: SuppressionFilter, offset: int, limit: int) -> list[Suppression]:
        """A page, newest first, for people. Raises `RulesUnavailable`."""

        def look() -> list[Suppression]:
            newest = _TABLE.select().where(*_conditions(filter)).order_by(_TABLE.c.id.desc())
            with self._database.transaction(reads=True) as connection:
                return [_rule(row) for row in connection.execute(newest.offset(offset).limit(limit)).mappings()]

        return list(await self._work(look))

    async def count(self, filter: SuppressionFilter) -> int:
        """How many there are. Raises `RulesUnavailable`."""

        def look() -> int:
            with self._database.transaction(reads=True) as connection:
                chosen = sa.select(sa.func.count()).select_from(_TABLE).where(*_conditions(filter))
                return int(connection.execute(chosen).scalar_one())

        return int(await self._work(look))

    async def get(self, id_: int) -> Suppression:
        """One entry. Raises `NoSuchRule`, `RulesUnavailable`."""
        rules: dict[int, Suppression] = await self._work(lambda: self._rows([id_]))
        if id_ not in rules:
            raise NoSuchRule(f"there is no rule {id_} among the suppressions")
        return rules[id_]

    # -- changing -----------------------------------------------------------------------------------------------------

    async def create(self, values: Mapping[str, Any], who: Who, source: str = "api") -> Suppression:
        """Store an entry, in place of one with the same value and tag; it holds when this returns.

        Raises:
            InvalidRule: with a line for each mistake.
            RulesUnavailable: nothing has changed.
            NotAllowed: their role does not let them.
        """
        who.must("operate")
        rule = self.validate(values, source)

        def store() -> tuple[Suppression, _Noted, Suppression | None]:
            with self._database.transaction() as connection:
                (old,) = self._known(connection, [_row(rule)]).values() or (None,)
                return *self._stored(connection, rule, old, who), old

        stored, noted, old = await self._work(store)
        self._changed(old, stored, noted)
        return stored  # type: ignore[no-any-return]

    async def update(self, id_: int, values: Mapping[str, Any], who: Who) -> Suppression:
        """Replace an entry's fields. Raises as `create`, and `NoSuchRule`."""
        who.must("operate")
        old = await self.get(id_)
        rule = self.validate(values, old.source or "api").model_copy(update={"id": id_, "created": old.created})

        def store() -> tuple[Suppression, _Noted]:
            with self._database.transaction() as connection:
                return self._stored(connection, rule, old, who)

        stored, noted = await self._work(store)
        self._changed(old, stored, noted)
        return stored  # type: ignore[no-any-return]

    async def delete(self, id_: int, who: Who) -> Suppression:
        """Remove an entry, and return what it was. Raises `NoSuchRule`, `RulesUnavailable`, `NotAllowed`."""
        who.must("operate")
        old = await self.get(id_)

        def remove() -> _Noted:
            with self._database.transaction() as connection:
                connection.execute(_TABLE.delete().where(_TABLE.c.id == id_))
                return self._noted(connection, who, "delete", old, None)

        self._changed(old, None, await self._work(remove))
        return old

    async def add_many(self, rows: Sequence[Row], progress: Callable[[int, int], None]) -> None:
        """Store many, in parts; `progress` is told how many were new and how many replaced. Raises `RulesUnavailable`.

        The index has them when `reload` is called.
        """
        for start in range(0, len(rows), PART):
            part = rows[start : start + PART]
            new, replaced = await self._work(functools.partial(self._merge, part))
            progress(new, replaced)

    async def remove_many(self, filter: SuppressionFilter) -> int:
        """Remove a part of those that pass; 0: there are no more. Raises `RulesUnavailable`."""

        def remove() -> int:
            with self._database.transaction() as connection:
                chosen = sa.select(_TABLE.c.id).where(*_conditions(filter)).order_by(_TABLE.c.id).limit(PART)
                ids = [row.id for row in connection.execute(chosen)]
                for start in range(0, len(ids), 500):
                    connection.execute(_TABLE.delete().where(_TABLE.c.id.in_(ids[start : start + 500])))
                return len(ids)

        return int(await self._work(remove))

    def validate(self, values: Mapping[str, Any], source: str) -> Suppression:
        """The entry that these values make. Raises `InvalidRule`."""
        now = self._clock()
        ours = {"source": source, "created": datetime.datetime.fromtimestamp(int(now), datetime.UTC)}
        rule = validate.validate(KIND, values, NO_RULES, now, ours=ours)
        assert isinstance(rule, Suppression)
        return rule

    def imported(self, values: Mapping[str, str]) -> Row:
        """The row that a line of a file makes. Raises `InvalidRule`. 3 us where it is an address alone."""
        now, value = int(self._clock()), values.get("value", "")
        if len(values) != 1 or len(value) > PLAIN or _PLAIN(value) is None:
            return _row(self.validate(values, "import"))
        if now != self._second[0]:
            self._second = (now, datetime.datetime.fromtimestamp(now, datetime.UTC))
        value = value.lower()
        return {**_ORDINARY, "hash": digest(value), "value": value, "created": self._second[1]}

    def _changed(self, old: Suppression | None, new: Suppression | None, noted: _Noted) -> None:
        """On the event loop. Where another instance has changed something before this, the index is read anew soon."""
        if old is not None:
            self._cache.pop(old.id, None)
        same = old is not None and new is not None and (old.type, old.value) == (new.type, new.value)
        if old is not None and not same:
            self.index.changed(old, gone=True)
        if new is not None and not same:
            self.index.changed(new)
        self.told()
        self.changed_here()
        count, highest, known = self._mark
        before, own = noted
        count += (new is not None) - (old is not None)
        self._mark = count, max(highest, new.id if new else 0), own if before == known else known

    def _stored(
        self, connection: sa.Connection, rule: Suppression, old: Suppression | None, who: Who
    ) -> tuple[Suppression, _Noted]:
        if old is None:
            result = connection.execute(_TABLE.insert().values(_row(rule)))
            rule = rule.model_copy(update={"id": (result.inserted_primary_key or (0,))[0]})
        else:
            rule = rule.model_copy(update={"id": old.id})
            connection.execute(_TABLE.update().where(_TABLE.c.id == old.id).values(_row(rule)))
        return rule, self._noted(connection, who, "create" if old is None else "update", old, rule)

    def _noted(
        self,
        connection: sa.Connection,
        who: Who,
        action: audit.Action,
        old: Suppression | None,
        new: Suppression | None,
    ) -> _Noted:
        before, id_ = audit.latest(connection, KIND), (new or old).id  # type: ignore[union-attr]
        was, is_ = (rule.shown() if rule is not None else None for rule in (old, new))
        return before, audit.note(connection, who, self._clock(), action, KIND, id_, was, is_)

    def _known(self, connection: sa.Connection, rows: Sequence[Row]) -> dict[_Key, Suppression]:
        """The entries in the table with the same value and tag."""
        hashes = list({row["hash"] for row in rows})
        found: dict[_Key, Suppression] = {}
        for start in range(0, len(hashes), 500):
            chosen = _TABLE.select().where(_TABLE.c.hash.in_(hashes[start : start + 500]))
            found |= {_key(row): _rule(row) for row in connection.execute(chosen).mappings()}
        return {key: found[key] for key in map(_key, rows) if key in found}

    def _merge(self, rows: Sequence[Row]) -> tuple[int, int]:
        with self._database.transaction() as connection:
            latest = {_key(row): row for row in rows}
            known = self._known(connection, rows)
            for key, old in known.items():
                row = latest[key]
                if row != _row(old) | {"created": row["created"], "source": row["source"]}:
                    connection.execute(_TABLE.update().where(_TABLE.c.id == old.id).values(row))
            new = [row for key, row in latest.items() if key not in known]
            if new:
                _insert(connection, new)
            return len(new), len(rows) - len(new)


KIND = "suppressions"
_TABLE = tables.suppressions
PLAIN = 254
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@({_LABEL}\.)+[A-Za-z]{{2,63}}").fullmatch
Row = Mapping[str, Any]  # column values
_ORDINARY: Row = {
    "hash": 0,
    "type": "address",
    "value": "",
    "tag": "",
    "code": 550,
    "extended": "",
    "description": DEFAULT,
    "until": None,
    "source": "import",
    "created": None,
}
_Key = tuple[str, str, str]
_Noted = tuple[int, int]  # ids in the audit: the newest one before a change, and that of the change


def _key(row: Any) -> _Key:
    return row["type"], row["value"], row["tag"] or ""


def _insert(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Many rows by the driver's own statement: SQLAlchemy's work on each would be most of an import's time."""
    compiled = _TABLE.insert().compile(dialect=connection.dialect, column_keys=list(_ORDINARY))
    stored = _TABLE.c.created.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    times = functools.cache(stored or (lambda time: time))
    rows = [{**row, "created": times(row["created"]), "until": times(row["until"])} for row in rows]
    names = compiled.positiontup
    given: Any = [tuple([row[name] for name in names]) for row in rows] if names else rows
    connection.exec_driver_sql(str(compiled), given)


def _row(rule: Suppression) -> dict[str, Any]:
    texts = {name: getattr(rule, name) or "" for name in ("tag", "extended", "source")}
    return {**{name: getattr(rule, name) for name in _ORDINARY if name != "hash"}, **texts, "hash": digest(rule.value)}


def _rule(row: Any) -> Suppression:
    """As it is stored, unchecked: a foreign hand's nonsense must not stop mail, and a page of 5,000 is read at once."""
    values = {name: row[name] for name in Suppression.model_fields}
    texts = {name: row[name] or None for name in ("tag", "extended", "source")}
    return Suppression.model_construct(**{**values, **texts})


def _conditions(filter: SuppressionFilter) -> list[Any]:
    columns, found = _TABLE.c, []
    if filter.containing:
        found.append(columns.value.contains(filter.containing.casefold(), autoescape=True))
    found += [columns[name] == value for name in ("type", "tag", "source") if (value := getattr(filter, name))]
    if filter.before is not None:
        found.append(columns.created < filter.before)
    return found


__all__ = ["InvalidRule", "Suppressions"]
