"""Stopping: a forced error ends what waits already, too: its messages are called in, and end with its answer.

What is in a lane's memory or its parked queue goes through the chain again by itself. What waits for a time, or for a
pause, would not. Where it is known before the route which rule decides, it ends in the queue (`Withdrawing`). Else a
bulk action calls it in, for each forced error that is new, with its progress. Owner of nothing but which rules it has
seen. A broker lends messages and cannot list them: there they end when their time has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pipeline.machine.withdrawing import withdraws
from pipeline.queues.listing import Action
from pipeline.views.bulk import Bulk, BulkJob, Busy, Selection
from settings.rules import ForcedError, Snapshot

ACTIONS: tuple[tuple[Action, Literal["waiting", "parked"]], ...] = (("retry", "waiting"), ("release", "parked"))


def whole_tag(rule: Any) -> bool:
    """Whether a forced error ends all mail of its tag for good."""
    return isinstance(rule, ForcedError) and withdraws(rule) and not rule.domain


class Stopping:
    """Calls in what new forced errors are for.

    Args:
        bulk: gives the bulk actions, when they are needed.
        wanted: whether anything waits that could be called in.
        domains: those that a domain, a destination group or a provider stands for.
        tell: told why nothing was called in.
        withdrawn: whether the messages of a tag's or a domain's forced error end in the queue.
    """

    def __init__(
        self,
        bulk: Callable[[], Bulk],
        wanted: Callable[[], bool],
        domains: Callable[[str], Sequence[str]],
        tell: Callable[[str], None],
        withdrawn: Callable[[], bool] = lambda: False,
    ) -> None:
        self._withdrawn = withdrawn
        self._bulk, self._wanted, self._domains, self._tell = bulk, wanted, domains, tell
        self._seen: set[tuple[int, str]] | None = None

    def changed(self, snapshot: Snapshot) -> None:
        """The rules have changed."""
        now = {(rule.id, rule.model_dump_json()): rule for rule in snapshot.rules("errors")}
        before, self._seen = self._seen, set(now)
        for key, rule in now.items():
            if before is None or key in before or not isinstance(rule, ForcedError) or not self._wanted():
                continue
            if not (self._withdrawn() and whole_tag(rule) and all(map(whole_tag, now.values()))):
                self.call_in(rule)

    def call_in(self, rule: ForcedError) -> list[BulkJob]:
        """Begin the bulk actions for one rule."""
        try:
            return [self._bulk().begin(action, selection) for action, selection in self.selections(rule)]
        except Busy as error:
            self._tell(f"what waits is ended when its time comes, since {error}")
            return []

    def selections(self, rule: ForcedError) -> Iterator[tuple[Action, Selection]]:
        """The messages that a forced error may be for, and what calls them in."""
        domains = tuple(self._domains(rule.domain)) if rule.domain else ()
        for action, state in ACTIONS:
            yield action, Selection(state=state, domain=domains, tag=rule.tag or "", ip=rule.ip or "")
