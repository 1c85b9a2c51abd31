"""The Running button: pauses what the Overview shows (everything, an MTA IP, a domain, a tag), and resumes it.

Owner of nothing: a pause is a rule like those of Paused deliveries, where it is seen and can be given an end.
"""

from __future__ import annotations

import time
from typing import Any

from gui.components.notes import Notes
from gui.components.parts import SCRIPTS, Shown
from gui.gate import session
from gui.view import View
from settings.rules import Invalid, NoSuchRule, Pause, Unavailable


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
        pauses, wider, narrower = self._pauses(), self._wider(), self._narrower()
        parked = self._view.facade.machine.queue.parked()
        counted = pauses + wider if pauses or wider else []
        held = sum(parked.get(f"pause/{pause.id}", 0) for pause in counted)
        state = "paused" if pauses else "covered" if wider else "running"
        by = ", ".join(_named(pause) for pause in wider[:2])
        self.show("state", {"state": state, "held": held, "by": by, "narrower": len(narrower)})

    def _in_force(self) -> list[Pause]:
        now = time.time()
        return [pause for pause in self._view.facade.machine.rules.snapshot.pauses if not pause.ended(now)]

    def _pauses(self) -> list[Pause]:
        """The pauses of exactly this selection."""
        return [pause for pause in self._in_force() if _scope(pause) == self._selected]

    def _wider(self) -> list[Pause]:
        """Those that hold it as a part of more: of the machine, as long as there is no more between."""
        return [pause for pause in self._in_force() if self._selected and not _scope(pause)]

    def _narrower(self) -> list[Pause]:
        """Those that may hold a part of it."""
        return [pause for pause in self._in_force() if self._touches(_scope(pause))]

    def _touches(self, scope: dict[str, Any]) -> bool:
        """Whether a pause is for other mail than what is selected, and yet may be for some of it."""
        common = scope.keys() & self._selected.keys()
        return bool(scope) and scope != self._selected and all(scope[name] == self._selected[name] for name in common)

    async def _press(self) -> None:
        view, rules = self._view, self._view.facade.machine.rules
        if not view.access.valid(session(view.request.headers)):
            return
        try:
            if pauses := self._pauses():
                for pause in pauses:
                    await view.facade.resume(pause.id, view.who)
            elif not self._wider():
                await rules.create("pauses", self._selected, view.who)
        except (Invalid, NoSuchRule, Unavailable) as error:
            self._notes.say(str(error), level="bad")
        self.refresh()


def _scope(pause: Pause) -> dict[str, Any]:
    given = {"ip": pause.ip, "domain": pause.domain, "remote_ip": pause.remote_ip, "tag": pause.tag}
    return {name: value for name, value in given.items() if value is not None}


def _named(pause: Pause) -> str:
    return " and ".join(str(value) for value in _scope(pause).values()) or "all mail"
