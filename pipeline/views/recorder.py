"""Recorder: what operators do besides changing rules, into the audit: ended floods, retries, actions on messages.

Owner of: the records on their way into the rules database. It never holds up what was done: where the database does
not answer, the record is dropped, and the program's log says so; the event stream has had its notice anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog

from pipeline.process.supervisor import spawn
from pipeline.views.bulk import BulkJob
from settings.store import RuleStore, RulesUnavailable, Who
from settings.store.audit import Action

log = structlog.get_logger("audit", grave=False)
Facts = Mapping[str, Any]


class Recorder:
    """Writes into the audit, soon."""

    def __init__(self, rules: RuleStore) -> None:
        self._rules = rules
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(self, who: Who, action: Action, kind: str, number: int, facts: Facts) -> None:
        """Record that somebody did this."""

        async def write() -> None:
            await self._write(who, action, kind, number, facts)

        self._begin(write)

    def at_end(
        self, who: Who, kind: str, job: BulkJob, facts: Facts, finished: Callable[[BulkJob], Awaitable[BulkJob]]
    ) -> None:
        """Record a bulk action when it is over, with how many messages it changed."""

        async def write() -> None:
            await finished(job)
            after = {**facts, "messages": job.changed} | ({"error": job.error} if job.error else {})
            await self._write(who, job.action, kind, job.id, after)

        self._begin(write)

    def _begin(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = spawn(write(), "audit", grave=False)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, who: Who, action: Action, kind: str, number: int, facts: Facts) -> None:
        try:
            await self._rules.record(who, action, kind, number, facts)
        except RulesUnavailable as error:
            log.warning("not in the audit", who=who.name, action=action, kind=kind, why=str(error))
