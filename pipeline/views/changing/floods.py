"""The floods in force, as they are shown, kept and ended, and the trial of a pattern. Owns nothing."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, cast, get_args

from pipeline.views.changing.notices import done_by
from pipeline.views.explain import Explainer, FloodInForce, flood_in_force
from pipeline.views.recorder import Recorder
from settings.rules import Pause, Rule
from settings.rules.patterns import Type, compile_pattern
from settings.rules.snapshot import answer_text
from settings.store import Who

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine


class FloodsView:
    """Over a running machine."""

    def __init__(self, machine: Machine, explainer: Explainer, recorder: Recorder) -> None:
        self._machine, self._explainer, self._recorder = machine, explainer, recorder

    def all(self) -> list[FloodInForce]:
        """The floods in force, one a lane, and those on the mail of single tags."""
        floods = self._machine.floods
        return [flood_in_force(active) for active in (*floods.all(), *floods.tagged())]

    def _of(self, lane: str) -> FloodInForce | None:
        """The flood on a lane; else the first on a tag's mail in it."""
        tagged = (flood for flood in self.all() if flood.lane == lane)
        return self._explainer.flood(lane) or next(tagged, None)

    def pauses(self) -> list[dict[str, Any]]:
        """The lanes that a flood pattern pauses, as pauses: they are no stored rules, so their id is 0."""
        return [self._as_pause(flood) for flood in self.all() if flood.state == "paused"]

    def _as_pause(self, flood: FloodInForce) -> dict[str, Any]:
        ip, _, group = flood.lane.partition("/")
        until = datetime.datetime.fromtimestamp(flood.paused_until, datetime.UTC).replace(microsecond=0)
        pause = Pause.model_construct(
            id=0,
            ip=ip,
            domain=group,
            tag=flood.tag,
            until=until,
            reason=f"flood pattern {flood.pattern}",
            instance=self._machine.settings.server_id,
        )
        held = 0 if flood.tag else self._machine.queue.parked().get(flood.lane, 0)  # a tag's mail waits in memory
        return {**pause.shown(), "held": held}

    def try_pattern(self, type: str, pattern: str, text: str) -> tuple[bool, list[str]]:
        """Whether a flood pattern matches a text, and which of the last real answers, newest first.

        Raises:
            ValueError: `pattern: why` or `type: why`.
        """
        if type not in get_args(Type):
            raise ValueError(f"type: is none of these: {', '.join(get_args(Type))}")
        try:
            matches = compile_pattern(cast(Type, type), pattern)
        except ValueError as error:
            raise ValueError(f"pattern: {error}") from None
        outcomes = (answer.outcome for answer in self._machine.telemetry.answers if answer.outcome.code is not None)
        texts = (answer_text(outcome.code, outcome.status, outcome.description) for outcome in outcomes)
        return bool(text) and matches(text), [real for real in dict.fromkeys(texts) if matches(real)]

    async def keep(self, lane: str, who: Who) -> Rule | None:
        """Make a pause by hand of the flood on a lane: it lasts until somebody ends it. None where there is none."""
        flood = self._of(lane)
        if flood is None:
            return None
        ip, _, group = lane.partition("/")
        reason = f"kept: flood pattern {flood.pattern}, {flood.answer}"[:500]
        return await self._machine.rules.create("pauses", {"ip": ip, "domain": group, "tag": flood.tag}, who, reason)

    def end(self, lane: str, who: Who) -> bool:
        """End the flood in force on a lane early; False where there is none. Raises `NotAllowed`."""
        who.must("operate")
        flood = self._of(lane)
        if flood is None or not self._machine.floods.end(lane):
            return False
        facts = {"lane": lane, "pattern": flood.pattern, "answer": flood.answer, "state": flood.state}
        self._recorder.soon(who, "end", "floods", flood.id, facts)
        self._machine.report(done_by(who, "flood-ended", f"{who.name} has ended the flood on {lane}", lane))
        self._machine.lanes.go_on(lane)  # so that it goes on now, not when its pause would have ended
        return True
