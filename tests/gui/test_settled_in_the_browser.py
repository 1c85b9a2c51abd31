"""The whole program with a real name server: what DNS says of DKIM keys, and the password that was made up at start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from pipeline.demo.nameserver import DnsTrouble, NameServer
from tests.support.api import TOKEN, Api
from tests.support.program import Program

pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]
PATIENCE = 30_000  # milliseconds
STATES = ("valid", "different", "missing", "unreachable")


@pytest_asyncio.fixture(loop_scope="session")
async def served(tmp_path: Path) -> AsyncIterator[Any]:
    """The program, its name server, and the password that it printed."""
    zone = NameServer()
    await zone.start()
    options = {"dns_server": f"{zone.address}:{zone.port}", "dns_timeout": "0.5s", "api_token": TOKEN}
    program = await asyncio.to_thread(Program(tmp_path, **options).start)
    async with asyncio.timeout(30):
        while not (found := re.search(r"password\s+(\S+)\s", program.output, re.IGNORECASE)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    url = f"http://127.0.0.1:{program.www_port}"
    yield SimpleNamespace(zone=zone, program=program, url=url, password=found[1])
    program.kill()
    await zone.stop()


async def entered(page: Page, url: str, path: str, password: str) -> None:
    """Log in."""
    await page.goto(f"{url}/login?redirect_to=%2F{path}")
    await page.fill("#password", password)
    await page.click("button[type=submit]")


def new_key(api: Api, domain: str) -> str:
    """A generated key; its record to publish."""
    return str(api.create("dkim-keys", domain=domain, selector="s1", algorithm="ed25519", generate=True)["record"])


async def test_each_state_of_a_key_in_dns_is_seen_and_why(served: Any, chromium: Browser) -> None:
    """Valid, different, missing, unreachable; and asked again at once when the record has been published."""
    api = Api(served.program)
    for state in STATES:
        served.zone.add(f"{state}.example", "A", "192.0.2.1")
    served.zone.trouble("s1._domainkey.unreachable.example", DnsTrouble.SERVFAIL)
    served.zone.add("s1._domainkey.different.example", "TXT", '"v=DKIM1; k=ed25519; p=AAAA"')
    records = {state: await asyncio.to_thread(new_key, api, f"{state}.example") for state in STATES}
    served.zone.add("s1._domainkey.valid.example", "TXT", f'"{records["valid"]}"')
    page = await chromium.new_page()
    await entered(page, served.url, "dkim", served.password)
    rows = {state: page.locator(".rule-grid tbody tr", has_text=f"{state}.example") for state in STATES}
    for state in STATES[1:]:
        await expect(rows[state].locator(".col-dns")).to_have_text(state, timeout=PATIENCE)
    tip = await rows["different"].locator(".col-dns [title]").get_attribute("title")
    assert "does not sign" in str(tip)
    await rows["valid"].get_by_role("button", name=re.compile("DNS record")).click()
    await page.locator("dialog.record-box").get_by_role("button", name=re.compile("DNS", re.IGNORECASE)).click()
    await expect(page.locator("dialog.record-box")).to_contain_text("valid", timeout=PATIENCE)
    await page.locator("dialog.record-box").get_by_role("button", name="Close").click()
    await expect(rows["valid"].locator(".col-dns")).to_have_text("valid")


async def test_the_password_is_changed_and_everybody_has_to_log_in_with_the_new_one(
    served: Any, chromium: Browser
) -> None:
    """Not without the old one, not with a short one or two that differ; the old one opens nothing any more."""
    page = await chromium.new_page()
    await entered(page, served.url, "settings", served.password)
    await page.click("[data-do-password]")

    async def submit(now: str, new: str, again: str) -> None:
        for name, value in (("now", now), ("new", new), ("again", again)):
            await page.fill(f".box input[name={name}]", value)
        await page.click(".box button[type=submit]")

    assert await page.get_attribute(".box input[name=now]", "type") == "password"
    await submit(served.password, "short", "short")
    await expect(page.locator(".box .wrong")).to_contain_text("at least")
    await submit(served.password, "correct horse battery", "correct horse batterie")
    await expect(page.locator(".box .wrong")).to_contain_text("is not the same")
    await submit("a guess of mine", "correct horse battery", "correct horse battery")
    await expect(page.locator(".box .wrong")).to_contain_text("is not the password")
    await submit(served.password, "correct horse battery", "correct horse battery")
    await page.wait_for_url("**/login**", timeout=PATIENCE)
    await entered(page, served.url, "settings", served.password)
    await expect(page.locator("#password")).to_be_visible()
    await entered(page, served.url, "settings", "correct horse battery")
    await expect(page.locator("[data-do-password]")).to_be_visible(timeout=PATIENCE)
    assert "correct horse battery" not in served.program.output + await page.content()
