"""The pause bar: in every view, what holds all mail or all of an MTA IP, and the way to resume it."""

from __future__ import annotations

import time

from gui.components.live import LiveUpdates
from gui.components.live_table import shown
from gui.components.parts import SCRIPTS, Shown
from pipeline.views.facade import Facade
from pipeline.views.state.pauses import is_large, named, why
from pipeline.views.state.standing import many
from settings.rules import Pause

MOST = 3  # pauses that are named


class PauseBar(Shown, component=f"../{SCRIPTS}/pause_bar.js"):
    """Nothing while nothing as large is paused."""

    def __init__(self, facade: Facade, live: LiveUpdates) -> None:
        super().__init__()
        self._facade = facade
        self._props["rows"] = []
        self.refresh()
        live.each(self.refresh)

    def refresh(self) -> None:
        """Show what is in force now."""
        now = time.time()
        large = [pause for pause in self._facade.store.snapshot.pauses if is_large(pause) and not pause.ended(now)]
        more = f"; and {len(large) - MOST} more MTA IPs" if len(large) > MOST else ""
        rows = [self._row(pause, now) for pause in large[:MOST]]
        if rows:
            rows[-1]["text"] += more
        self.show("rows", rows)

    def _row(self, pause: Pause, now: float) -> dict[str, str]:
        text = shown(f"{why(pause, now)}; {many(self._facade.rules.held(pause))} held")
        return {"id": str(pause.id), "what": named(pause), "text": text}
