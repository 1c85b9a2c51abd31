"""Every view in a real browser, from the width of a phone to that of a desk: nothing is cut off or scrolls away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from gui.pages import PAGES
from pipeline.demo.furnished import rules
from tests.support.api import TOKEN
from tests.support.screenshots import RULES

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

WIDTHS = (390, 768, 1024, 1280, 1440)
WHOLE = 1024  # pixels from which on a table shows all its columns
FAULTS = """async (whole) => {
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const faults = [], wide = (element) => element.scrollWidth > element.clientWidth + 1;
  if (document.scrollingElement.scrollWidth > innerWidth) faults.push("the page scrolls sideways");
  const top = document.querySelector(".top");
  if (top.scrollHeight > top.clientHeight + 1) faults.push("the header is cut off");
  if (wide(top.querySelector("h1"))) faults.push("the title is cut off");
  if (innerWidth < whole) return faults;
  for (const table of document.querySelectorAll(".sheet-scroll, .rules-scroll"))
    if (wide(table)) faults.push("a table scrolls sideways");
  for (const heading of document.querySelectorAll("th"))
    if (heading.textContent && !heading.querySelector(".unseen") && wide(heading))
      faults.push(`"${heading.textContent}" runs into its neighbour`);
  return faults;
}"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A machine with traffic and rules of every kind; the password is `secret`."""
    folder = tmp_path_factory.mktemp("widths")
    options = ["--smtp-ip", "127.0.0.1", "--smtp-port", "0", "--shutdown-timeout", "1", "--api-token", TOKEN]
    logs = ["--send-log", str(folder / "send.log"), "--received-log", str(folder / "received.log")]
    stage = running_stage(folder, "--www-password", "secret", *options, *logs, program="live_stage.py")
    with httpx.Client(base_url=stage.url + "/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}) as api:
        for kind, values in [*rules(), *RULES]:
            api.post(f"/{kind}", json=values).raise_for_status()
    stage.say("traffic")
    yield stage
    stage.stop()


async def test_every_view_fits_every_width(live: Any, visitor: Visitor) -> None:
    """The page never scrolls sideways, nor does a table from 1024 pixels on; the header shows all that is in it."""
    page, found = await visitor(live, "/ips"), []
    for view in PAGES:
        await page.goto(live.url + view.path)
        await page.wait_for_selector(".sheet-grid, .rule-grid, .empty-title, .tile-value, .talk")
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 900})
            found += [f"{view.path} at {width}: {fault}" for fault in await page.evaluate(FAULTS, WHOLE)]
    assert not found, "\n".join(found)


async def test_what_a_rule_is_made_of_is_shown(live: Any, visitor: Visitor) -> None:
    """Its texts, what it does in words; never the name of a field."""
    page = await visitor(live, "/providers")
    for path, words in (
        ("/providers", "*.newspaper.example"),
        ("/schedules", "from day 4, Domain: Connections 4"),
        ("/rewrites", "set pool newsletters; add tags night"),
        ("/responses", "suppress address"),
    ):
        await page.goto(live.url + path)
        await expect(page.locator(".rule-grid")).to_contain_text(words)
