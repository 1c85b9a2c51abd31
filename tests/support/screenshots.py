"""Pictures of every view with the demo's traffic: `python -m tests.support.screenshots [view ...]`, into screenshots/.

Each at 1440x900 and 390x844, light and dark.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
import time

from playwright.sync_api import Browser, Page, sync_playwright

from gui.pages import PAGES
from tests.support.program import ROOT, Program

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
PASSWORD = "screenshots"
WARM = 45.0  # seconds of traffic before the first picture, so that the charts have something to show


def picture(browser: Browser, program: Program, folder: pathlib.Path, views: list[str]) -> None:
    """Log in once for each size and look, and take every view."""
    for size, (width, height) in SIZES.items():
        for theme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{program.www_port}/login")
            if "login" in views:
                page.screenshot(path=folder / f"login-{size}-{theme}.png")
            page.fill("input[name=password]", PASSWORD)
            page.press("input[name=password]", "Enter")
            page.wait_for_url(f"http://127.0.0.1:{program.www_port}/")
            for one in PAGES:
                name = one.path.strip("/") or "overview"
                if name in views:
                    take(page, f"http://127.0.0.1:{program.www_port}{one.path}", folder / f"{name}-{size}-{theme}.png")
            context.close()


def take(page: Page, address: str, file: pathlib.Path) -> None:
    """One view, once its live parts have had a few seconds."""
    page.goto(address)
    page.wait_for_timeout(4000)
    page.screenshot(path=file)


def main(views: list[str]) -> None:
    """Start the demo, wait for traffic, take the pictures."""
    folder = ROOT / "screenshots"
    folder.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        Program(pathlib.Path(name), "demo", www_password=PASSWORD) as program,
        sync_playwright() as playwright,
    ):
        time.sleep(WARM)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        picture(browser, program, folder, views)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:] or ["login", *(one.path.strip("/") or "overview" for one in PAGES)])
