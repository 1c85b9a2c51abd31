"""The AMQP monitor over a real RabbitMQ node and the whole program, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.broker import MISSING, Broker, installed
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.publisher import Publisher

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]
PATIENCE = 30_000  # milliseconds


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The program on a node of its own, and a receiver; the password is `secret`."""
    if not installed():
        pytest.skip(MISSING)
    with Broker(management=True) as broker, Mailbox() as mailbox:
        options = {
            "rabbitmq_address": broker.address,
            "rabbitmq_management": f"http://127.0.0.1:{broker.management_port}",
            "delivery_sink": f"127.0.0.1:{mailbox.port}",
            "www_password": "secret",
        }
        with Program(tmp_path_factory.mktemp("amqp"), **options) as program:
            yield SimpleNamespace(url=f"http://127.0.0.1:{program.www_port}", broker=broker)


async def test_the_figures_of_rabbitmq_move_while_mail_flows(served: Any, visitor: Visitor) -> None:
    """Queues with their depths, rates of all clients, what is delivered; and the broker's password nowhere."""
    page = await visitor(served, "/amqp")
    said: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: said.append(str(frame))))
    await page.reload()
    await expect(page.locator(".connection")).to_contain_text("Connected", timeout=PATIENCE)
    await expect(page.locator(".connection")).to_contain_text("figures of all its clients")
    await Publisher(served.broker.address, 300).run()
    results = page.locator("[data-row=results]")
    await expect(results.locator("td").nth(2)).to_have_text("300", timeout=PATIENCE)
    await expect(results.locator("td").nth(5)).not_to_have_text("0", timeout=PATIENCE)
    await expect(page.locator(".strip [data-gauge=delivered] dd")).to_have_text("300")
    await expect(page.locator("[data-row=outbox] td").nth(4)).to_have_text("2")
    assert served.broker.password not in await page.content() + "".join(said)
    assert f"guest@127.0.0.1:{served.broker.port}" in await page.inner_text(".connection")


async def test_a_broker_that_is_away_is_said(served: Any, visitor: Visitor) -> None:
    """Without a reload, on a phone too; and that mail is not lost sight of."""
    page = await visitor(served, "/amqp", width=390, height=844)
    await expect(page.locator("[data-row=outbox]")).to_be_visible(timeout=PATIENCE)
    await asyncio.to_thread(served.broker.kill)
    await expect(page.locator(".connection")).to_contain_text("Not connected", timeout=PATIENCE)
    await expect(page.locator(".connection")).to_contain_text("RabbitMQ is away")
    await expect(page.locator(".empty:has-text('No queue')")).to_be_visible()
    await expect(page.locator(".strip [data-gauge=in_memory] dd")).to_have_text("0")
    assert served.broker.password not in await page.content()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
