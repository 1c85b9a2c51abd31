"""The views. Each is a module with a `PAGE`; this table is the one place that lists them, in the menu's order."""

from gui.pages import dkim, domains, floods, ips, local, overview, paused, queue, redirects, throttling
from gui.view import Page

PAGES: tuple[Page, ...] = (
    overview.PAGE, ips.PAGE, domains.PAGE, queue.PAGE,
    throttling.PAGE, floods.PAGE, paused.PAGE, redirects.PAGE, dkim.PAGE,
    local.PAGE,
)  # fmt: skip
SECTIONS: tuple[str, ...] = ("Monitor", "Deliver", "Receive", "System")
