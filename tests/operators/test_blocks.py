"""Blocks: HTML and text of a mail that is described and not written."""

from __future__ import annotations

from email import message_from_bytes, policy
from typing import Any

import pytest

from operators.mail.message import InvalidMessage, from_properties
from operators.mail.source import source_of


def versions(*blocks: Any, **mime: Any) -> tuple[str, str]:
    """(HTML, text) as a reader of mail has them."""
    parts = {"from": "a@b.example", "subject": "S", "content": {"blocks": list(blocks)}, **mime}
    data = {"data": mime.pop("data")} if "data" in mime else {}
    parts.pop("data", None)
    source = source_of(from_properties({"recipient": "c@d.example", "mime": parts, **data}))
    mail: Any = message_from_bytes(source, policy=policy.default)
    return mail.get_body(("html",)).get_content(), mail.get_body(("plain",)).get_content()


KINDS = {
    "text": ({"type": "text", "content": "a < b\nc"}, "a &lt; b<br>\nc", "a < b\nc"),
    "html": ({"type": "html", "content": "<p>x</p><p>y</p>"}, "<p>x</p><p>y</p>", "x\ny"),
    "heading": ({"type": "heading", "size": 2, "content": "T"}, "<h2>T</h2>", "T"),
    "image": ({"type": "image", "src": "http://x.example/a.png", "alt": "A"}, 'src="http://x.example/a.png"', "A"),
    "button": (
        {"type": "button", "label": "Go", "link": {"url": "http://x.example/?a=1", "params": {"b": "2"}}},
        'href="http://x.example/?a=1&amp;b=2"',
        "Go: http://x.example/?a=1&b=2",
    ),
    "button without a link": ({"type": "button", "label": "click here"}, ">click here</span>", "click here"),
    "link": (
        {"type": "link", "label": "L", "link": {"url": "mailto:a@b"}},
        '<a href="mailto:a@b">L</a>',
        "L: mailto:a@b",
    ),
    "line": ({"type": "line"}, "<hr", "----"),
    "container": ({"type": "container", "blocks": [{"type": "text", "content": "in"}]}, "in", "in"),
    "columns": (
        {"type": "columns", "columns": [{"blocks": [{"type": "text", "content": "l"}]}, {"size": 6, "blocks": []}]},
        'width="50%"',
        "l",
    ),
    "social": (
        {"type": "social", "networks": {"facebook": "http://f.example/x"}},
        ">Facebook</a>",
        "http://f.example/x",
    ),
}


@pytest.mark.parametrize(("block", "markup", "text"), KINDS.values(), ids=KINDS.keys())
def test_a_block_becomes_html_and_text(block: dict[str, Any], markup: str, text: str) -> None:
    """Each of the published types."""
    page, plain = versions(block)
    assert markup in page.replace("\r\n", "\n") and text in plain.replace("\r\n", "\n")


def test_a_text_of_its_own_stays() -> None:
    """Blocks make one only where there is none."""
    assert versions({"type": "text", "content": "x"}, text="mine")[1].strip() == "mine"


def test_blocks_are_personal() -> None:
    """Values are escaped once."""
    page, plain = versions(
        {"type": "text", "content": "{$n}"}, {"type": "html", "content": "<b>{$n}</b>"}, data={"n": "<x>"}
    )
    assert page.count("&lt;x&gt;") == 2 and "&amp;lt;" not in page and "<x>" in plain


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"type": "carousel"}, r"blocks\[0\]: there is no block of type 'carousel'"),
        ({"content": "x"}, "there is no block of type ''"),
        ("x", "must be an object"),
        ({"type": "text"}, "content: is missing"),
        ({"type": "image", "src": "javascript:alert(1)"}, "is no address to link to"),
        ({"type": "button", "label": "x", "link": {"url": "data:text/html,x"}}, "is no address to link to"),
        ({"type": "columns", "columns": []}, "1 to 12 columns"),
    ],
)
def test_a_block_that_cannot_be_used_fails_the_message_with_its_name(block: Any, why: str) -> None:
    """`responsive/error`."""
    with pytest.raises(InvalidMessage, match=why) as caught:
        versions(block)
    assert (caught.value.state, caught.value.result) == ("responsive", "error")


def test_styles_cannot_leave_their_attribute() -> None:
    """Only plain values are taken."""
    ground = {"color": 'red;}</style><script>"'}
    page, _ = versions({"type": "text", "content": "x", "background": ground, "css": {"a b": "1", "color": "url(x)"}})
    assert "script" not in page and "a b" not in page
