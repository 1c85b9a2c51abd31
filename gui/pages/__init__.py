"""The views. Each is a module with a `PAGE`; this table is the one place that lists them, in the menu's order."""

from gui.pages import overview
from gui.view import Page

PAGES: tuple[Page, ...] = (overview.PAGE,)
SECTIONS: tuple[str, ...] = ("Monitor", "Deliver", "Receive", "System")
