"""Rewrite rules: what is changed in messages before their route is chosen, in the operator's order."""

from __future__ import annotations

from gui.components.rules.selecting_page import SelectingPage
from gui.components.view import ConsolePage


class Rewrites(SelectingPage):
    """One opened Rewrite rules."""

    path = "/rewrites"
    kind = "rewrites"
    noun = "rewrite rule"
    label = "Rewrite rules"
    drag = True
    empty = (
        "Messages go as they came",
        "A rule changes messages before their route is chosen: pool, MTA IPs, tags, smarthost, delay, a header.",
    )


PAGE = ConsolePage(
    path="/rewrites",
    title="Rewrite rules",
    section="Deliver",
    icon="M4 15.500l1-4 8-8 3 3-8 8zM11 5.500l3 3",
    key="w",
    build=Rewrites,
    purpose="What is changed in messages before their route is chosen, in your order.",
)
