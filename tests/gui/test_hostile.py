"""Text from outside that wants to be script, in every view of a real program, in a real browser with traps set.

It comes as an SMTP client's, a receiver's, a producer's and an operator's: EHLO name, addresses, subject, bodies, tags,
replies, names of rules. The traps: dialogs, requests to anywhere else, what the Content-Security-Policy had to stop.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, Request, expect

from gui.pages import PAGES
from tests.support.api import TOKEN
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.receiver import Receiver
from tests.support.sender import until

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

ELSEWHERE = "http://127.0.0.9:9/trap"
MARKUP = f"<img src={ELSEWHERE} onerror=\"alert(1)\"><script>alert(1)</script>'\"`{{{{$el.constructor('alert(1)')()}}}}"
SHORT = '<img src=/trap onerror="alert(1)">\'{{alert(1)}}'
MARKS = "\u202e\u2066\u200f\x1b[2J\x07"  # turn the line around, and drive a terminal
BAD = f"{MARKUP}{MARKS}</pre></textarea></title>-->"
LONG = "x" * 1_000_000
HTML = f"{MARKUP}<iframe src='{ELSEWHERE}'></iframe><link rel=stylesheet href={ELSEWHERE}><p>Dear you</p>\u202e"
# Where what of it must be seen, as text.
SHOWN = {
    "/": "alert(1)", "/queue": "alert(1)", "/logs": "alert(1)", "/smtp": "alert(1)", "/audit": "alert(1)",
    "/floods": "alert(1)", "/paused": "alert(1)", "/local": "alert(1)", "/ips": "alert(1)",
}  # fmt: skip
TRAPS = """
  window.sprung = [];
  for (const name of ["alert", "confirm", "prompt", "print"]) window[name] = () => sprung.push(name);
  document.addEventListener("securitypolicyviolation", (event) => sprung.push(event.violatedDirective));
"""
# What the browser shows must have no marks that move other text, nor letters that it cannot show.
UNSEEN = "() => /[\\u0000\\u0007\\u001b\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)"


def converse(port: int) -> list[str]:
    """An SMTP client that means harm; the answers."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as answers:
        message = f"Subject: {BAD}\r\nFrom: {BAD} <a@b.example>\r\nX-Long: {LONG[:30000]}\r\n\r\n{BAD}\r\n."
        said = [answers.readline().decode()]
        for line in (
            f"EHLO {BAD}", f"VRFY {BAD}", "HELO bad.example", 'MAIL FROM:<"<script>alert(1)</script>"@bad.example>',
            'RCPT TO:<"<script>alert(1)</script>"@bad.example>', "DATA", message, f"HELP {LONG[:900]}", "QUIT",
        ):  # fmt: skip
            connection.sendall(line.encode() + b"\r\n")
            said.append(answers.readline().decode())
            while said[-1][3:4] == "-":
                said.append(answers.readline().decode())
        return said


def publish(client: httpx.Client) -> None:
    """A producer's messages, and an operator's rules."""
    mime = f"Subject: {BAD}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{HTML}{LONG}"
    message = {"recipient": "you@bad.example", "envelope": "me@here.example", "mime": mime, "tags": [SHORT]}
    client.post("/messages", json=message).raise_for_status()
    client.post("/messages", json={**message, "mime": f"{mime}\x01"}).raise_for_status()
    assert client.post("/messages", json={**message, "mime": f"{mime}\x00"}).status_code == 422
    for kind, rule in (
        ("floods", {"name": SHORT, "pattern": "<script>alert\\(1\\)"}),
        ("pauses", {"tag": SHORT}),
        ("locals", {"type": "wildcard", "pattern": "*<script>alert(1)</script>*"}),
        ("mta-names", {"ip": "127.0.0.1", "name": SHORT}),
    ):
        answer = client.post(f"/{kind}", json=rule)
        assert answer.status_code == 201, (kind, answer.text)


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A program that only hears hostile text; the password is `secret`."""
    folder = tmp_path_factory.mktemp("hostile")
    script = {"greeting": f"220 {BAD}", "EHLO": f"250-{BAD}\r\n250 {MARKUP}", "RCPT": f"451 4.7.1 {BAD}"}
    options = {"www_password": "secret", "api_token": TOKEN, "ip_maxconnections": 0, "long_lines": "pass"}
    logs = {"send_log": folder / "send.log", "received_log": folder / "received.log"}
    with Loop() as loop:
        receiver = Receiver(script)
        loop.run(receiver.__aenter__())
        with Program(folder, delivery_sink=f"127.0.0.1:{receiver.port}", **options, **logs) as program:
            url = f"http://127.0.0.1:{program.www_port}"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=30) as client:
                publish(client)
                assert "250 2.0.0 Queued" in "".join(converse(program.smtp_port))
                end = time.monotonic() + 20
                while not receiver.verbs() and time.monotonic() < end:
                    time.sleep(0.1)
                yield SimpleNamespace(url=url, port=program.smtp_port)
        loop.run(receiver.__aexit__())


def unforbidden(request: Request) -> bool:
    """Did it leave the browser, though nobody answered? What the policy stops does not."""
    return "trap" in request.url and request.failure != "csp"


async def trapped(besieged: Any, visitor: Visitor) -> tuple[Page, list[str]]:
    """A page with its traps, and what has sprung outside the page."""
    page = await visitor(besieged, "/queue")
    sprung: list[str] = []
    page.on("dialog", lambda dialog: sprung.append(dialog.message))
    page.on("response", lambda response: sprung.append(response.url) if "trap" in response.url else None)
    page.on("requestfailed", lambda request: sprung.append(request.url) if unforbidden(request) else None)
    page.on("pageerror", lambda error: sprung.append(str(error)))
    await page.add_init_script(TRAPS)
    return page, sprung


async def harmless(page: Page) -> None:
    """Nothing ran or tried to, every mark is visible, nothing is pushed out of the page."""
    assert await page.evaluate("sprung") == [], page.url
    assert not await page.evaluate(UNSEEN), page.url
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


async def test_the_traps_would_spring(besieged: Any, visitor: Visitor) -> None:
    """Else the others would prove nothing: the same text, as HTML."""
    page, sprung = await trapped(besieged, visitor)
    await page.goto(besieged.url + "/audit")
    await page.evaluate("(html) => document.querySelector('.view').insertAdjacentHTML('beforeend', html)", BAD + SHORT)
    await page.wait_for_function("sprung.length > 1")
    # What the page asked for is told by another way than what ran in it, and may come later.
    await until(lambda: any("/trap" in address for address in sprung))
    assert await page.evaluate(UNSEEN)


async def test_hostile_text_is_only_text_in_every_view(besieged: Any, visitor: Visitor) -> None:
    """Shown where it belongs, with its marks made visible; nothing runs, nothing is asked for, nothing scrolls."""
    page, sprung = await trapped(besieged, visitor)
    for view in PAGES:
        await page.goto(besieged.url + view.path)
        await page.wait_for_selector(".view .card, .view .tile-value")
        if view.path == "/smtp":
            await page.wait_for_timeout(1500)  # it shows only what comes by while it is looked at
            converse(besieged.port)
        await expect(page.locator(".view")).to_contain_text(SHOWN.get(view.path, ""), timeout=15_000)
        await harmless(page)
    assert sprung == []


async def test_hostile_text_is_only_text_in_a_message(besieged: Any, visitor: Visitor) -> None:
    """Its header, text, HTML, source and history; the HTML is a sandbox's."""
    page, sprung = await trapped(besieged, visitor)
    await page.goto(besieged.url + "/queue?containing=you@bad")
    await page.locator("[data-row] .opener").first.click()
    await expect(page.locator(".drawer")).to_contain_text("alert(1)")
    for tab in await page.locator(".drawer .tabs button").all():
        await tab.click()
        await harmless(page)
    await page.click(".tabs button:has-text('HTML')")
    await expect(page.frame_locator("iframe.preview").locator("p")).to_have_text("Dear you")
    assert await page.get_attribute("iframe.preview", "sandbox") == ""
    assert sprung == []


@pytest.mark.parametrize("path", ["/audit", "/logs?domain=bad.example"])
async def test_hostile_text_is_only_text_in_a_record(besieged: Any, visitor: Visitor, path: str) -> None:
    """What a change was, and what an attempt came to."""
    page, sprung = await trapped(besieged, visitor)
    await page.goto(besieged.url + path)
    await page.locator("[data-row]:has-text('alert(1)')").first.click()
    await expect(page.locator(".drawer")).to_contain_text("alert(1)")
    await harmless(page)
    assert sprung == []
