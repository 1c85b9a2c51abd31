"""All that `?` lists, done by keyboard alone, in a real browser over a real machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gui.pages import PAGES

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

RULES = ("/throttling", "/floods", "/paused", "/redirects", "/dkim", "/local", "/errors")
SEARCHES = ("/ips", "/domains", "/queue", "/logs", "/settings", "/audit", *RULES)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A machine with a console; the password is `secret`."""
    folder = tmp_path_factory.mktemp("keys")
    options = ["--smtp-ip", "127.0.0.1", "--smtp-port", "0", "--shutdown-timeout", "1"]
    stage = running_stage(folder, "--www-password", "secret", *options, program="live_stage.py")
    yield stage
    stage.stop()


async def test_every_view_has_its_letter(live: Any, visitor: Visitor) -> None:
    """`g` and the letter that `?` lists lead there; no letter leads to two."""
    page = await visitor(live, "/audit")
    await page.keyboard.press("?")
    listed = await page.locator("dialog.keys dt").all_inner_texts()
    assert listed == ["?", "/", "f", "n", *(f"g {view.key}" for view in PAGES)]
    assert len(set(listed)) == len(listed)
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog.keys")).to_be_hidden()
    for view in PAGES:
        await page.keyboard.press("g")
        await page.keyboard.press(view.key)
        await page.wait_for_url(live.url + view.path)
        await page.wait_for_selector(".view .card, .view .tile-value")


async def test_f_filters_and_n_adds(live: Any, visitor: Visitor) -> None:
    """In every view that has something to filter; in every view of rules. Escape leads out of the form."""
    page = await visitor(live, "/ips")
    for path in SEARCHES:
        await page.goto(live.url + path)
        await page.wait_for_selector(".stage input")
        await page.keyboard.press("f")
        assert await page.evaluate("document.activeElement.matches('.stage input')"), path
        if path in RULES:
            await page.evaluate("document.activeElement.blur()")
            await page.keyboard.press("n")
            await expect(page.locator("dialog[open] input:focus, dialog[open] select:focus")).to_have_count(1)
            await page.keyboard.press("Escape")
            await expect(page.locator("dialog[open]")).to_have_count(0)


async def test_a_view_without_rules_says_so_and_n_adds_the_first(live: Any, visitor: Visitor) -> None:
    """Nobody meets an empty table."""
    page = await visitor(live, "/throttling")
    await expect(page.locator(".rules .empty-title")).to_have_text("No limits yet")
    for path in RULES:
        await page.goto(live.url + path)
        await expect(page.locator(".rules .empty-title")).to_be_visible()
        await page.keyboard.press("n")
        await expect(page.locator(".rule-sheet[open]")).to_have_count(1)
