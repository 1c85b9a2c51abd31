"""What the console costs: its first paint, and 20 browsers on the Overview while 500 messages a second flow.

Real browsers, over a real program that delivers to a receiver on loopback. What the browsers cost is the processor time
of the program with them less that without them, in the same run at the same rate. Needs Debian's chromium.
"""

from __future__ import annotations

import itertools
import pathlib
import statistics
import tempfile
import threading
import time

import httpx
import psutil
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.bench.table import Row, markdown
from tests.support.api import TOKEN
from tests.support.chromium import ARGUMENTS, CHROMIUM
from tests.support.mailbox import Mailbox
from tests.support.program import Program

BROWSERS, RATE, SECONDS, PAINTS = 20, 500, 30.0, 5
BATCH = 50
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


class Flow(threading.Thread):
    """Mail at a steady rate, by the API."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self.ended = url, threading.Event()

    def run(self) -> None:
        mail = {"envelope": "me@here.example", "mime": "Subject: hello\r\n\r\n" + ("x" * 76 + "\r\n") * 26}
        batch = [{**mail, "recipient": f"you@d{number % 20}.example"} for number in range(BATCH)]
        due = time.monotonic()
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
            while not self.ended.wait(max(0.0, due - time.monotonic())):
                client.post(f"{self._url}/api/v1/messages", json=batch).raise_for_status()
                due += BATCH / RATE


def log_in(browser: Browser, url: str) -> BrowserContext:
    """A browser with a session."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(url + "/login")
    page.fill("#password", "bench")
    page.click("button[type=submit]")
    page.wait_for_selector(".tile-value")
    return context


def painted(context: BrowserContext, url: str) -> float:
    """Milliseconds to the first paint of the Overview."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_function(PAINTED)
    took = float(page.evaluate(PAINTED))
    page.close()
    return took


def share(process: psutil.Process, mailbox: Mailbox) -> tuple[float, float]:
    """The share of a core that the program takes, and messages a second that it delivers meanwhile."""
    begin, before, delivered = time.monotonic(), sum(process.cpu_times()[:2]), mailbox.total
    time.sleep(SECONDS)
    took = time.monotonic() - begin
    return (sum(process.cpu_times()[:2]) - before) / took, (mailbox.total - delivered) / took


def rows() -> list[Row]:
    """For the table."""
    options = {"www_password": "bench", "api_token": TOKEN, "ip_maxconnections": 0}
    with (
        tempfile.TemporaryDirectory() as folder,
        Mailbox() as mailbox,
        Program(pathlib.Path(folder), delivery_sink=f"127.0.0.1:{mailbox.port}", **options) as program,
        sync_playwright() as playwright,
    ):
        assert program.process is not None
        url, process = f"http://127.0.0.1:{program.www_port}", psutil.Process(program.process.pid)
        flow = Flow(url)
        flow.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        first = log_in(browser, url)
        paint = statistics.median(painted(first, url) for _ in range(PAINTS))
        state = first.storage_state()
        first.close()
        time.sleep(20)  # until the page that was closed is forgotten
        alone, unwatched = share(process, mailbox)
        pages = [browser.new_context(storage_state=state).new_page() for _ in range(BROWSERS)]
        updates = itertools.count()
        for page in pages:
            page.on("websocket", lambda socket: socket.on("framereceived", lambda _: next(updates)))
            page.goto(url)
            page.wait_for_selector(".tile-value")
        pages[0].wait_for_timeout(15_000)  # until what came late while they were opened is delivered
        seen = next(updates)
        watched, rate = share(process, mailbox)
        pages[0].wait_for_timeout(100)  # lets Playwright hand over what came meanwhile
        each = (next(updates) - seen) / SECONDS / BROWSERS
        browser.close()
        flow.ended.set()
        flow.join()
    cost = watched - alone * rate / unwatched  # the browsers take the senders' time, too, on a small machine
    what = f"{BROWSERS} browsers on the Overview, {rate:.0f} messages and {each:.1f} updates of each a second"
    return [
        Row("first paint of the Overview on loopback, mail flowing", f"{paint:.0f} ms", f"{paint / 1000:.0%} of 1 s"),
        Row(what, f"{cost:.1%} of a core ({watched:.0%} with them, {alone:.0%} without)", f"{cost / 0.1:.0%} of 10 %"),
    ]


if __name__ == "__main__":
    print(markdown(rows()))
