"""What is chosen on the Overview, and the address that says so."""

from __future__ import annotations

import pytest

from gui.pages.overview import LINES, Choice


@pytest.mark.parametrize(
    ("query", "address"),
    [
        ({}, "/"),
        ({"range": "1h"}, "/?range=1h"),
        ({"range": "2h", "lines": ",".join(LINES)}, "/"),
        ({"lines": "errors,none,delivered"}, "/?lines=delivered,errors"),
        ({"lines": ""}, "/?lines="),
        ({"domain": "a&b=c.example"}, "/?domain=a%26b%3Dc.example"),
        ({"tag": "x", "ip": "192.0.2.1"}, "/?ip=192.0.2.1&tag=x"),
        ({"domain": "x" * 9999}, "/?domain=" + "x" * 255),
    ],
)
def test_an_address_says_what_is_chosen_and_nothing_else(query: dict[str, str], address: str) -> None:
    """What cannot be used falls back to its default."""
    assert Choice.of(query).address() == address
