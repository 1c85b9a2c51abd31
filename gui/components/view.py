"""What a view is, and what it is given when somebody opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from nicegui.element import Element
from starlette.requests import Request

from gui.access.access import Access
from gui.access.tokens import Tokens
from gui.access.users import CONSOLE
from gui.components.live import LiveUpdates
from pipeline.views.facade import Facade
from settings.store import Role, Who


class View(msgspec.Struct, frozen=True):
    """One opened view.

    Attributes:
        facade: what is read of the running machine and changed in it.
        access: who may see this.
        tokens: of the API.
        request: the page's request; its query holds the view's filters, so that an address can be shared.
        live: calls the view's updates while somebody looks.
        tools: the room in the header, for what selects what the view shows.
        user: whose session it is.
        granted: the role that a provider has given the session; None: it is the user's.
    """

    facade: Facade
    access: Access
    tokens: Tokens
    request: Request
    live: LiveUpdates
    tools: Element
    user: str = CONSOLE
    granted: Role | None = None

    @property
    def query(self) -> Mapping[str, str]:
        """The filters in the address. From outside: check before use."""
        return self.request.query_params

    @property
    def who(self) -> Who:
        """Who changes something here, for the audit, and what they may."""
        host = self.request.client.host if self.request.client else ""
        return Who(self.user, host, self.granted or self.access.users.role(self.user))


class ConsolePage(msgspec.Struct, frozen=True):
    """A view of the console.

    Attributes:
        path: its address.
        title: its name, in the menu and above it.
        section: under which heading of the menu.
        icon: the drawing in the menu: an SVG path on a 20 by 20 grid, drawn as lines.
        key: the letter that goes there, after `g`.
        purpose: what it is for, in a sentence.
        build: draws it; a function, or a class whose instance keeps what its updates need.
    """

    path: str
    title: str
    section: str
    icon: str
    key: str
    build: Callable[[View], object]
    purpose: str = ""
