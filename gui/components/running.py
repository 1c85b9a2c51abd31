"""The Running button: pauses what the Overview shows (everything, an MTA IP, a domain, a tag), and resumes it.

Owner of nothing: a pause is a rule like those of Paused deliveries, where it is seen and can be given an end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gui.access.gate import session
from gui.components.notes import Notes
from gui.components.parts import SCRIPTS, Shown
from gui.components.view import View
from settings.rules import InvalidRule, NoSuchRule, Pause
from settings.store import RulesUnavailable


class Running(Shown, component=f"{SCRIPTS}/running.js"):
    """A button that says whether what is selected runs.

    Args:
        dimension, key: what is selected: ip, domain or tag and which one; None is everything.
    """

    def __init__(self, view: View, dimension: str | None, key: str | None) -> None:
        super().__init__()
        self._view, self._selected = view, {dimension: key} if dimension and key else {}
        self._props["what"] = key or "all mail"
        self._props["state"] = {}
        with self:
            self._notes = Notes()
        self.on("press", self._press)
        self.refresh()
        view.live.each(self.refresh)

    def refresh(self) -> None:
        """Show what is in force now."""
        same, wider, part = self._pauses("same"), self._pauses("wider"), self._pauses("part")
        held = sum(map(self._view.facade.held, (*same, *wider)))
        state = "paused" if same else "covered" if wider else "running"
        self.show("state", {"state": state, "held": held, "narrower": len(part)})

    def _pauses(self, how: str) -> list[Pause]:
        """The pauses in force that are for what is selected in this way."""
        now, pauses = time.time(), self._view.facade.store.snapshot.pauses
        return [pause for pause in pauses if not pause.ended(now) and describes(pause, self._selected) == how]

    async def _press(self) -> None:
        view = self._view
        if session(view.request.headers, view.access) is None:
            return
        try:
            if pauses := self._pauses("same"):
                for pause in pauses:
                    await view.facade.resume(pause.id, view.who)
            elif not self._pauses("wider"):
                await view.facade.pause(self._selected, view.who)
        except (InvalidRule, NoSuchRule, RulesUnavailable) as error:
            self._notes.say(str(error), level="bad")
        self.refresh()


def describes(pause: Pause, selected: Mapping[str, Any]) -> str:
    """Whether a pause is for the `same` mail as is selected, for `wider` (all), `part` of it at most, or `none`."""
    given = {"ip": pause.ip, "domain": pause.domain, "remote_ip": pause.remote_ip, "tag": pause.tag}
    scope = {name: value for name, value in given.items() if value is not None}
    if scope == selected:
        return "same"
    if not scope:
        return "wider"
    common = scope.keys() & selected.keys()
    return "part" if all(scope[name] == selected[name] for name in common) else "none"
