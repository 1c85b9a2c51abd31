"""Pictures of every view with the demo's traffic: `python -m tests.support.screenshots [name ...]`, into screenshots/.

Each at 1440x900 and 390x844, light and dark: the views, and what opens in them (lane drawer, form, message). There are
rules of every kind, and enough mail that some of it is slowed down.
"""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import sys
import tempfile
import time
from typing import Any

import httpx
from playwright.sync_api import Browser, Error, Page, sync_playwright

from gui.pages import PAGES
from tests.support.api import TOKEN, Api
from tests.support.chromium import ARGUMENTS, CHROMIUM
from tests.support.program import ROOT, Program

SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
PASSWORD = "screenshots"
WARM = 45.0  # seconds of traffic before the first picture, so that the charts have something to show
VIEWS = {one.path.strip("/") or "overview": one.path for one in PAGES}
OPENED = {  # an address, and what is clicked there
    "lane": ("/domains?domain=crawling.example", ""),
    "form": ("/throttling", "[data-act=edit]"),
    "record": ("/dkim", "[data-act=record]"),
    "message": ("/queue?state=parked", "[aria-label=Messages] .opener"),
    "story": ("/logs?result=error", "[data-row] .opener"),
    "change": ("/audit", "[data-row]"),
}
LATER = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=3)).replace(microsecond=0).isoformat()
RULES: list[tuple[str, dict[str, Any]]] = [  # besides those that the demo has by itself
    ("throttles", {"ip_connections": 20, "connection_security": "opportunistic"}),
    (
        "floods",
        {"name": "unusual rate", "pattern": "unusual (rate|volume)", "type": "regex", "pause": 300, "reduced": 3600},
    ),
    ("pauses", {"ip": "127.0.0.3", "domain": "garage.example"}),
    ("dkim-keys", {"domain": "morgenpost.test", "selector": "mail", "algorithm": "rsa", "generate": True}),
    ("mta-names", {"ip": "127.0.0.2", "name": "Receipts"}),
    ("dns", {"name": "moved.example", "addresses": ["192.0.2.7", "192.0.2.8"]}),
    (
        "suppressions",
        {"type": "address", "value": "nobody.at.all@unknown-users.example", "until": LATER, "extended": "5.1.1",
         "description": "<nobody.at.all@unknown-users.example>: Recipient address rejected: User unknown"},
    ),
    (
        "rewrites",
        {"name": "a long one", "domain": "newspaper.example", "set_pool": "newsletters", "hours": "22:00-06:00",
         "add_tags": ["night"], "remove_tags": ["day"], "header": "X-Sent: at night", "until": LATER},
    ),
    (
        "alerts",
        {
            "name": "A provider defers much of its mail",
            "watch": "deferrals",
            "domain": "gmail",
            "email": ["ops@example.com", "night-watch@example.com"],
            "webhook": "https://hooks.chat.example.com/services/T/B",
            "quiet": "22:00-06:00",
            "time_zone": "Europe/Berlin",
        },
    ),
]  # fmt: skip


def prepare(program: Program) -> None:
    """Rules of every kind."""
    api = Api(program)
    for kind, values in RULES:
        try:
            api.create(kind, **values)
        except (AssertionError, httpx.HTTPError) as error:
            print(f"{kind}: {error}", file=sys.stderr)


def pictures(browser: Browser, program: Program, folder: pathlib.Path, names: list[str]) -> None:
    """Log in once for each size and look, and take everything."""
    base = f"http://127.0.0.1:{program.www_port}"
    for size, (width, height) in SIZES.items():
        for theme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
            page = context.new_page()
            page.goto(base + "/login")
            if "login" in names:
                page.screenshot(path=folder / f"login-{size}-{theme}.png")
            page.fill("input[name=password]", PASSWORD)
            page.press("input[name=password]", "Enter")
            page.wait_for_url(base + "/")
            for name in names:
                if name != "login":
                    path, click = OPENED.get(name) or (VIEWS[name], "")
                    take(page, base + path, click, folder / f"{name}-{size}-{theme}.png")
            context.close()


def take(page: Page, address: str, click: str, file: pathlib.Path) -> None:
    """One picture, once the live parts have had a few seconds."""
    page.goto(address)
    page.wait_for_timeout(3000)
    if click:
        with contextlib.suppress(Error):  # nothing there to open: the picture shows it
            page.click(f"{click} >> nth=0", timeout=5000)
        page.wait_for_timeout(2500)
    page.screenshot(path=file)


def main(names: list[str]) -> None:
    """Start the demo, wait for traffic, take the pictures."""
    folder = ROOT / "screenshots"
    folder.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        Program(pathlib.Path(name), "demo", www_password=PASSWORD, api_token=TOKEN) as program,
        sync_playwright() as playwright,
    ):
        prepare(program)
        time.sleep(WARM)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        pictures(browser, program, folder, names)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:] or ["login", *VIEWS, *OPENED])
