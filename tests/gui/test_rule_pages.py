"""What an operator does with rules, in a real browser, over a real machine and a simulated internet."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Locator, Page, expect

Visitor = Callable[..., Awaitable[Page]]
VIEWS = (
    "tags",
    "providers",
    "suppressions",
    "throttling",
    "floods",
    "paused",
    "redirects",
    "pools",
    "external",
    "dkim",
    "local",
    "errors",
    "responses",
    "rewrites",
    "dns",
    "classes",
    "schedules",
    "warmups",
    "alerts",
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"

pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

# Controls that nobody could name: no label, no text, no aria-label.
NAMELESS = """() => [...document.querySelectorAll('button, input, select, textarea, a[href]')].filter((control) =>
    control.offsetParent !== null && !(control.getAttribute('aria-label') || control.textContent?.trim()
    || control.labels?.length || control.title)).map((control) => control.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A machine with a console; the password is `secret`."""
    folder = tmp_path_factory.mktemp("rules")
    options = ["--smtp-ip", "127.0.0.1", "--smtp-port", "0", "--shutdown-timeout", "1", "--server-id", "mx1.example"]
    stage = running_stage(
        folder, "--www-password", "secret", *options, "--send-log", str(folder / "send.log"), program="live_stage.py"
    )
    yield stage
    stage.stop()


async def fill(page: Page, **values: str) -> None:
    """Type into the open form."""
    for name, value in values.items():
        field = page.locator(f"#form-{name}")
        if await field.evaluate("field => field.tagName") == "SELECT":
            await field.select_option(value)
        else:
            await field.fill(value)


async def add(page: Page, **values: str) -> None:
    """Add a rule with the form."""
    await page.keyboard.press("n")
    await fill(page, **values)
    await page.click(".rule-sheet button[type=submit]")
    await expect(page.locator(".rule-sheet")).to_be_hidden()


def row(page: Page, text: str) -> Locator:
    """The row of the table of rules that has this text."""
    return page.locator(".rule-grid tbody tr", has_text=text)


async def pause(page: Page, reason: str = "") -> None:
    """Pause what the Overview shows, for an hour."""
    await page.locator("button.running").click()
    await page.fill(".box input[name=reason]", reason)
    await page.click(".box button[type=submit]")


async def undo(page: Page, said: str) -> None:
    """Take back what the page says has been done."""
    note = page.locator(".note", has_text=said).last
    await note.get_by_role("button", name="Undo").click()
    await expect(page.locator(".note", has_text="Undone").last).to_be_visible()


async def test_a_limit_is_added_edited_undone_found_and_deleted(live: Any, visitor: Visitor) -> None:
    """The whole life of a rule, with the way back from each step."""
    page = await visitor(live, "/throttling?q=life.example")
    await add(page, domain="fast.life.example", domain_messages="6000")
    await add(page, domain="slow.life.example", domain_messages="60", connection_security="required")
    await add(page, domain="slow.life.example", ip="127.0.0.2", domain_messages="30")
    await expect(page.locator(".rule-grid td.col-domain")).to_have_text(
        ["slow.life.example", "fast.life.example", "slow.life.example"]
    )
    await row(page, "fast.life.example").get_by_role("button", name=re.compile("Edit")).click()
    await fill(page, domain_messages="120")
    await page.reload()  # as a page does itself after a lost connection: what was typed is kept
    await expect(page.locator("#form-domain_messages")).to_have_value("120")
    await expect(page.locator("#form-domain")).to_have_value("fast.life.example")
    await page.click(".rule-sheet button[type=submit]")
    await expect(row(page, "fast.life.example").locator(".col-domain_messages")).to_have_text("120")
    await undo(page, "Changed: fast.life.example")
    await expect(row(page, "fast.life.example").locator(".col-domain_messages")).to_have_text("6,000")
    await row(page, "fast.life.example").get_by_role("button", name=re.compile("Delete")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(row(page, "fast.life.example")).to_have_count(0)
    await undo(page, "Deleted: fast.life.example")
    await expect(row(page, "fast.life.example").locator(".col-domain_messages")).to_have_text("6,000")


async def test_a_rule_that_somebody_deletes_while_it_is_edited_can_be_stored_as_a_new_one(
    live: Any, visitor: Visitor
) -> None:
    """The form keeps what was typed, and says what has happened."""
    page = await visitor(live, "/throttling")
    await add(page, domain="under.example", domain_messages="5")
    row = page.locator("tr", has_text="under.example")
    await row.click()
    await fill(page, domain_messages="7")
    other = await page.context.new_page()
    await other.goto(live.url + "/throttling")
    await other.locator("tr", has_text="under.example").locator("[data-act=remove]").click()
    await other.click(".box button[type=submit]")
    await expect(other.locator("tr", has_text="under.example")).to_have_count(0)
    await page.click(".rule-sheet button[type=submit]")
    await expect(page.locator(".rule-sheet [role=alert]")).to_contain_text("deleted meanwhile")
    await page.click(".rule-sheet button[type=submit]")
    await expect(row).to_contain_text("7")


async def test_a_link_to_a_lanes_limits_opens_the_form_of_its_rule_or_of_a_new_one(live: Any, visitor: Visitor) -> None:
    """That for the MTA IP and the domain, that for the domain, or a new one for both, as the lane drawer links it."""
    page = await visitor(live, "/throttling?ip=127.0.0.4&domain=linked.example")
    await expect(page.locator("#form-domain")).to_have_value("linked.example")
    await expect(page.locator("#form-ip")).to_have_value("127.0.0.4")
    await fill(page, ip="", domain_messages="77")
    await page.click(".rule-sheet button[type=submit]")
    await expect(row(page, "linked.example")).to_be_visible()
    await page.reload()
    await expect(page.locator("#form-domain_messages")).to_have_value("77")
    await expect(page.locator("#form-ip")).to_have_value("")


async def test_a_link_to_a_rule_marks_it(live: Any, visitor: Visitor) -> None:
    """As limits in force link to where they come from; of a rule that is gone it is said."""
    page = await visitor(live, "/throttling")
    await add(page, domain="marked.example", queue="5")
    id_ = await row(page, "marked.example").get_attribute("data-id")
    await page.goto(f"{live.url}/throttling?rule={id_}")
    await expect(page.locator(".rule-grid tr.marked")).to_contain_text("marked.example")
    await expect(page.locator(".rule-grid tr.marked")).to_be_in_viewport()
    await page.goto(f"{live.url}/throttling?rule=999999")
    await expect(page.locator(".note")).to_contain_text("is gone")


async def test_most_specific_limits_come_first(live: Any, visitor: Visitor) -> None:
    """In the order in which they are looked up."""
    page = await visitor(live, "/throttling")
    await add(page, queue="400")
    await add(page, ip="127.0.0.3", domain_connections="9")
    await add(page, domain="order.example", domain_connections="8")
    await add(page, domain="order.example", ip="127.0.0.3", domain_connections="7")
    order = await page.locator(".rule-grid tbody tr").evaluate_all(
        "rows => rows.map((row) => [row.querySelector('.col-domain a'), row.querySelector('.col-ip a')].map(Boolean))"
    )
    ranks = [(domain and ip, domain, ip) for domain, ip in order]
    assert [rank[0] for rank in ranks] == sorted([rank[0] for rank in ranks], reverse=True)
    assert ranks[-1] == (False, False, False) and ranks[-2] == (False, False, True)


async def test_domains_with_the_same_servers_are_warned_of(live: Any, visitor: Visitor) -> None:
    """They have one lane, so the limits of one hold for the other; what a rule applies to now is said, too."""
    page = await visitor(live, "/throttling")
    await add(page, domain="bigmail-uk.example", domain_messages="6000")
    assert live.ask("mail 2 bigmail.example") == "sent"
    assert live.ask("mail 2 bigmail-uk.example") == "sent"
    await expect(row(page, "bigmail-uk.example").locator(".rule-note")).to_contain_text(
        "bigmail.example", timeout=20_000
    )
    await expect(row(page, "bigmail-uk.example").locator(".col-applies")).to_contain_text("lane")
    await row(page, "bigmail-uk.example").get_by_role("button", name=re.compile("Edit")).click()
    await expect(page.locator(".aside").first).to_contain_text("Shares its servers with bigmail.example")
    await expect(page.locator(".aside").last).to_contain_text("Applies right now to")


async def test_a_form_says_what_is_wrong_as_one_types(live: Any, visitor: Visitor) -> None:
    """With the text of the one validation; nothing is stored before it is right."""
    page = await visitor(live, "/throttling?add")
    await fill(page, domain="not a domain")
    hint = page.locator("#form-domain-hint")
    await expect(hint).to_contain_text("is no domain name")
    await expect(page.locator("#form-domain")).to_have_attribute("aria-invalid", "true")
    await page.click(".rule-sheet button[type=submit]")
    await expect(page.locator("#form-domain")).to_be_focused()
    await fill(page, domain="right.example", domain_messages="-5")
    await expect(hint).to_contain_text("The destination")
    await expect(page.locator("#form-domain_messages-hint")).to_contain_text("allowed is 0 or more")
    await page.keyboard.press("Escape")
    await expect(page.locator(".rule-sheet")).to_be_hidden()
    await expect(row(page, "right.example")).to_have_count(0)


async def test_search_and_order_are_in_the_address(live: Any, visitor: Visitor) -> None:
    """So that they can be shared."""
    page = await visitor(live, "/local")
    for name in ("b@one.example", "a@one.example", "c@two.example"):
        await add(page, pattern=name)
    await page.keyboard.press("f")
    await page.keyboard.type("one.ex")
    await expect(page.locator(".rule-grid tbody tr")).to_have_count(2)
    await page.get_by_role("button", name="Pattern", exact=True).click()
    await page.get_by_role("button", name="Pattern").first.click()
    await expect(page).to_have_url(f"{live.url}/local?q=one.ex&sort=pattern&down=1")
    await page.reload()
    await expect(page.locator(".rule-grid td.col-pattern")).to_have_text(["b@one.example", "a@one.example"])
    await page.fill("[data-search]", "nothing at all")
    await expect(page.locator(".empty-title")).to_contain_text("Nothing matches")


async def test_a_row_leads_to_the_overview_which_pauses_and_resumes(live: Any, visitor: Visitor) -> None:
    """The Running button pauses what is selected, turns red, says how many are held, and resumes."""
    page = await visitor(live, "/throttling")
    await add(page, domain="florist.example", domain_messages="600")
    await row(page, "florist.example").get_by_role("link", name="florist.example").click()
    await page.wait_for_url(live.url + "/?domain=florist.example")
    button = page.locator("button.running")
    await expect(button).to_have_text("Running")
    await pause(page)
    await expect(button).to_contain_text("Paused")
    await expect(button).to_have_attribute("aria-pressed", "true")
    assert live.ask("mail 7 florist.example") == "sent"
    await expect(button).to_contain_text("7 held", timeout=15_000)
    await page.goto(live.url + "/paused")
    await expect(row(page, "florist.example").locator(".col-held")).to_have_text("7")
    await page.goto(live.url + "/")
    await expect(page.locator(".running-more")).to_have_text("1 paused")
    await page.goto(live.url + "/?domain=florist.example")
    await page.locator("button.running").click()
    await expect(page.locator("button.running")).to_have_text("Running")
    await expect(page.locator("[data-counter=delivered] .tile-value")).to_have_text(re.compile("^7"), timeout=20_000)


async def test_everything_can_be_paused_at_once(live: Any, visitor: Visitor) -> None:
    """And what is part of it says so, with the way to Paused deliveries."""
    page = await visitor(live, "/")
    await pause(page)
    await expect(page.locator("button.running")).to_contain_text("Paused")
    await page.goto(live.url + "/?domain=fast.example")
    covered = page.locator("a.running")
    await expect(covered).to_contain_text("with all mail")
    await covered.click()
    await page.wait_for_url(live.url + "/paused")
    await row(page, "everywhere").get_by_role("button", name=re.compile("Resume")).click()
    await expect(row(page, "everywhere")).to_have_count(0)
    await undo(page, "Resumed: all mail")
    await expect(row(page, "everywhere")).to_have_count(1)
    await row(page, "everywhere").get_by_role("button", name=re.compile("Resume")).click()
    await expect(row(page, "everywhere")).to_have_count(0)


async def test_a_key_is_generated_and_its_record_copied(live: Any, visitor: Visitor) -> None:
    """The private key never comes to the browser."""
    page = await visitor(live, "/dkim")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.click(".rules .empty .strong")
    await fill(page, domain="sender.example", selector="s1", algorithm="ed25519")
    await page.click("text=+ Add a pattern")
    await page.get_by_label("Patterns 1", exact=True).fill("shop.sender.example")
    await page.click(".rule-sheet button[type=submit]")
    record = page.locator("dialog.record-box")
    await expect(record.locator("[data-part=name]")).to_have_text("s1._domainkey.sender.example")
    await record.locator("[data-copy=value]").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", copied)
    await record.get_by_role("button", name="Close").click()
    await expect(row(page, "sender.example").locator(".col-dns")).to_contain_text("missing")
    await row(page, "sender.example").get_by_role("button", name=re.compile("Edit")).click()
    await expect(page.locator(".segments input:checked + span")).to_have_text("Keep")
    assert "PRIVATE KEY" not in (await page.content()).replace('BEGIN PRIVATE KEY-----"', "")


async def test_a_deleted_key_comes_back_whole(live: Any, visitor: Visitor) -> None:
    """Undo stores the same key again: its record is the same."""
    page = await visitor(live, "/dkim")
    await add(page, domain="back.example", selector="s1")
    value = page.locator("dialog.record-box [data-part=value]")
    before = await value.inner_text()
    await page.locator("dialog.record-box").get_by_role("button", name="Close").click()
    await row(page, "back.example").get_by_role("button", name=re.compile("Delete")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await undo(page, "Deleted: s1 of back.example")
    await row(page, "back.example").get_by_role("button", name=re.compile("DNS record")).click()
    await expect(value).to_have_text(before)


async def test_a_pasted_key_that_is_none_is_refused_without_quoting_it(live: Any, visitor: Visitor) -> None:
    """As one pastes it."""
    page = await visitor(live, "/dkim?add")
    await fill(page, domain="pasted.example", selector="s1")
    await page.click("text=Paste one")
    await fill(page, key="-----BEGIN PRIVATE KEY-----\nsecretsecret\n-----END PRIVATE KEY-----")
    await expect(page.locator("#form-key-hint")).to_contain_text("cannot be read; allowed is an unencrypted PEM")
    assert "secretsecret" not in await page.locator("#form-key-hint").inner_text()


async def test_a_flood_pattern_is_tried_before_it_is_stored(live: Any, visitor: Visitor) -> None:
    """On a text, and on the last real answers; then it slows a lane down, which can be ended early."""
    assert live.ask("mail 3 blocked.example") == "sent"
    page = await visitor(live, "/floods?add")
    await fill(page, name="Blocked", pattern="sent. contact your")
    await page.fill("#form-try", "550 5.7.1 messages weren't sent. Contact your provider")
    await expect(page.locator(".aside").first).to_contain_text("This answer matches")
    past = page.locator(".aside", has_text="negative answers")
    while "Would have matched" not in await past.inner_text() or " 0 of" in await past.inner_text():
        await page.wait_for_timeout(200)  # until the simulated receiver has answered
        await page.locator("#form-try").press("End")
        await page.keyboard.type(" ")
    await expect(past).to_contain_text("blocked.example")
    await page.click(".rule-sheet button[type=submit]")
    await expect(page.locator(".rule-sheet")).to_be_hidden()
    await page.fill(".tryout-bar input", "550 weren't sent. Contact your provider")
    await expect(page.locator(".tryout-bar .aside")).to_contain_text("Blocked matches.")
    assert live.ask("mail 1 blocked.example") == "sent"
    lane = page.locator(".floods-card tr", has_text="blocked.example").first
    await expect(lane).to_contain_text("paused", timeout=20_000)
    await expect(row(page, "Blocked").locator(".col-hits")).to_have_text("1")
    await page.goto(live.url + "/paused")
    await lane.get_by_role("button", name="End it").click()
    await page.get_by_role("dialog").get_by_role("button", name="End it").click()
    await expect(page.locator(".floods-card")).to_contain_text("No receiver has us paused")


async def test_flood_patterns_are_put_in_order_by_hand_and_by_key(live: Any, visitor: Visitor) -> None:
    """By dragging, and with the arrow keys; the new order can be undone."""
    page = await visitor(live, "/floods")
    for name in ("One", "Two", "Three"):
        await add(page, name=name, pattern=f"answer {name}")
    names = page.locator(".rule-grid td.col-name")
    before = await names.all_inner_texts()
    assert before[-3:] == ["One", "Two", "Three"]
    await row(page, "answer Three").locator(".handle").focus()
    await page.keyboard.press("ArrowUp")
    await expect(names).to_have_text([*before[:-3], "One", "Three", "Two"])
    await undo(page, "The order has changed")
    await expect(names).to_have_text(before)
    handle = await row(page, "answer Three").locator(".handle").bounding_box()
    target = await row(page, "answer One").bounding_box()
    assert handle and target
    await page.mouse.move(handle["x"] + 5, handle["y"] + 5)
    await page.mouse.down()
    await page.mouse.move(target["x"] + 20, target["y"] + 5, steps=5)
    await page.mouse.up()
    await expect(names).to_have_text([*before[:-3], "Three", "One", "Two"])
    await page.reload()
    await expect(names).to_have_text([*before[:-3], "Three", "One", "Two"])


async def test_a_redirect_counts_what_it_moves_and_refuses_loops(live: Any, visitor: Visitor) -> None:
    """What is redirected now is seen; a loop is refused with its line."""
    page = await visitor(live, "/redirects")
    for number in (1, 3, 4):
        await add(page, from_ip=f"127.0.0.{number}", to_ip="127.0.0.2", domain="bakery.example")
    assert live.ask("mail 6 bakery.example") == "sent"
    await expect(page.locator(".col-now .tone").first).to_contain_text("a minute", timeout=20_000)
    await page.keyboard.press("n")
    await fill(page, from_ip="127.0.0.2", to_ip="127.0.0.1", domain="bakery.example")
    await expect(page.locator("#form-to_ip-hint")).to_contain_text("makes a loop")
    await page.keyboard.press("Escape")
    await row(page, "127.0.0.1").get_by_role("button", name=re.compile("End")).click()
    await expect(page.locator(".rule-grid tbody tr")).to_have_count(2)
    await undo(page, "Ended: 127.0.0.1")
    await expect(page.locator(".rule-grid tbody tr")).to_have_count(3)


async def test_an_address_is_tried_on_the_local_addresses(live: Any, visitor: Visitor) -> None:
    """Which pattern makes it local."""
    page = await visitor(live, "/local")
    await add(page, type="wildcard", pattern="*@here.example")
    await page.fill(".tryout-bar input", "anybody@here.example")
    await expect(page.locator(".tryout-bar .aside")).to_contain_text("By *@here.example (wildcard)")
    await page.fill(".tryout-bar input", "anybody@there.example")
    await expect(page.locator(".tryout-bar .aside")).to_contain_text("Not local")


async def test_what_is_shown_can_be_exported(live: Any, visitor: Visitor) -> None:
    """As CSV and JSON; only what is looked for, and no private key."""
    page = await visitor(live, "/dkim")
    await add(page, domain="export.example", selector="s9")
    await page.locator("dialog.record-box").get_by_role("button", name="Close").click()
    await page.fill("[data-search]", "export.example")
    await expect(page.locator(".rule-grid tbody tr")).to_have_count(1)
    texts = {}
    for form in ("CSV", "JSON"):
        async with page.expect_download() as download:
            await page.get_by_role("button", name=f"Export as {form}").click()
        path = await (await download.value).path()
        texts[form] = await asyncio.to_thread(Path(path).read_text)
    (rule,) = json.loads(texts["JSON"])
    (line,) = csv.DictReader(texts["CSV"].splitlines())
    assert rule["selector"] == line["selector"] == "s9"
    assert "key" not in rule and "PRIVATE" not in texts["CSV"]


async def test_everything_from_outside_is_text(live: Any, visitor: Visitor) -> None:
    """A rule's name, and what was searched for."""
    page = await visitor(live, "/floods")
    await add(page, name=HOSTILE, pattern=HOSTILE)
    await expect(row(page, "<img src=x")).to_have_count(1)
    await page.goto(live.url + "/floods?q=" + quote("<img src=y onerror=document.title='owned'>"))
    await expect(page.locator(".rules .empty-title")).to_contain_text("<img src=y")
    await page.goto(live.url + "/floods")
    await row(page, "<img src=x").get_by_role("button", name=re.compile("Delete")).click()
    await expect(page.get_by_role("dialog")).to_contain_text("<img src=x")
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(row(page, "<img src=x")).to_have_count(0)
    assert "owned" not in await page.title()


async def test_every_change_says_who_and_from_where(live: Any, visitor: Visitor) -> None:
    """The audit has the console and the browser's address."""
    page = await visitor(live, "/local")
    await add(page, pattern="audited@here.example")
    assert live.ask("audit") == "console 127.0.0.1 create locals"


async def test_nothing_changes_after_the_session_has_ended(live: Any, visitor: Visitor) -> None:
    """A page stays open longer than its session; its buttons do nothing."""
    page = await visitor(live, "/local?add")
    await fill(page, pattern="late@here.example")
    other = await page.context.new_page()
    await other.goto(live.url + "/local")
    await other.click("[data-do=logout]")
    await other.wait_for_selector("#password")
    await page.evaluate("document.querySelector('.rule-sheet form')?.requestSubmit()")
    await page.wait_for_url("**/login*")
    assert "late@here.example" not in live.ask("locals")


@pytest.mark.parametrize("path", VIEWS)
async def test_a_phone_shows_every_view_and_every_control_has_a_name(live: Any, visitor: Visitor, path: str) -> None:
    """Nothing scrolls sideways, nothing is nameless; the form takes the whole screen."""
    page = await visitor(live, f"/{path}", width=390, height=844)
    await page.wait_for_selector(".rules")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    assert await page.evaluate(NAMELESS) == []
    await page.goto(f"{live.url}/{path}?add")
    await expect(page.locator(".rule-sheet")).to_be_visible()
    assert await page.evaluate(NAMELESS) == []
    assert await page.locator(".rule-sheet").evaluate("sheet => sheet.scrollWidth") <= 390


async def test_a_pool_opens_and_undo_gives_its_members_back(live: Any, visitor: Visitor) -> None:
    """Its row opens its members' figures; a MTA IP that leaves another pool is named, and goes back with Undo."""
    page = await visitor(live, "/pools")
    await add(page, name="gold", members="127.0.0.1, 127.0.0.2=3, 192.0.2.9")
    await expect(row(page, "gold")).to_contain_text("not of this machine, passed over: 192.0.2.9")
    await row(page, "gold").get_by_role("button", name="Members gold").click()
    await expect(page.get_by_role("heading", name="Members of gold")).to_be_visible()
    await expect(page.locator(".floods-card tbody tr")).to_have_count(3)
    await page.keyboard.press("n")
    await fill(page, name="silver", members="127.0.0.2")
    await expect(page.locator(".rule-sheet .aside")).to_contain_text("127.0.0.2 leaves the pool gold")
    await page.click(".rule-sheet button[type=submit]")
    await expect(page.locator(".note", has_text="127.0.0.2 left gold")).to_be_visible()
    await expect(page.locator(".floods-card tbody tr")).to_have_count(2)
    await undo(page, "127.0.0.2 left gold")
    await expect(page.locator(".floods-card tbody tr")).to_have_count(3)
    await row(page, "gold").get_by_role("button", name="Edit gold").click()
    await expect(page.locator("#form-members")).to_have_value("127.0.0.1, 127.0.0.2=3, 192.0.2.9")
    page = await visitor(live, "/?pool=gold")
    await expect(page.get_by_label("Show one of the pools")).to_have_value("gold")


async def test_an_mta_ip_is_warmed_held_and_let_go_on(live: Any, visitor: Visitor) -> None:
    """A schedule and a warm-up by form; what each IP may do today stands above, with hold and advance."""
    page = await visitor(live, "/schedules")
    await add(page, name="journey", steps="1=50, 2=100, 5=1000")
    await expect(row(page, "journey")).to_contain_text("1,000")
    await page.goto(f"{live.url}/warmups")
    await add(page, schedule="journey", ip="127.0.0.2", domain="warm.example")
    now = page.locator("tr", has_text="0 of 50")
    await expect(now).to_contain_text("1 of 5")
    await now.get_by_role("button", name="Hold").click()
    await expect(page.locator("tr", has_text="held")).to_be_visible()
    await page.get_by_role("button", name="Advance").click()
    await expect(page.locator("tr", has_text="0 of 100")).to_contain_text("2 of 5")
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=f"{folder}/warmups.png", full_page=True)
    await page.goto(f"{live.url}/schedules")
    await row(page, "journey").get_by_role("button", name=re.compile("Delete")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".note").last).to_contain_text("needs it")


@pytest.mark.parametrize(
    ("view", "values", "shown"),
    [
        ("errors", {"tag": "journey-stopped", "code": "554"}, "journey-stopped"),
        ("responses", {"name": "journey answer", "pattern": "journey", "retry": "60"}, "journey answer"),
        ("rewrites", {"name": "journey change", "when": 'subject contains "x"', "delay": "60"}, "journey change"),
        ("classes", {"name": "journey class", "pattern": "voll", "meaning": "mailbox-full"}, "journey class"),
        ("suppressions", {"value": "gone@journey.example"}, "gone@journey.example"),
        ("tags", {"name": "journey-tag", "weight": "7"}, "journey-tag"),
        ("providers", {"name": "journeymail", "patterns": "*.mx.journey.example"}, "journeymail"),
    ],
)
async def test_a_rule_of_each_kind_is_made_by_form_and_taken_back(
    live: Any, visitor: Visitor, view: str, values: dict[str, str], shown: str
) -> None:
    """It stands in its view when the form has closed; Undo takes it back."""
    page = await visitor(live, f"/{view}")
    await add(page, **values)
    await expect(row(page, shown).first).to_be_visible()
    await page.locator(".note").last.get_by_role("button", name="Undo").click()
    await expect(row(page, shown)).to_have_count(0)


# Chromium's headless shell has no notifications, and says that they are denied.
RECORDED = """window.Notification = class extends Notification {
    static get permission() { return localStorage.getItem("allowed") ?? "default"; }
    static async requestPermission() { localStorage.setItem("allowed", "granted"); return "granted"; }
    constructor(title, more) { super(title, more); (window.told ??= []).push(`${title}: ${more.body}`); } }"""


async def test_an_alert_rule_is_added_tested_and_tells_the_browser(live: Any, visitor: Visitor) -> None:
    """Notifications are asked for by a click alone; of two pages one tells; what became of a notice stands there."""
    page = await visitor(live, "/alerts", permissions=["notifications"])
    await page.context.add_init_script(RECORDED)
    await page.reload()
    await page.click("[data-act=notify][aria-pressed=false]")
    await expect(page.locator("[data-act=notify]")).to_have_text("Notifications: on")
    other = await page.context.new_page()
    await other.goto(live.url + "/queue")
    await other.wait_for_selector(".view .card")
    await page.keyboard.press("n")
    await fill(page, name="the verdict")
    await page.get_by_label("Browser", exact=True).check()
    await page.click(".rule-sheet button[type=submit]")
    await row(page, "the verdict").get_by_role("button", name="Send a test").click()
    await expect(page.locator(".whole-texts", has_text="browser: arrived")).to_be_visible()
    await page.wait_for_function("Object.keys(localStorage).some((key) => key.startsWith('mailrace-told-alert'))")
    told = [one for where in (page, other) for one in await where.evaluate("window.told ?? []")]
    assert len(told) == 1 and told[0].startswith("TEST mx1.example: the verdict: This is a test")


async def test_a_throttle_is_named_where_it_stands_and_says_what_falls_through(live: Any, visitor: Visitor) -> None:
    """0 is unlimited; what is empty is decided by the next rule, or the configuration."""
    page = await visitor(live, "/throttling?q=Gmail")
    await page.keyboard.press("n")
    await fill(page, name="Gmail warm", domain="named.example", domain_messages="0")
    await expect(page.locator(".rule-sheet")).to_contain_text("What is empty falls through:")
    await expect(page.locator(".rule-sheet")).to_contain_text("by the configuration")
    await page.click(".rule-sheet button[type=submit]")
    await expect(row(page, "Gmail warm").locator(".col-domain_messages")).to_have_text("unlimited")
