"""The Running button: pauses what the Overview shows (everything, an MTA IP, a domain, a tag), and resumes it.

Owner of nothing: a pause is a rule like those of Paused deliveries, where it is seen and can be changed. Pausing is
asked once, with its reason and its end; both ways can be taken back.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gui.access.gate import session
from gui.components.dialog_box import DialogBox, Entry, Errors, Values
from gui.components.notes import Notes
from gui.components.parts import SCRIPTS, Shown
from gui.components.view import View
from pipeline.views.state.pauses import MANUAL, chosen
from settings.rules import Pause
from settings.store import REFUSED

FOR = (
    ("10", "10 minutes"), ("60", "1 hour"), ("360", "6 hours"), ("1440", "1 day"), ("", "until somebody resumes it"),
)  # fmt: skip
ENTRIES = (Entry("minutes", "For", options=FOR), Entry("reason", "Reason", "It stands wherever this pause is shown."))


class Running(Shown, component=f"../{SCRIPTS}/running.js"):
    """A button that says whether what is selected runs.

    Args:
        selected: ip, domain and tag, those that are selected; empty is everything.
        box, notes: of its page.
    """

    def __init__(self, view: View, selected: dict[str, Any], box: DialogBox, notes: Notes) -> None:
        super().__init__()
        self._view, self._selected = view, selected
        self._what = " and ".join(map(str, selected.values())) or "all mail"
        self._props["what"] = self._what
        self._props["state"] = {}
        self._box, self._notes = box, notes
        self.on("press", self._press)
        self.refresh()
        view.live.each(self.refresh)

    def refresh(self) -> None:
        """Show what is in force now."""
        same, wider, part = self._pauses("same"), self._pauses("wider"), self._pauses("part")
        held = sum(map(self._view.facade.rules.held, (*same, *wider)))
        state = "paused" if same else "covered" if wider else "running"
        self.show("state", {"state": state, "held": held, "narrower": len(part)})

    def _pauses(self, how: str) -> list[Pause]:
        return chosen(self._view.facade.store.snapshot.pauses, self._selected, how)

    async def _press(self) -> None:
        if session(self._view.request.headers, self._view.access) is None:
            return
        if pauses := self._pauses("same"):
            await self._resume(pauses)
        elif not self._pauses("wider"):
            await self._ask()
        self._props["state"] = {}
        self.refresh()

    async def _ask(self) -> None:
        facade = self._view.facade
        coming = facade.figures()["processed"]
        lines = [
            f"No mail of {self._what} leaves until the pause ends." if self._selected else "No mail at all leaves.",
            "Mail is still taken in, so the queue fills: "
            + (f"{coming:,} messages were taken up in the last minute." if coming else "it grows by all that comes."),
        ]
        made: list[Pause] = []

        async def save(values: Values) -> Errors:
            rule = {**self._selected, "until": until(values["minutes"])}
            try:
                stored = await facade.rules.pause(rule, self._view.who, values["reason"].strip() or MANUAL)
            except REFUSED as error:
                return {"": str(error)}
            assert isinstance(stored, Pause)
            made.append(stored)
            return {}

        title = f"Pause {self._what}?"
        if await self._box.fill(title, ENTRIES, {"minutes": "60"}, "Pause", save, lines=lines) is not None:
            self._notes.say(f"Paused: {self._what}.", self._undoing(lambda: self._delete(made)))

    async def _resume(self, pauses: Sequence[Pause]) -> None:
        try:
            await self._delete(pauses)
        except REFUSED as error:
            self._notes.say(str(error), level="bad")
            return
        self._notes.say(f"Resumed: {self._what}.", self._undoing(lambda: self._create(pauses)))

    async def _delete(self, pauses: Sequence[Pause]) -> None:
        for pause in pauses:
            await self._view.facade.rules.resume(pause.id, self._view.who)

    async def _create(self, pauses: Sequence[Pause]) -> None:
        for pause in pauses:
            await self._view.facade.rules.pause(pause.shown(), self._view.who, pause.reason or MANUAL)

    def _undoing(self, back: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def undo() -> None:
            try:
                await back()
            except REFUSED as error:
                self._notes.say(f"This cannot be undone: {error}", level="bad")
                return
            self._notes.say("Undone.")
            self.refresh()

        return undo


def until(minutes: str) -> str | None:
    """The time in so many minutes, as a rule has it; None: no end."""
    if not minutes.isdecimal():
        return None
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=int(minutes[:6]))
    return end.replace(microsecond=0).isoformat()
