"""The frame around every view: the menu, the header, the keys. Registers the views with NiceGUI."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from pathlib import Path

from nicegui import ui
from nicegui.element import Element
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gui.access.access import Access
from gui.access.gate import session
from gui.access.proxies import prefix
from gui.access.tokens import Tokens
from gui.components.alerting.notifier import Notifier
from gui.components.drawing import KEYBOARD, LEAVE, LENS, MENU, MOON, QUESTION, icon, icon_button, tag, text
from gui.components.instances import InstanceSwitch
from gui.components.live import LiveUpdates
from gui.components.pausing.pause_bar import PauseBar
from gui.components.search.palette import Palette
from gui.components.view import ConsolePage, View
from pipeline.views.facade import Facade
from settings.store import Role

LOGO = Path(__file__).parents[1] / "static" / "logo.svg"
KEYS = (
    ("?", "Show or hide these keys"),
    ("/", "Search everything: addresses, domains, MTA IPs, tags, rules, views"),
    ("f", "Filter what this view shows"),
    ("n", "Add a rule, where there are rules"),
)

FICTIONAL = "Demo: the senders, the receivers and their mail are fictional. All settings are real: try them."


class Frame:
    """Draws the views of one console.

    Args:
        facade: what they show, and change.
        access: who may see them.
        tokens: of the API, for Settings.
        pages: the views, in the menu's order.
        sections: the menu's headings, in order.
        instance: the name of this server.
        version: changes when a static file does, so that browsers can keep them.
    """

    def __init__(
        self,
        facade: Facade,
        access: Access,
        tokens: Tokens,
        pages: Sequence[ConsolePage],
        sections: Sequence[str],
        instance: str,
        version: str,
    ) -> None:
        self._facade = facade
        self._access = access
        self._tokens = tokens
        self._pages = pages
        self._sections = sections
        self._instance = instance
        self._version = version

    def register(self) -> None:
        """Give NiceGUI a page for each view, and one that says what they are for."""
        for page in self._pages:
            self._register(page)
        self._register(ConsolePage("/help", "Help", "", QUESTION, "", self._help))

    def _help(self, view: View) -> None:
        help_page(self._pages, prefix(view.request.scope))

    def _register(self, page: ConsolePage) -> None:
        @ui.page(page.path, title=f"{page.title} · {self._instance} · Mailrace", favicon=LOGO)
        def show(request: Request) -> Response | None:
            cookie = session(request.headers, self._access)
            if cookie is None:
                return RedirectResponse("/login", 303)
            self._draw(page, request, cookie)
            return None

    def _draw(self, page: ConsolePage, request: Request, cookie: str) -> None:
        under = prefix(request.scope)
        ui.add_head_html(
            f'<script src="{under}/static/theme.js?{self._version}"></script>'
            f'<link rel="stylesheet" href="{under}/static/console.css?{self._version}">'
            f'<link rel="stylesheet" href="{under}/static/data.css?{self._version}">'
            f'<link rel="stylesheet" href="{under}/static/rules.css?{self._version}">'
            f'<script defer src="{under}/static/console.js?{self._version}"></script>'
        )
        user = self._access.name(cookie)
        granted = self._access.granted(cookie)
        role = granted or self._access.users.role(user)
        with tag("div", "frame").props(f"data-may={role} data-now={time.time():.0f}"):
            live = LiveUpdates(lambda: self._access.valid(cookie))
            self._menu(page, under, live)
            with tag("div", "stage"):
                tools = self._header(page, under, f"{user}, may {role}")
                PauseBar(self._facade, live)
                if self._facade.fictional:
                    text("div", FICTIONAL, "fictional").props("role=note")
                with tag("div", "view"):
                    page.build(self._view(request, live, tools, user, granted))
                zone_button()
        self._keys()
        Notifier(self._facade, self._instance, live)
        Palette(self._facade, self._pages)

    def _view(self, request: Request, live: LiveUpdates, tools: Element, user: str, granted: Role | None) -> View:
        return View(
            facade=self._facade,
            access=self._access,
            tokens=self._tokens,
            request=request,
            live=live,
            tools=tools,
            user=user,
            granted=granted,
        )

    def _menu(self, current: ConsolePage, under: str, live: LiveUpdates) -> None:
        tag("div", "shade").props("data-do=menu")
        with tag("nav", "menu-bar").props('aria-label="Views"'):
            with tag("div", "brand"):
                tag("img").props(f'src="{under}/static/logo.svg" alt="" width=26 height=26')
                with tag("div"):
                    ui.label("Mailrace").classes("brand-name")
                    InstanceSwitch(self._facade, self._instance, under, live)
            zone_button()
            for section in self._sections:
                pages = [page for page in self._pages if page.section == section]
                if pages:
                    ui.label(section).classes("menu-section")
                for page in pages:
                    self._entry(page, page is current, under)

    @staticmethod
    def _entry(page: ConsolePage, current: bool, under: str) -> None:
        with tag("a", "menu-entry").props(f'href="{under}{page.path}" data-key="{page.key}"') as link:
            icon(page.icon)
            ui.label(page.title)
            ui.label(f"g {page.key}").classes("menu-key").props("aria-hidden=true")
        if current:
            link.props('aria-current="page"')

    def _header(self, page: ConsolePage, under: str, user: str) -> Element:
        with tag("header", "top"):
            icon_button("menu", "Menu", MENU).classes("only-narrow")
            text("h1", page.title)
            with tag("a", "icon-button about").props(f'href="{under}/help#{_anchor(page)}"') as about:
                about.props(f'title="{html.escape(page.purpose)}" aria-label="What {html.escape(page.title)} is for"')
                icon(QUESTION)
            tools = tag("div", "top-tools")
            with tag("span", "pill").props('role=status data-tip="The connection between this page and the server."'):
                tag("i")
                ui.label("Live").classes("when-live")
                ui.label("Reconnecting").classes("when-lost")
            icon_button("search", "Search everything (/)", LENS)
            icon_button("help", "Keys (?)", KEYBOARD).classes("not-narrow")
            icon_button("theme", "Light or dark", MOON)
            text("span", "may only look", "of only-look")
            with tag("form", "logout").props(f'method=post action="{under}/logout"'):
                icon_button("logout", f"Log out ({user})", LEAVE)
        return tools

    def _keys(self) -> None:
        with tag("dialog", "keys").props('aria-label="Keys"'):
            text("h2", "Keys")
            with tag("dl"):
                for key, meaning in KEYS:
                    text("dt", key)
                    text("dd", meaning)
                for page in self._pages:
                    text("dt", f"g {page.key}")
                    text("dd", f"Go to {page.title}")


def zone_button() -> Element:
    """Says in which zone all times of the page are, and changes it; the browser fills it in."""
    button = text("button", "Times: ", "zone").props("type=button data-do=zone")
    return button.props('title="All times of this page; a click changes between the browser\'s zone and UTC"')


def _anchor(page: ConsolePage) -> str:
    return page.path.strip("/") or "overview"


def help_page(pages: Sequence[ConsolePage], under: str) -> None:
    """What each view is for."""
    with tag("section", "card help-card"):
        text("h2", "The views, and what each is for")
        with tag("dl", "help-list"):
            for page in pages:
                with tag("dt").props(f"id={_anchor(page)}"):
                    text("a", page.title).props(f'href="{under}{page.path}"')
                text("dd", page.purpose)
        text("h2", "More")
        with tag("p"):
            text("a", "The REST API").props(f'href="{under}/api/docs"')
        text("p", "The pages under docs/ of the program tell the rest: console.md, operate.md, runbook.md, tuning.md.")
