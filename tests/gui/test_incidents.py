"""The incidents of an operator's night, each walked in a real browser, with its clicks counted.

One program serves all of them. A journey may not take more clicks than it says: who makes a way longer, notices.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.support.api import TOKEN

Visitor = Callable[..., Awaitable[Page]]
pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]
PATIENCE = 30_000  # milliseconds


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A machine with a console and a simulated internet; the password is `secret`."""
    folder = tmp_path_factory.mktemp("incidents")
    options = ["--smtp-ip", "127.0.0.1", "--smtp-port", "0", "--shutdown-timeout", "1", "--api-token", TOKEN]
    logs = ["--send-log", str(folder / "send.log"), "--received-log", str(folder / "received.log")]
    stage = running_stage(folder, "--www-password", "secret", *options, *logs, program="live_stage.py")
    yield stage
    stage.stop()


class Walk:
    """A page whose clicks are counted."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    async def click(self, what: str, **more: Any) -> None:
        """Click the first of these."""
        await self.page.locator(what, **more).first.click(timeout=PATIENCE)
        self.clicks += 1

    async def sees(self, where: str, text: str | re.Pattern[str]) -> None:
        """It says so there, soon."""
        await expect(self.page.locator(where).first).to_contain_text(text, timeout=PATIENCE)


def api(live: Any, method: str, path: str, **more: Any) -> Any:
    """The API's answer."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.request(method, f"{live.url}/api/v1{path}", headers=headers, timeout=30, **more)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def queue(live: Any, recipient: str, **more: Any) -> None:
    """A message that stays in the queue for an hour."""
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    values = {"recipient": recipient, "envelope": "me@here.example", "mime": "Subject: hi\n\nhello\n", **more}
    values["nextattempt"] = {"time": f"{later:%Y-%m-%d %H:%M:%S}"}
    assert live.ask("queue " + json.dumps(values)) == "queued"


async def test_a_provider_that_defers_everything_is_found_understood_and_slowed_down(
    live: Any, visitor: Visitor
) -> None:
    """The verdict names it, its answers are counted, and the form says what a limit comes to from all MTA IPs."""
    assert live.ask("mail 30 university.example") == "sent"
    walk = Walk(await visitor(live, "/"))
    await walk.sees(".verdict", "university.example defers 100%")
    await walk.click(".troubles a", has_text="university.example")
    await walk.sees(".answer-grid", "greylisted; please try again")
    await walk.sees(".verdict", "university.example: Nothing was accepted")
    await expect(walk.page.locator("[data-gauge=waiting] dd")).not_to_have_text("0")
    await walk.click(".of-it a", has_text="Throttle it")
    await expect(walk.page.locator("#form-domain")).to_have_value("university.example")
    await expect(walk.page.locator("#form-ip")).to_have_value("")
    await walk.page.fill("#form-domain_messages", "15")
    await walk.sees(".rule-sheet", "15 messages a minute from each, 60 in all")
    await walk.click(".rule-sheet button[type=submit]")
    await expect(walk.page.locator(".rule-sheet")).to_be_hidden()
    assert walk.clicks == 3
    await walk.page.goto(live.url + "/domains?domain=university.example")
    await walk.sees(".lane-entry", "deferring")
    await walk.sees(".lane-verdict", re.compile("deferred.* for a retry: 451"))
    await walk.sees(".limits", "15 messages a minute")


async def test_an_answer_becomes_a_flood_pattern_with_two_clicks(live: Any, visitor: Visitor) -> None:
    """Its text is filled in, and would have matched."""
    assert live.ask("mail 12 university.example") == "sent"
    walk = Walk(await visitor(live, "/?domain=university.example"))
    await walk.click(".answer-grid a")
    await expect(walk.page.locator("#form-pattern")).to_have_value(re.compile("greylisted; please try again"))
    await walk.sees(".rule-sheet .aside", re.compile("Would have matched [1-9]"))
    assert walk.clicks == 1
    await walk.page.keyboard.press("Escape")


async def test_a_campaign_is_stopped_and_its_mail_deleted(live: Any, visitor: Visitor) -> None:
    """Paused by its tag, with a reason; then what is queued of it goes, and nothing else."""
    for number in range(3):
        queue(live, f"you{number}@bigmail.example", tags=["spring"])
    queue(live, "other@bigmail.example", tags=["receipts"])
    walk = Walk(await visitor(live, "/?tag=spring"))
    await walk.click("button.running")
    await walk.sees(".box", "Mail is still taken in, so the queue fills")
    assert await walk.page.input_value(".box select[name=minutes]") == "60"
    await walk.page.fill(".box input[name=reason]", "the wrong list")
    await walk.click(".box button[type=submit]")
    await walk.sees(".verdict", "spring: paused (the wrong list), for another")
    await walk.click(".of-it a", has_text="Queue")
    await expect(walk.page.locator("[aria-label=Messages] [data-row]")).to_have_count(3)
    await walk.click("[data-bulk=delete]")
    await walk.sees(".box", "Delete 3 messages?")
    await walk.click(".box button[type=submit]")
    await walk.sees(".notes", "3 messages are deleted")
    assert walk.clicks == 5
    left = api(live, "GET", "/messages", params={"containing": "@bigmail.example"})
    assert [one["tags"] for one in left["messages"]] == [["receipts"]]
    (pause,) = api(live, "GET", "/pauses")
    api(live, "DELETE", f"/pauses/{pause['id']}")


async def test_all_mail_is_not_stopped_by_a_slip_and_every_view_says_that_it_is(live: Any, visitor: Visitor) -> None:
    """Asked once, with an end; a red bar in each view; one click takes it back."""
    walk = Walk(await visitor(live, "/"))
    await walk.click("button.running")
    await expect(walk.page.locator(".box")).to_be_visible()
    await walk.page.keyboard.press("Escape")
    await expect(walk.page.locator("button.running")).to_contain_text("Running")
    await walk.click("button.running")
    await walk.page.fill(".box input[name=reason]", "half a wo")
    await walk.page.reload()  # as after a lost connection
    await walk.page.wait_for_selector(".tile-value")
    await walk.click("button.running")
    await expect(walk.page.locator(".box input[name=reason]")).to_have_value("half a wo")
    await walk.click(".box button[type=submit]")
    await walk.sees(".verdict", "All mail: paused (half a wo), for another")
    await expect(walk.page.locator(".verdict")).to_have_attribute("data-level", "bad")
    other = await walk.page.context.new_page()
    for path in ("/queue", "/ips", "/logs"):
        await other.goto(live.url + path)
        await expect(other.locator(".pause-bar")).to_contain_text("all mail")
    await other.goto(live.url + "/ips")
    await expect(other.locator("[data-row='127.0.0.2']")).to_contain_text("paused")
    await walk.click(".note button", has_text="Undo")
    await expect(walk.page.locator(".pause-bar")).to_be_hidden()
    await expect(walk.page.locator("button.running")).to_contain_text("Running")


async def test_who_changed_a_limit_yesterday_is_found_and_undone(live: Any, visitor: Visitor) -> None:
    """By the domain; with the rule in words, and not over what came since."""
    rule = api(live, "POST", "/throttles", json={"domain": "limited.example", "domain_messages": 600})
    changed = {"domain": "limited.example", "domain_messages": 6}
    api(live, "PUT", f"/throttles/{rule['id']}", json=changed)
    walk = Walk(await visitor(live, "/audit?search=limited.example"))
    await walk.sees("[data-row]", "limits of limited.example from all MTA IPs")
    await walk.sees("[data-row]", "Domain: Attempts 600 → 6")
    await walk.click("[data-row] .opener")
    await expect(walk.page.locator(".drawer a", has_text="Show the rule")).to_be_visible()
    await walk.click(".drawer [data-act=undo]")
    await walk.sees(".box", "Domain: Attempts: 6 becomes 600 again")
    await walk.click(".box button[type=submit]")
    await walk.sees(".notes", "Undone")
    assert walk.clicks == 3
    assert api(live, "GET", f"/throttles/{rule['id']}")["domain_messages"] == 600
    await walk.page.reload()
    await walk.click("[data-row] .opener", has_text="limited.example")
    await walk.page.wait_for_selector(".drawer")


async def test_an_address_that_asks_for_what_a_view_does_not_know_says_so(live: Any, visitor: Visitor) -> None:
    """And nothing is deleted by it: `?campaign=spring` must not mean everything."""
    queue(live, "kept@bigmail.example")
    page = await visitor(live, "/queue?campaign=spring")
    await expect(page.locator(".address-error")).to_contain_text("'campaign' is no filter of this view")
    await page.click("[data-bulk=delete]")
    await expect(page.locator(".notes")).to_contain_text("Not done: 'campaign' is no filter")
    for path in ("/logs?result=never", "/domains?sate=x", "/smtp?ip=x", "/audit?kind=x"):
        await page.goto(live.url + path)
        await expect(page.locator(".address-error")).to_be_visible()


async def test_everything_is_deleted_only_by_who_types_how_much_it_is(live: Any, visitor: Visitor) -> None:
    """A number that is another is refused."""
    queue(live, "all@bigmail.example")
    page = await visitor(live, "/queue")
    await page.wait_for_selector("[aria-label=Messages] [data-row]")
    await page.click("[data-bulk=delete]")
    await expect(page.locator(".box")).to_contain_text("no filter is set")
    await page.fill(".box input[name=count]", "0")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".box .wrong")).to_contain_text("is not")
    await page.keyboard.press("Escape")
    await expect(page.locator("[aria-label=Messages] [data-row]").first).to_be_visible()


async def test_what_a_pause_holds_is_deleted_where_the_pause_stands(live: Any, visitor: Visitor) -> None:
    """The pause itself stays."""
    pause = api(live, "POST", "/pauses", json={"domain": "florist.example"})
    for number in range(2):
        assert live.ask("queue " + json.dumps({"recipient": f"{number}@florist.example", "mime": "x"})) == "queued"
    page = await visitor(live, "/paused")
    await expect(page.locator("td.col-held").first).to_have_text("2", timeout=PATIENCE)
    await page.click("[data-act=delete-held]")
    await page.fill(".box input[name=count]", "2")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".notes")).to_contain_text("Deleted: 2 messages")
    await expect(page.locator("td.col-held").first).to_have_text("0", timeout=PATIENCE)
    api(live, "DELETE", f"/pauses/{pause['id']}")


async def test_what_was_never_seen_is_unknown_and_has_no_figures_of_the_machine(live: Any, visitor: Visitor) -> None:
    """Its gauges are its own."""
    page = await visitor(live, "/?domain=never.example")
    await expect(page.locator(".verdict")).to_contain_text("Nothing is known of never.example")
    for gauge in ("waiting", "attempting", "active", "idle", "parked"):
        await expect(page.locator(f"[data-gauge={gauge}] dd")).to_have_text("0")


async def test_an_mta_ip_that_a_provider_blocks_is_redirected_for_all_its_domains_and_back(
    live: Any, visitor: Visitor
) -> None:
    """Seen in the matrix of MTA IPs and providers; all domains of the provider move with one act, and come back."""
    assert live.ask("mail 60 blocked.example") == "sent"
    walk = Walk(await visitor(live, "/ips"))
    cell = "[data-row='mx1.blocked.example'] a.is-bad"
    await walk.sees(cell, "failing")
    await walk.click(cell)
    await walk.sees(".lane-verdict", "given up of")
    await walk.click("[data-act=redirect]")
    await walk.sees(".box", "Redirect blocked.example?")
    await walk.click(".box button[type=submit]")
    await walk.sees(".notes", "leaves from")
    await walk.page.goto(live.url + "/redirects")
    await walk.click("[data-act=end]")
    await walk.sees(".notes", "Ended")
    assert walk.clicks == 4


async def test_where_is_my_mail_is_answered_from_any_view(live: Any, visitor: Visitor) -> None:
    """By an address, a part of one, or a message id; in the queue and in the log, with the last answer."""
    queue(live, "bob@florist.example")
    assert live.ask("mail 1 bakery.example") == "sent"
    page = await visitor(live, "/settings")
    await page.keyboard.press("/")
    await page.keyboard.type("bob@flor")
    await expect(page.locator(".palette li", has_text="Queue")).to_contain_text("1 message in the queue")
    await page.keyboard.type("ist")
    await page.keyboard.press("Enter")  # before the answer to the whole address
    await page.wait_for_url("**/queue?containing=bob@florist")
    await expect(page.locator("[aria-label=Messages] [data-row]")).to_have_count(1)
    await page.keyboard.press("/")
    await page.keyboard.type("@bakery.example")
    await expect(page.locator(".palette li", has_text="Log")).to_contain_text("accepted 250", timeout=PATIENCE)
    await page.fill(".palette input", "nobody at all")
    await expect(page.locator(".palette p")).to_contain_text("Nothing is known of it", timeout=PATIENCE)


async def test_a_key_is_rotated_in_one_act(live: Any, visitor: Visitor) -> None:
    """A new selector for the same mail, its record to publish, and a word on which of both signs."""
    values = {"domain": "rotated.example", "selector": "old1", "algorithm": "ed25519", "generate": True}
    api(live, "POST", "/dkim-keys", json=values)
    walk = Walk(await visitor(live, "/dkim?q=rotated.example"))
    await walk.click("[data-act=rotate]")
    await walk.sees(".box", "old1 goes on alone")
    await walk.page.fill(".box input[name=selector]", "new1")
    await walk.click(".box button[type=submit]")
    record = walk.page.locator("dialog.record-box [data-part=name]")
    await expect(record).to_have_text("new1._domainkey.rotated.example", timeout=PATIENCE)
    await walk.click("dialog.record-box footer button")
    await walk.sees(".rule-grid tr:has-text('new1')", "waits for DNS")
    assert walk.clicks == 3


async def test_a_queue_that_grows_says_why_and_when_it_is_empty(live: Any, visitor: Visitor) -> None:
    """In and out a minute, the ages, and where it waits."""
    queue(live, "growth@bigmail.example")
    page = await visitor(live, "/queue")
    await expect(page.locator("[data-growth]")).to_contain_text(re.compile("come in|empty"), timeout=PATIENCE)
    await expect(page.locator(".bars dd.zero")).not_to_have_count(7, timeout=PATIENCE)


async def test_one_domains_conversation_is_one_click_from_its_overview(live: Any, visitor: Visitor) -> None:
    """The monitor is filtered by it."""
    walk = Walk(await visitor(live, "/?domain=florist.example"))
    await walk.click(".of-it a", has_text="SMTP monitor")
    await expect(walk.page.locator("input[name=domain]")).to_have_value("florist.example")
    assert live.ask("mail 1 florist.example") == "sent"
    await walk.sees(".talk", "florist.example")
    assert walk.clicks == 1


async def test_an_mta_ip_is_renamed_where_its_graph_is(live: Any, visitor: Visitor) -> None:
    """The console name alone; it stands beside the selector at once."""
    page = await visitor(live, "/?ip=127.0.0.3")
    await page.click("[data-do-rename]")
    await page.fill(".box input[name=name]", "Third")
    await page.click(".box button[type=submit]")
    await expect(page.locator(".ip-name")).to_have_text("Third")


async def test_each_view_says_what_it_is_for_and_an_address_that_is_none_says_so(live: Any, visitor: Visitor) -> None:
    """The `?` beside the title leads to the list of views; what is no view is ours all the same."""
    page = await visitor(live, "/queue")
    await page.click(".about")
    await page.wait_for_url("**/help#queue")
    await expect(page.locator("#queue + dd")).to_contain_text("What waits, why")
    await page.goto(live.url + "/no-such-view")
    await expect(page.locator("h1")).to_have_text("No such view")


async def test_the_demo_says_that_its_data_is_fictional(live: Any, visitor: Visitor) -> None:
    """In every view, so that nobody takes it for theirs; a real machine says nothing of the kind."""
    page = await visitor(live, "/queue")
    await expect(page.locator(".fictional")).to_have_count(0)
    assert live.ask("demo") == "demo"
    await page.reload()
    await expect(page.locator(".fictional")).to_contain_text("are fictional. All settings are real")
