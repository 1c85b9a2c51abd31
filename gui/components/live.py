"""Live: what keeps a page up to date while somebody looks at it.

Owner of: one timer a page, and the subscriptions that the page added. Both end with the element, which goes when its
page goes. While the browser is away nothing is worked out and nothing is sent, since NiceGUI would queue it without
bound; the next tick after it is back brings everything up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from weakref import WeakSet

import structlog
from nicegui import ui
from nicegui.element import Element
from reactivex.abc import DisposableBase
from reactivex.disposable import CompositeDisposable

log = structlog.get_logger("console")


class LiveUpdates(Element):
    """Calls what it is given once a second, while the page is looked at.

    Args:
        valid: whether the session lasts; where it has ended, the page goes to the login.
        period: seconds.
    """

    open: ClassVar[WeakSet[LiveUpdates]] = WeakSet()  # of all pages, for whoever counts

    def __init__(self, valid: Callable[[], bool], period: float = 1.0) -> None:
        super().__init__("span")
        self.style("display: none")
        self._valid = valid
        self._actions: list[Callable[[], None]] = []
        self._kept = CompositeDisposable()
        LiveUpdates.open.add(self)
        with self:
            self._timer = ui.timer(period, self._tick, immediate=False)

    def each(self, action: Callable[[], None]) -> None:
        """Call this at every tick; it should update elements, and only where something changed."""
        self._actions.append(action)

    def keep(self, subscription: DisposableBase) -> None:
        """Dispose of this when the page goes."""
        self._kept.add(subscription)

    def _tick(self) -> None:
        if not self.client.has_socket_connection:
            return
        if not self._valid():
            self.client.run_javascript("location.reload()")  # the gate sends it to the login, which leads back here
            return
        for action in self._actions:
            try:
                action()
            except Exception:
                log.exception("a page could not be updated", page=self.client.page.path)

    def _handle_delete(self) -> None:
        self._timer.cancel()
        self._kept.dispose()
        self._actions.clear()
        LiveUpdates.open.discard(self)
        super()._handle_delete()
