"""The rule store: owns the rules database and publishes an immutable snapshot of all rules at every change.

All database work is done in one thread of its own, one piece after another; the event loop never waits for it. A
change is in force before the call that made it returns. Changes of others come in every `ttl` seconds, or with
`reload`. What has ended is removed when its time has come.

When the database fails, or does not answer within PATIENCE seconds, the last rules stay in force, `report` says so
once, and it is tried again after 1, 2, 4 ... seconds (at most BACKOFF, and at most `ttl`); a change fails meanwhile.
Bounds: the rules that the database has, twice while a new snapshot is built.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import BehaviorSubject

from settings.rules import InvalidRule, NoSuchRule, validate
from settings.rules.models import Rule
from settings.rules.snapshot import Snapshot
from settings.rules.transfer import Imported, entries_of, exported, imported
from settings.store.audit import Action, AuditRecord, Who
from settings.store.database import Change, Database
from settings.store.engine import RulesUnavailable
from settings.store.suppressions import Suppressions

BACKOFF = 60.0  # seconds
PATIENCE = 30.0  # seconds
EACH = 0.1  # seconds more for each rule of an import
GOODBYE = 2.0  # seconds
REFUSED = (InvalidRule, NoSuchRule, RulesUnavailable)  # what a change is refused with
Report = Callable[[str, str], None]
T = TypeVar("T")


class RuleStore:
    """The rules of this instance.

    Args:
        address: `database-address`; empty is SQLite in `data_dir`.
        data_dir: where the SQLite file and the key file are.
        ttl: seconds between reloads.
        clock: epoch seconds.
        report: told what an operator should know, as (kind, one line): `rules-unavailable`, `rules-recovered`,
            `rules-left-out`, `rules-observer`.
        instance: this instance's id, for pauses of one instance.
        scheduler: for the reloads; the running loop's where none is given.

    Attributes:
        available: the database answered the last time it was asked.
        told: called when rules were changed here.
    """

    def __init__(
        self,
        address: str,
        data_dir: Path,
        ttl: float = 600.0,
        clock: Callable[[], float] = time.time,
        report: Report = lambda kind, text: None,
        instance: str = "",
        scheduler: abc.SchedulerBase | None = None,
    ) -> None:
        self.available = False
        self.told: Callable[[], None] = lambda: None
        self._database = Database(address, data_dir, instance)
        self._ttl = ttl
        self._clock = clock
        self._report = report
        self._scheduler = scheduler
        self._subject = BehaviorSubject(Snapshot())
        self._thread = ThreadPoolExecutor(1, "rules")
        self._turn = asyncio.Lock()
        self._failures = 0
        self.suppressions = Suppressions(self._database, self._in_turn, clock)
        self._timer: abc.DisposableBase | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database, migrate it, read the rules.

        Raises:
            Unavailable: one clear line.
        """
        self._scheduler = self._scheduler or AsyncIOScheduler(asyncio.get_running_loop())
        try:
            await self._work(self._database.open, lambda snapshot: snapshot)
            await self.suppressions.reload()
        except BaseException:
            await self.close()
            raise
        await self._refresh()

    async def close(self) -> None:
        """Stop reloading, end the stream of snapshots, close the database."""
        if self._timer is not None:
            self._timer.dispose()
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(self._thread, self._database.close), GOODBYE
            )
        self._database.interrupt()
        self._thread.shutdown(wait=False)
        self._subject.on_completed()

    # -- reading --------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        """The rules in force."""
        return self._subject.value

    @property
    def snapshots(self) -> Observable[Snapshot]:
        """The rules in force, and then those after each change, on the event loop."""
        return self._subject.pipe(ops.as_observable())

    def get(self, kind: str, id_: int) -> Rule:
        """One rule in force. Raises `NoSuchRule`."""
        validate.model_of(kind)
        rule = self.snapshot.rule(kind, id_)
        if rule is None:
            raise validate.NoSuchRule(f"there is no rule {id_} among the {kind}")
        return rule

    def list(self, kind: str) -> tuple[Rule, ...]:
        """All rules of a kind in force. Raises `NoSuchRule`."""
        validate.model_of(kind)
        return self.snapshot.rules(kind)

    def validate(self, kind: str, values: Mapping[str, Any], id_: int | None = None) -> Rule:
        """Check a rule that is being entered, as `create` (or, with an id, `update`) will.

        Raises:
            Invalid: with a line for each mistake.
            NoSuchRule: no such kind, or no rule of that id.
        """
        old = self.get(kind, id_) if id_ is not None else None
        return validate.validate(kind, values, self.snapshot, self._clock(), old)

    async def audit(self, limit: int = 1000) -> Sequence[AuditRecord]:
        """The newest changes, newest first. Raises `RulesUnavailable`."""
        async with self._turn:
            return await self._threaded(lambda: self._database.records(limit))

    async def record(self, who: Who, action: Action, kind: str, number: int, facts: Mapping[str, Any]) -> None:
        """Put what is no change of a rule into the audit; facts are JSON values. Raises `RulesUnavailable`."""
        now = self._clock()
        async with self._turn:
            await self._threaded(lambda: self._database.note(who, now, action, kind, number, facts))

    def export(self) -> dict[str, Any]:
        """All rules in force as one JSON document, without private keys."""
        return exported(self.snapshot)

    # -- changing -------------------------------------------------------------------------------------------------

    async def create(self, kind: str, values: Mapping[str, Any], who: Who, reason: str = "manual") -> Rule:
        """Store a new rule; it is in force when this returns.

        Args:
            kind: one of `KINDS`.
            values: JSON values; read-only ones are ignored.
            who: for the audit.
            reason: for a pause: why.

        Raises:
            Invalid: with a line for each mistake.
            NoSuchRule: no such kind.
            Unavailable: the database does not answer; nothing has changed.
        """
        who.must("operate")
        now = self._clock()
        return await self._change(lambda: self._database.create(kind, values, who, now, reason))

    async def update(
        self, kind: str, id_: int, values: Mapping[str, Any], who: Who, before: Callable[[], None] | None = None
    ) -> Rule:
        """Replace a rule's fields; what is not given gets its default, but a private key stays. Raises as `create`.

        Args:
            before: called when no other change can come between; what it raises is raised, and nothing has changed.
        """
        who.must("operate")
        now = self._clock()
        return await self._change(lambda: self._database.update(kind, id_, values, who, now), before)

    async def delete(self, kind: str, id_: int, who: Who, before: Callable[[], None] | None = None) -> Rule:
        """Remove a rule, and return what it was. Raises `NoSuchRule`, `RulesUnavailable`, and what `before` raises."""
        who.must("operate")
        now = self._clock()
        return await self._change(lambda: self._database.delete(kind, id_, who, now), before)

    async def reorder(self, ids: Sequence[int], who: Who, kind: str = "floods") -> None:
        """Put a kind's rules in this order; those not named come after. Raises `NoSuchRule`, `RulesUnavailable`."""
        who.must("operate")
        now = self._clock()
        await self._work(lambda: self._database.reorder(ids, who, now, kind), lambda snapshot: snapshot)

    async def import_rules(self, document: Mapping[str, Any], who: Who) -> Imported:
        """Create or change the rules of an exported document; what cannot be used is left out, with a line each.

        Raises:
            Invalid: it is no such document.
            Unavailable: the database does not answer; nothing has changed.
        """
        who.must("operate")
        now = self._clock()
        entries, errors = entries_of(document)
        more = len(entries) * EACH
        done, _ = await self._work(lambda: self._database.merge(entries, who, now), lambda result: result[1], more)
        return imported(entries, done, errors)

    async def reload(self) -> None:
        """Read the rules that others have changed; a failure is reported, and the last rules stay."""
        with contextlib.suppress(RulesUnavailable):
            await self.suppressions.reload()
            await self._work(self._database.read, lambda snapshot: snapshot)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        """Database work of another part of the store. Shielded, as `_work`."""

        async def taken() -> T:
            async with self._turn:
                return await self._threaded(work)

        return await asyncio.shield(taken())

    # -- the machinery --------------------------------------------------------------------------------------------

    async def _work(
        self,
        work: Callable[[], T],
        after: Callable[[T], Snapshot],
        more: float = 0.0,
        before: Callable[[], None] | None = None,
    ) -> T:
        """Do a piece of database work, and put the rules after it in force.

        Shielded: once begun it is finished and published, even if its caller is gone.
        """
        return await asyncio.shield(self._turn_taken(work, after, more, before))

    async def _change(self, work: Callable[[], Change], before: Callable[[], None] | None = None) -> Rule:
        return (await self._work(work, lambda change: change.snapshot, before=before)).rule

    async def _turn_taken(
        self, work: Callable[[], T], after: Callable[[T], Snapshot], more: float, before: Callable[[], None] | None
    ) -> T:
        async with self._turn:
            if before is not None:
                before()
            result = await self._threaded(work, more)
            self._publish(after(result))
            if work != self._database.read:
                self.told()
            return result

    async def _threaded(self, work: Callable[[], T], more: float = 0.0) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, work)
            result = await asyncio.wait_for(running, PATIENCE + more)
        except (
            TimeoutError
        ):  # psycopg has no time-out for reading: the thread is stuck until the peer answers or is gone
            error = RulesUnavailable(f"{self._database.name}: does not answer for {PATIENCE + more:g} s")
            self._database.interrupt()
            self._failed(str(error))
            raise error from None
        except RulesUnavailable as error:
            self._failed(str(error))
            raise
        self._answered()
        return result

    def _publish(self, snapshot: Snapshot) -> None:
        old = self.snapshot
        if snapshot.same(old):
            return
        for fault in snapshot.faults:
            if fault not in old.faults:
                self._report("rules-left-out", fault)
        try:
            self._subject.on_next(snapshot)
        except Exception as error:  # an observer's own: the rules are in force all the same
            self._report("rules-observer", f"an observer of the rules failed: {type(error).__name__}: {error}")
        self._plan()

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self.available:
            self.available = False
            self._report("rules-unavailable", f"the last rules stay in force, and none can be changed: {why}")
        self._plan()

    def _answered(self) -> None:
        if not self.available and self._failures:
            self._report("rules-recovered", f"the rules database answers again: {self._database.name}")
        self.available, self._failures = True, 0

    def _plan(self) -> None:
        """The next refresh: after the ttl, when the first rule ends, or, after a failure, a little later each time."""
        delay = self._ttl
        if self._failures:
            delay = min(2.0 ** min(self._failures - 1, 10), BACKOFF, delay)
        elif (end := self.snapshot.next_end()) is not None:
            delay = max(0.0, min(end - self._clock(), delay))
        if self._timer is not None:
            self._timer.dispose()
        if self._scheduler is not None:
            self._timer = self._scheduler.schedule_relative(delay, lambda *_: self._begin_refresh())

    def _begin_refresh(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="rules")

    async def _refresh(self) -> None:
        """Read what others have changed, and remove what has ended."""
        await self.reload()
        while not self._failures and (end := self.snapshot.next_end()) is not None and end <= self._clock():
            with contextlib.suppress(RulesUnavailable):
                await self._work(lambda: self._database.sweep(self._clock()), lambda snapshot: snapshot)
        self._plan()
