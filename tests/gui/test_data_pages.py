"""What an operator does in the views of data, in a real browser, over a real machine and a simulated internet."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import smtplib
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

VIEWS = ("ips", "domains", "queue", "logs", "smtp", "amqp", "settings", "audit")
PASSWORD = base64.b64encode(b"\0operator\0open-sesame").decode()
IPS = ".sheet-grid[aria-label='MTA IPs'] [data-row]"  # a second table says how providers answer them
MESSAGES = ".sheet-grid[aria-label=Messages] [data-row]"  # the domain may stand in the table of retries, too
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A machine with traffic and a console; the password is `secret`."""
    folder = tmp_path_factory.mktemp("data")
    options = ["--smtp-ip", "127.0.0.1", "--smtp-port", "0", "--shutdown-timeout", "1", "--server-id", "mx1.example"]
    logs = ["--send-log", str(folder / "send.log"), "--received-log", str(folder / "received.log")]
    stage = running_stage(folder, "--www-password", "secret", *options, *logs, program="live_stage.py")
    stage.say("traffic")
    yield stage
    stage.stop()


async def rows(page: Page, least: int = 1, of: str = "[data-row]") -> list[str]:
    """The keys of the rows that are shown, once there are some."""
    await page.wait_for_function("([of, least]) => document.querySelectorAll(of).length >= least", arg=[of, least])
    return await page.eval_on_selector_all(of, "all => all.map((row) => row.dataset.row)")


async def changes(page: Page, selector: str) -> None:
    """What is there becomes something else."""
    before = await page.inner_text(selector)
    await page.wait_for_function(
        "([selector, before]) => document.querySelector(selector).innerText !== before", arg=[selector, before]
    )


# -- MTA IPs --------------------------------------------------------------------------------------------------------


async def test_the_mta_ips_are_live_and_lead_to_their_overview(live: Any, visitor: Visitor) -> None:
    """Every address of this machine, with its figures of the last minute."""
    page = await visitor(live, "/ips")
    assert {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"} <= set(await rows(page, 4, IPS))
    await changes(page, "[data-row='127.0.0.1'] td.is-number")
    await page.wait_for_selector("[data-row='127.0.0.1'] svg.spark")
    await page.click("[data-row='127.0.0.2'] a")
    await page.wait_for_url("**/?ip=127.0.0.2")


async def test_the_mta_ips_are_sorted_and_filtered_and_the_address_says_so(live: Any, visitor: Visitor) -> None:
    """The address can be shared."""
    page = await visitor(live, "/ips")
    await rows(page, 4, IPS)
    await page.click("th[data-column=attempts] button")
    await expect(page).to_have_url(f"{live.url}/ips?sort=-attempts")
    await expect(page.locator("th[data-column=attempts]")).to_have_attribute("aria-sort", "descending")
    await page.keyboard.press("f")
    await page.keyboard.type("0.0.3")
    await expect(page.locator(IPS)).to_have_count(1)
    await page.reload()
    assert await rows(page, of=IPS) == ["127.0.0.3"]


async def test_a_rename_is_checked_as_one_types_holds_at_once_and_can_be_undone(live: Any, visitor: Visitor) -> None:
    """The console name is ours alone, the EHLO name is what receivers hear."""
    page = await visitor(live, "/ips")
    row = page.locator("[data-row='127.0.0.4']")
    await row.locator("[data-act=rename]").click()
    await page.fill("input[name=ehlo]", "not a name")
    await expect(page.locator(".wrong")).to_contain_text("is no domain name")
    await page.fill("input[name=name]", HOSTILE)
    await page.fill("input[name=ehlo]", "out4.mx1.example")
    await page.click(".box button[type=submit]")
    await expect(row).to_contain_text(HOSTILE)
    await expect(row).to_contain_text("out4.mx1.example")
    assert "owned" not in await page.title()
    assert live.ask("audit") == "console 127.0.0.1 create mta-names"
    await page.click(".note button:has-text('Undo')")
    await expect(row).not_to_contain_text("out4.mx1.example")


async def test_escape_closes_a_drawer_wherever_the_focus_is(live: Any, visitor: Visitor) -> None:
    """A lane that is forgotten, or moves in its list, takes the focus with it."""
    page = await visitor(live, "/ips")
    await page.click("[data-row='127.0.0.1'] .opener")
    await page.locator(".lane-entry").first.click()
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("Escape")
    await expect(page.locator(".drawer")).to_be_hidden()


async def test_an_mta_ip_shows_its_lanes(live: Any, visitor: Visitor) -> None:
    """And each lane is explained."""
    page = await visitor(live, "/ips")
    await page.click("[data-row='127.0.0.1'] .opener")
    await expect(page.locator(".drawer h2")).to_have_text("127.0.0.1")
    await page.locator(".lane-entry").nth(1).click()
    await expect(page.locator(".drawer")).to_contain_text("Limits in force")
    await page.keyboard.press("Escape")
    await expect(page.locator(".drawer")).to_be_hidden()


# -- Domains --------------------------------------------------------------------------------------------------------


async def test_the_drawer_explains_a_lane_and_pauses_it(live: Any, visitor: Visitor) -> None:
    """What limits it, where it goes, what was said; and a pause that can be taken back."""
    page = await visitor(live, "/domains?search=university.example")
    await page.click("[data-row='university.example'] .state")
    drawer = page.locator(".drawer")
    for title in ("Limits in force", "Hosts, in the order to try", "Last answers", "Last events"):
        await expect(drawer).to_contain_text(title)
    await expect(drawer.locator(".limits")).to_contain_text("domain-maxqueue")
    await expect(page).to_have_url(re.compile("domain=university.example&lane=127"))
    await drawer.locator("[data-act=pause]").click()
    await page.select_option("select[name=ip]", "")
    await page.click(".box button[type=submit]")
    await expect(drawer.locator(".lane-verdict")).to_contain_text("paused")
    await expect(page.locator("[data-row='university.example'] .state")).to_have_text("paused")
    await expect(drawer.locator("[data-figure=held] dd")).to_have_text(re.compile("[1-9]"), timeout=30_000)
    await page.click(".note button:has-text('Undo')")
    await expect(page.locator("[data-row='university.example'] .state")).not_to_have_text("paused")


async def test_a_shared_address_opens_the_drawer(live: Any, visitor: Visitor) -> None:
    """An incident is one link; and Back closes a drawer, it does not leave the view."""
    page = await visitor(live, "/domains?search=greylist&domain=greylist.example")
    await expect(page.locator(".drawer h2")).to_have_text("greylist.example")
    assert await rows(page) == ["greylist.example"]
    await page.keyboard.press("Escape")
    await expect(page.locator(".drawer")).to_be_hidden()
    await page.click("[data-row='greylist.example'] .state")
    await expect(page.locator(".drawer h2")).to_have_text("greylist.example")
    await page.go_back()
    await expect(page.locator(".drawer")).to_be_hidden()
    await expect(page).to_have_url(re.compile("/domains[?]search=greylist$"))


async def test_ten_thousand_domains_are_sorted_and_paged_on_the_server(live: Any, visitor: Visitor) -> None:
    """The browser holds one page of them."""
    assert live.ask("crowd 10000") == "seen"
    page = await visitor(live, "/domains?sort=-domain&search=d0")
    assert (await rows(page, 50))[:2] == ["d09999.example", "d09998.example"]
    await expect(page.locator(".pager").last).to_contain_text("1–50 of 10,000")
    await page.click("th[data-column=domain] button")
    await page.wait_for_selector("[data-row='d00000.example']")
    await page.click("button[aria-label='Next page']")
    await page.wait_for_selector("[data-row='d00099.example']")
    await expect(page).to_have_url(re.compile("page=2"))
    assert len(await rows(page)) == 50


# -- Queue ----------------------------------------------------------------------------------------------------------


def waiting(recipient: str, mime: str, **more: Any) -> str:
    """A message that stays in the queue for an hour."""
    later = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 3600))
    message = {"recipient": recipient, "envelope": "me@here.example", "mime": mime, "nextattempt": {"time": later}}
    return json.dumps(message | more)


async def test_messages_are_deleted_in_bulk_after_one_question_with_their_count(live: Any, visitor: Visitor) -> None:
    """Those that pass the filters, and no others."""
    for number in range(3):
        assert live.ask("queue " + waiting(f"bulk{number}@later.example", "Subject: hi\n\nhello\n")) == "queued"
    page = await visitor(live, "/queue?domain=later.example")
    await expect(page.locator(MESSAGES, has_text="later.example")).to_have_count(3)
    await page.click("[data-bulk=delete]")
    await expect(page.locator(".box h2")).to_have_text("Delete 3 messages?")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".notes")).to_contain_text("3 messages are deleted.")
    await expect(page.locator(".empty:has-text('No message passes')")).to_be_visible()


async def test_messages_are_put_in_any_order_on_the_server_and_exported(live: Any, visitor: Visitor) -> None:
    """The address says the order; the file has all that pass, in it, and nothing a spreadsheet would run."""
    for number, name in enumerate(("bo", "=1+1", "al")):
        assert live.ask("queue " + waiting(f"{name}@sorted.example", "x" * (number * 100))) == "queued"
    page = await visitor(live, "/queue?domain=sorted.example")
    await expect(page.locator(MESSAGES, has_text="sorted.example")).to_have_count(3)
    openers = page.locator(".sheet-grid[aria-label=Messages] .opener")
    await page.click("th[data-column=recipient] button")
    await expect(openers).to_have_text(["=1+1@sorted.example", "al@sorted.example", "bo@sorted.example"])
    await page.click("th[data-column=size] button")
    await page.click("th[data-column=size] button")
    await expect(openers).to_have_text(["al@sorted.example", "=1+1@sorted.example", "bo@sorted.example"])
    await expect(page).to_have_url(re.compile("sort=-size"))
    async with page.expect_download() as download:
        await page.click("[data-export=csv]")
    lines = (await asyncio.to_thread(Path(await (await download.value).path()).read_text)).splitlines()
    assert [line.split(",")[1] for line in lines] == [
        "Recipient", "al@sorted.example", "'=1+1@sorted.example", "bo@sorted.example",
    ]  # fmt: skip
    await page.reload()
    await expect(openers.first).to_have_text("al@sorted.example")


async def test_a_queued_message_is_shown_and_its_html_runs_and_loads_nothing(live: Any, visitor: Visitor) -> None:
    """A sandboxed frame under a policy: no script, nothing from outside, whatever it holds."""
    connections: list[object] = []
    server = await asyncio.start_server(lambda _, writer: (connections.append(writer), writer.close()), "127.0.0.1", 0)
    probe = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/probe"
    html = (
        f"<link rel=preconnect href={probe}><link rel=stylesheet href={probe}.css><base href={probe}>"
        f"<meta http-equiv=refresh content='0;url={probe}'><img src={probe}.png><iframe src={probe}></iframe>"
        f"<style>@import url({probe}.css); p {{ background: url({probe}.gif) }}</style><p>Dear you</p>"
        "<script>parent.document.title = top.document.title = 'owned'</script>"
        "<svg onload=\"parent.document.title='owned'\"></svg><form action=/logout method=post><button>x</button></form>"
    )
    live.ask("queue " + waiting("html@later.example", f"Subject: {HOSTILE}\nContent-Type: text/html\n\n{html}"))
    page = await visitor(live, "/queue?containing=html@later")
    await page.click("[data-row] .opener:has-text('html@later.example')")
    await expect(page.locator(".drawer [data-section=Header] pre")).to_contain_text(HOSTILE)
    await page.click(".tabs button:has-text('HTML')")
    frame = page.frame_locator("iframe.preview")
    await expect(frame.locator("p")).to_have_text("Dear you")
    assert await page.get_attribute("iframe.preview", "sandbox") == ""
    await asyncio.sleep(0.5)
    assert connections == []
    server.close()
    assert "owned" not in await page.title()


async def test_hostile_text_is_shown_harmlessly(live: Any, visitor: Visitor) -> None:
    """Tags, quotes, NUL, direction marks and lines of a megabyte are text, cut, with marks made visible."""
    bad = f"{HOSTILE}\u202e{{{{ 1+1 }}}}</script>\x00'\""
    seen = "\\u202e{{ 1+1 }}</script>\\u0000'\""
    head = f"Content-Type: text/plain; charset=utf-8\nSubject: {'x' * 1_000_000}"
    live.ask("queue " + waiting("hostile@later.example", f"{head}\n\n{bad}</pre>\n", tags=[bad]))
    live.ask("queue " + json.dumps({"recipient": f"{bad}@later.example", "envelope": "me@here.example", "mime": "x"}))
    page = await visitor(live, "/queue?containing=hostile@later")
    await page.locator("[data-row] .opener:has-text('hostile@later')").click()
    await expect(page.locator(".drawer .facts").first).to_contain_text(HOSTILE + seen)
    await page.click(".tabs button:has-text('Text')")
    await expect(page.locator(".drawer [data-section=Text] pre")).to_contain_text(seen)
    await page.click(".tabs button:has-text('Source')")
    await expect(page.locator(".drawer [data-section=Source] pre")).to_contain_text("Subject: xxx")
    await page.goto(live.url + "/logs?domain=later.example&result=invalid")
    await expect(page.locator("[data-row] .opener").first).to_have_text(f"{HOSTILE}{seen}@later.example")
    assert "owned" not in await page.title()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- Log files ------------------------------------------------------------------------------------------------------


async def test_a_delivery_is_found_by_its_recipient_with_its_whole_story(live: Any, visitor: Visitor) -> None:
    """From received to delivered, and the address can be shared."""
    page = await visitor(live, "/logs?result=accepted")
    await rows(page)
    recipient = await page.locator("[data-row] .opener").first.inner_text()
    await page.click("text=More filters")
    await page.fill("input[name=recipient]", recipient)
    await expect(page).to_have_url(re.compile("recipient="))
    await page.wait_for_function(
        "who => [...document.querySelectorAll('[data-row] .opener')].every((one) => one.innerText === who)",
        arg=recipient,
    )
    await page.locator("[data-row] .opener").first.click()
    await expect(page.locator(".drawer .steps")).to_contain_text("received")
    await expect(page.locator(".drawer .steps")).to_contain_text("message accepted")


async def test_a_message_that_still_waits_is_retried_from_its_story(live: Any, visitor: Visitor) -> None:
    """It is found in the queue by its message id and its recipient."""
    message = {"recipient": "late@refusing.example", "envelope": "me@here.example", "mime": "Subject: hi\n\nhello\n"}
    assert live.ask("queue " + json.dumps(message | {"message-id": "late@here.example"})) == "queued"
    page = await visitor(live, "/logs")
    steps = page.locator(".drawer .steps")
    for _ in range(20):
        await page.goto(live.url + "/logs?message_id=late@here.example")
        with contextlib.suppress(AssertionError):
            await expect(steps).to_contain_text("tried again at", timeout=1500)
            break
    await expect(page.locator(".drawer-actions a")).to_have_text("In the queue")
    await page.click(".drawer [data-act=retry]")
    await expect(page.locator(".notes")).to_contain_text("It goes now.")


async def test_a_bounced_message_whose_mail_was_kept_is_sent_again(live: Any, visitor: Visitor) -> None:
    """From its story in the log over its result; it begins anew, and is found by its subject, decoded."""
    message = {"recipient": "back@null-mx.example", "envelope": "me@here.example", "keepmime": True}
    message |= {"mime": "Subject: =?utf-8?q?Z=C3=BCrich?=\n\nhello\n", "queues": {"failure": "failed"}}
    assert live.ask("queue " + json.dumps(message | {"message-id": "back@here.example"})) == "queued"
    page = await visitor(live, "/queue?queue=failed&containing=zürich")
    await page.locator(MESSAGES + " .opener").first.click()
    await expect(page.locator(".drawer-actions a")).to_have_text("Its story in the log")
    await page.click(".drawer [data-act=again]")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".notes")).to_contain_text("Queued as")
    await page.goto(live.url + "/logs?message_id=back@here.example")
    await expect(page.locator(".drawer-actions a")).to_have_text("In failed")


async def test_the_log_is_followed_live_and_counted(live: Any, visitor: Visitor) -> None:
    """New attempts come in at the top, without a reload."""
    page = await visitor(live, "/logs?range=15m")
    await rows(page, 20)
    await changes(page, "[data-row] .opener")
    await page.wait_for_function(
        "() => getElement(Number(document.querySelector('.chart').id.slice(1))).held.values.accepted?.some(Boolean)"
    )
    await page.click("[data-follow]")
    await expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "false")


async def test_rows_stay_while_somebody_points_at_them_or_reads_one(live: Any, visitor: Visitor) -> None:
    """What comes meanwhile is counted, and stands there when the mouse and the drawer have gone."""
    page = await visitor(live, "/logs?range=15m")
    await rows(page, 5)
    await page.hover("[data-row] >> nth=2")
    hint = page.locator(".sheet-hint")
    await expect(hint).to_contain_text("Paused while you look")
    before = await rows(page)
    await expect(hint).not_to_have_text(await hint.inner_text())
    assert await rows(page) == before
    await page.click("[data-row] >> nth=2")
    await expect(page.locator(".drawer")).to_be_visible()
    await page.mouse.move(5, 5)
    await expect(hint).not_to_have_text(await hint.inner_text())
    assert await rows(page) == before
    await page.keyboard.press("Escape")
    await expect(hint).to_be_hidden()
    await changes(page, "[data-row] .opener")


@pytest.mark.parametrize(("kind", "begins"), [("csv", b"v,time,"), ("json", b'{"v":'), ("parquet", b"PAR1")])
async def test_the_log_is_exported(live: Any, visitor: Visitor, kind: str, begins: bytes) -> None:
    """What the filters let pass, as CSV, JSON Lines or Parquet."""
    page = await visitor(live, "/logs?result=accepted")
    async with page.expect_download() as download:
        await page.click(f"[data-export={kind}]")
    path = await (await download.value).path()
    content = await asyncio.to_thread(Path(path).read_bytes)
    assert content.startswith(begins)


async def test_a_filter_that_cannot_be_used_is_said(live: Any, visitor: Visitor) -> None:
    """In one line, in place of the rows."""
    page = await visitor(live, "/logs?code=abc")
    await expect(page.locator(".empty")).to_contain_text("This cannot be answered")


# -- monitors -------------------------------------------------------------------------------------------------------


async def test_the_amqp_figures_move(live: Any, visitor: Visitor) -> None:
    """Also with the embedded queue."""
    page = await visitor(live, "/amqp")
    await expect(page.locator(".connection")).to_contain_text("Connected")
    await changes(page, ".strip [data-gauge=processed]")
    await changes(page, ".strip [data-gauge=delivered]")
    assert (await rows(page))[0] == "outbox"


async def test_the_dialogue_is_seen_both_ways_and_no_password(live: Any, visitor: Visitor) -> None:
    """Grouped by connection; a message that went by can be opened."""
    page = await visitor(live, "/smtp?direction=out")
    await page.wait_for_selector(".talk-out >> text=RCPT TO")
    assert not await page.locator(".talk-in").count()
    await page.locator(".talk-out li button").first.click()
    await expect(page.locator(".drawer")).to_contain_text("Subject:")
    await page.keyboard.press("Escape")
    await expect(page.locator(".drawer")).to_be_hidden()
    await page.goto(live.url + "/smtp?direction=in")
    await page.wait_for_selector(".talk-in >> text=MAIL FROM")
    await asyncio.to_thread(log_in, int(live.ask("port")))
    await expect(page.locator(".talk-in >> text=AUTH PLAIN ********").first).to_be_visible()
    content = await page.content()
    assert PASSWORD not in content
    assert "open-sesame" not in content
    await page.click("[data-switch]")
    await expect(page.locator("[data-switch]")).to_have_text("Start")


def log_in(port: int) -> None:
    """Send AUTH again and again, so that a busy monitor shows one of them."""
    for _ in range(30):
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.ehlo("client.example")
            client.docmd(f"AUTH PLAIN {PASSWORD}")
        time.sleep(0.1)


# -- Settings and Audit ---------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_opens_the_api_and_can_be_revoked(live: Any, visitor: Visitor) -> None:
    """Its name stands in the list, itself nowhere."""
    page = await visitor(live, "/settings")
    await page.click("[data-do-token]")
    await page.fill("input[name=name]", "the shop")
    await page.click(".box button[type=submit]")
    token = await page.inner_text(".secret code")
    ask = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=live.url) as client:
        assert (await client.get("/api/v1/status", headers=ask)).status_code == 200
        await page.click(".box button[type=submit]")
        await page.reload()
        await expect(page.locator("[data-row]:has-text('the shop')")).to_be_visible()
        assert token not in await page.content()
        await page.click("[data-act=revoke]")
        await page.click(".box button[type=submit]")
        await expect(page.locator(".notes")).to_contain_text("is revoked")
        assert (await client.get("/api/v1/status", headers=ask)).status_code == 401


async def test_users_change_their_own_passwords(live: Any, visitor: Visitor) -> None:
    """Whatever their role: the one before is asked for, and their sessions end."""
    page = await visitor(live, "/settings")
    await page.click("[data-do-user]")
    await page.fill(".box input[name=name]", "anna")
    await page.fill(".box input[name=password]", "correct horse")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".notes")).to_contain_text("Saved")
    await page.context.clear_cookies()
    await page.goto(live.url + "/login?redirect_to=/settings")
    await page.fill("#username", "anna")
    await page.fill("#password", "correct horse")
    await page.click("button[type=submit]")
    await page.click("[data-do-mine]")
    for name, value in (("now", "correct horse"), ("new", "better horse"), ("again", "better horse")):
        await page.fill(f".box input[name={name}]", value)
    await page.click(".box button[type=submit]")
    await page.wait_for_url("**/login*")


async def test_the_configuration_is_shown_without_secrets(live: Any, visitor: Visitor) -> None:
    """Each value with where it came from."""
    page = await visitor(live, "/settings?search=www-password")
    row = page.locator("[data-row=www-password]")
    await expect(row).to_contain_text("command line")
    assert "secret" not in await row.inner_text()


async def test_a_test_mail_goes_the_way_of_all_mail(live: Any, visitor: Visitor) -> None:
    """It is queued, and what is wrong is said where it is wrong."""
    page = await visitor(live, "/settings")
    await page.click("[data-do-test]")
    await page.fill("input[name=recipient]", "nobody")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".box .wrong").first).to_be_visible()
    await page.fill("input[name=recipient]", "ada@bigmail.example")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".notes")).to_contain_text("Queued as")


async def test_the_audit_says_who_changed_what(live: Any, visitor: Visitor) -> None:
    """With before and after."""
    page = await visitor(live, "/ips")
    await page.click("[data-row='127.0.0.3'] [data-act=rename]")
    await page.fill("input[name=name]", "Receipts")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".note")).to_be_visible()
    await page.goto(live.url + "/audit?search=Receipts")
    row = page.locator("[data-row]").first
    for text in ("console", "127.0.0.1", "create", "names of 127.0.0.3", "Receipts"):
        await expect(row).to_contain_text(text)
    await row.click()
    await expect(page.locator(".drawer [data-section=After]")).to_contain_text("Receipts")


async def test_the_audit_has_what_was_done_to_messages(live: Any, visitor: Visitor) -> None:
    """A bulk action stands there with its filters and how many it changed."""
    assert live.ask("queue " + waiting("gone@audited.example", "Subject: hi\n\nhello\n")) == "queued"
    page = await visitor(live, "/queue?domain=audited.example")
    await expect(page.locator(MESSAGES, has_text="audited.example")).to_have_count(1)
    await page.click("[data-bulk=delete]")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".notes")).to_contain_text("1 message is deleted.")
    await page.goto(live.url + "/audit?kind=messages&search=audited.example")
    row = page.locator("[data-row]").first
    for text in ("console", "127.0.0.1", "delete", "audited.example", "messages: 1"):
        await expect(row).to_contain_text(text)


# -- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_view_scrolls_sideways_on_a_phone_or_says_an_error(live: Any, visitor: Visitor, scheme: str) -> None:
    """And every control has a name."""
    page = await visitor(live, "/ips", width=390, height=844, color_scheme=scheme)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error} {error.stack}"))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    for view in VIEWS:
        await page.goto(f"{live.url}/{view}")
        await page.wait_for_timeout(1500)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        assert await page.evaluate(NAMELESS) == [], view
    assert wrong == []


# Controls that nobody could name: no label, no text, no aria-label.
NAMELESS = """() => [...document.querySelectorAll('.view button, .view input, .view select, .view a[href]')].filter(
    (control) => control.offsetParent !== null && !(control.getAttribute('aria-label') || control.innerText?.trim()
    || control.labels?.length || control.title)).map((control) => control.outerHTML.slice(0, 120))"""


async def opened(live: Any, count: int) -> None:
    """Wait until the console knows of so many pages: it gives one that has gone 15 s to come back."""
    for _ in range(60):
        if live.ask("open") == f"open {count}":
            return
        await asyncio.sleep(0.5)
    raise AssertionError(live.ask("open"))


async def test_closed_browsers_leave_nothing_behind(live: Any, visitor: Visitor) -> None:
    """No page, no timer, no watcher of the dialogue, no subscription to the events."""
    await opened(live, 0)
    before = live.ask("watching")
    pages = [await visitor(live, f"/{view}") for view in VIEWS]
    await pages[VIEWS.index("smtp")].wait_for_selector(".talk")
    await opened(live, len(VIEWS))
    assert live.ask("watching") != before
    for page in pages:
        await page.context.close()
    await opened(live, 0)
    assert live.ask("watching") == before
