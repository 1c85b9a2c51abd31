"""Every view, checked by axe-core in a real browser: names, roles, contrast, in both looks.

axe-core comes from npm when the tests run, see `tests/support/node.py`; nothing of it is kept in git.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Page

from gui.pages import PAGES
from tests.support import node

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

# The rules of WCAG 2 A and AA, and of good practice; only what axe itself calls serious or critical counts.
RUN = """async () => {
  for (const animation of document.getAnimations()) try { animation.finish() } catch { animation.cancel() }
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.filter((one) => ["serious", "critical"].includes(one.impact)).flatMap((one) =>
    one.nodes.map((node) => `${one.id}: ${node.target} ${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`));
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    try:
        return (node.modules() / "axe-core/axe.min.js").read_text()
    except node.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A machine with traffic and a console; the password is `secret`."""
    folder = tmp_path_factory.mktemp("accessible")
    options = ["--smtp-ip", "127.0.0.1", "--smtp-port", "0", "--shutdown-timeout", "1", "--server-id", "mx1.example"]
    logs = ["--send-log", str(folder / "send.log"), "--received-log", str(folder / "received.log")]
    stage = running_stage(folder, "--www-password", "secret", *options, *logs, program="live_stage.py")
    stage.say("traffic")
    yield stage
    stage.stop()


async def violations(page: Page, axe: str) -> list[str]:
    """What axe-core has against the page as it is."""
    await page.evaluate(axe)
    return [str(one) for one in await page.evaluate(RUN)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_view_has_a_serious_violation(live: Any, visitor: Visitor, axe: str, scheme: str) -> None:
    """Also not the login."""
    page = await visitor(live, "/ips", color_scheme=scheme)
    found = {}
    for view in PAGES:
        await page.goto(live.url + view.path)
        await page.wait_for_selector(".view .card, .view .tile-value")
        await page.wait_for_timeout(700)
        if wrong := await violations(page, axe):
            found[view.path] = wrong
    await page.context.clear_cookies()
    await page.goto(live.url + "/login")
    found |= {"/login": wrong} if (wrong := await violations(page, axe)) else {}
    assert not found, "\n".join(f"{path}\n  " + "\n  ".join(all) for path, all in found.items())
