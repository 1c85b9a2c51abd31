"""The frame around every view: the menu, the header, the keys. Registers the views with NiceGUI."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui
from nicegui.element import Element
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gui.access import Access
from gui.components.live import Live
from gui.gate import session
from gui.machine import Machine
from gui.view import Page, View

KEYS = (("?", "Show or hide these keys"), ("/", "Search in this view"))


class Frame:
    """Draws the views of one console.

    Args:
        machine: what they show.
        access: who may see them.
        pages: the views, in the menu's order.
        sections: the menu's headings, in order.
        instance: the name of this server.
        version: changes when a static file does, so that browsers can keep them.
    """

    def __init__(
        self,
        machine: Machine,
        access: Access,
        pages: Sequence[Page],
        sections: Sequence[str],
        instance: str,
        version: str,
    ) -> None:
        self._machine = machine
        self._access = access
        self._pages = pages
        self._sections = sections
        self._instance = instance
        self._version = version

    def register(self) -> None:
        """Give NiceGUI a page for each view."""
        for page in self._pages:
            self._register(page)

    def _register(self, page: Page) -> None:
        @ui.page(page.path, title=f"{page.title} · {self._instance} · Mailrace", favicon="/static/logo.svg")
        def show(request: Request) -> Response | None:
            cookie = session(request.headers)
            if not self._access.valid(cookie):
                return RedirectResponse("/login", 303)
            self._draw(page, request, cookie or "")
            return None

    def _draw(self, page: Page, request: Request, cookie: str) -> None:
        ui.add_head_html(
            f'<script src="/static/theme.js?{self._version}"></script>'
            f'<link rel="stylesheet" href="/static/console.css?{self._version}">'
            f'<script defer src="/static/console.js?{self._version}"></script>'
        )
        with _tag("div", "frame"):
            live = Live(lambda: self._access.valid(cookie))
            self._menu(page)
            with _tag("div", "stage"):
                self._header(page)
                with _tag("main", "view"):
                    page.build(View(machine=self._machine, request=request, live=live))
        self._keys()

    def _menu(self, current: Page) -> None:
        _tag("div", "shade").props("data-do=menu")
        with _tag("nav", "menu-bar").props('aria-label="Views"'):
            with _tag("div", "brand"):
                _tag("img").props('src="/static/logo.svg" alt="" width=26 height=26')
                with _tag("div"):
                    ui.label("Mailrace").classes("brand-name")
                    ui.label(self._instance).classes("brand-instance")
            for section in self._sections:
                pages = [page for page in self._pages if page.section == section]
                if pages:
                    ui.label(section).classes("menu-section")
                for page in pages:
                    self._entry(page, page is current)

    @staticmethod
    def _entry(page: Page, current: bool) -> None:
        with _tag("a", "menu-entry").props(f'href="{page.path}" data-key="{page.key}"') as link:
            icon(page.icon)
            ui.label(page.title)
            ui.label(f"g {page.key}").classes("menu-key").props("aria-hidden=true")
        if current:
            link.props('aria-current="page"')

    def _header(self, page: Page) -> None:
        with _tag("header", "top"):
            _button("menu", "Menu", "M3 5.500h14M3 10h14M3 14.500h14").classes("only-narrow")
            _text("h1", page.title)
            _tag("div", "top-tools").props("id=tools")
            with _tag("span", "pill").props('role=status data-tip="The connection between this page and the server."'):
                _tag("i")
                ui.label("Live").classes("when-live")
                ui.label("Reconnecting").classes("when-lost")
            _button(
                "help",
                "Keys",
                "M7.500 7.800a2.500 2.500 0 1 1 3.700 2.200c-.8.4-1.200.9-1.200 1.800M10 14.300v.2M10 2.500a7.500 7.500 0 1 1 0 15 7.500 7.500 0 0 1 0-15z",
            ).classes("not-narrow")
            _button("theme", "Light or dark", "M10 3a7 7 0 1 0 7 7 5.500 5.500 0 0 1-7-7z")
            with _tag("form", "logout").props('method=post action="/logout"'):
                _button("logout", "Log out", "M12.500 6V4H4v12h8.500v-2M8 10h9.500M14.500 7l3 3-3 3")

    def _keys(self) -> None:
        with _tag("dialog", "keys").props('aria-label="Keys"'):
            _text("h2", "Keys")
            with _tag("dl"):
                for key, meaning in KEYS:
                    _text("dt", key)
                    _text("dd", meaning)
                for page in self._pages:
                    _text("dt", f"g {page.key}")
                    _text("dd", f"Go to {page.title}")


def icon(path: str) -> Element:
    """A line drawing from an SVG path on a 20 by 20 grid."""
    with _tag("svg", "icon").props('viewBox="0 0 20 20" aria-hidden=true') as drawing:
        _tag("path").props(f'd="{path}"')
    return drawing


def _button(does: str, label: str, path: str) -> Element:
    with _tag("button", "icon-button").props(
        f'type=button data-do={does} aria-label="{label}" title="{label}"'
    ) as button:
        icon(path)
    return button


def _tag(name: str, classes: str = "") -> Element:
    return Element(name).classes(classes)


def _text(name: str, text: str) -> Element:
    element = Element(name)
    element._text = text
    return element
