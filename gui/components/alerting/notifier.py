"""Notifications of the browser: what the verdict becomes, and what alert rules tell to browsers.

Whether they are on is the browser's own affair, kept there; it is asked by a click alone (the Notification API of
WHATWG). Where several pages are open, one of them tells. A page that is opened tells nothing that was before.
"""

from __future__ import annotations

import time

from nicegui.element import Element

from gui.components.live import LiveUpdates
from gui.components.parts import SCRIPTS
from pipeline.views.facade import Facade


class Notifier(Element, component=f"../{SCRIPTS}/notifier.js"):
    """Of one page; shows nothing on it."""

    def __init__(self, facade: Facade, instance: str, live: LiveUpdates) -> None:
        super().__init__()
        self._alerts, self._instance = facade.alerts, instance
        shown = self._alerts.shown
        self._number = shown[-1].number if shown else 0
        self._level = self._alerts.verdict.level
        live.each(self._tick)

    def _tick(self) -> None:
        said = [
            {"title": one.title, "text": one.text, "key": one.key, "id": f"{one.number}"}
            for one in self._alerts.since(self._number)
        ]
        if said:
            self._number = self._alerts.shown[-1].number
        verdict = self._alerts.verdict
        if verdict.level != self._level:
            self._level = verdict.level
            title = f"{self._instance}: {verdict.word}"
            minute = int(time.time()) // 60
            said.append({"title": title, "text": verdict.text, "key": "verdict", "id": f"{verdict.level}{minute}"})
        if said:
            self.run_method("tell", said)


class NotificationSwitch(Element, component=f"../{SCRIPTS}/notification_switch.js"):
    """Turns notifications on and off in this browser; says why they cannot be, where they cannot."""
