"""What the browser is sent, and what it is never sent."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from nicegui import Client
from nicegui.page import page

from gui.components.filter_bar import Field, address, kept
from gui.components.live_table import Column, Empty, LiveTable, csv_of, pager, shown
from gui.components.mail import preview as preview_module
from gui.components.mail.preview import MOST, framed, preview
from pipeline.process.children import ChildKind
from pipeline.process.supervisor import supervisor


def test_text_from_outside_is_cut_and_its_marks_made_visible() -> None:
    """Direction marks would turn the rest of a line around."""
    assert shown("a\u202eb\x00c\n") == "a\\u202eb\\u0000c\\u000a"
    assert shown("x" * 1_000_000) == "x" * 500 + "…"


def test_csv_has_no_formulas_from_outside() -> None:
    """A spreadsheet would run them."""
    columns = [Column("a", "A"), Column("b", "B", "answer")]
    told = csv_of(columns, [{"key": "1", "a": '=HYPERLINK("x"),"y"', "b": {"code": "550", "text": "no"}}])
    assert list(csv.reader(io.StringIO(told))) == [["A", "B"], ['\'=HYPERLINK("x"),"y"', "550 no"]]


@pytest.mark.parametrize(
    ("offset", "count", "total", "told"),
    [
        (0, 50, 10_000, {"text": "1–50 of 10,000", "back": False, "on": True}),
        (9_950, 50, 10_000, {"text": "9,951–10,000 of 10,000", "back": True, "on": False}),
        (0, 0, 0, {"text": "0 of 0", "back": False, "on": False}),
    ],
)
def test_a_page_says_where_it_lies(offset: int, count: int, total: int, told: dict[str, object]) -> None:
    """First and last row, and whether there are others before and after."""
    assert pager(offset, count, total) == told


def test_an_address_holds_only_what_its_filters_can() -> None:
    """What somebody wrote into the address is from outside."""
    fields = (Field("search", "Search"), Field("state", "State", "choice", options=(("", "All"), ("paused", "Paused"))))
    said = {"search": "  x&y=1 ", "state": "<script>", "other": "1"}
    assert kept(fields, said) == {"search": "x&y=1"}
    assert address("/domains", kept(fields, said)) == "/domains?search=x%26y%3D1"


@pytest.mark.parametrize(
    "tag",
    ["<link rel=x>", "<LINK\nrel=x>", "<meta x>", "</base>", "<base/href=x>", "<link", "<iframe src=x>", "<Object x>"],
)
def test_what_connects_before_any_policy_is_no_element(tag: str) -> None:
    """`link` connects, `meta` redirects, `base` moves links, a frame connects too soon: all are renamed."""
    name = tag.strip("</>").split()[0].split("/")[0]
    document = framed(f"<p>hi</p>{tag}")
    body = document.partition("<p>")[2]
    assert f"x-{name}" in body
    assert f"<{name}" not in body


def test_the_frame_has_a_policy_before_anything_from_outside() -> None:
    """Nothing but inline styles and images within the document."""
    document = framed("<p>hi</p>")
    assert document.index("default-src 'none'") < document.index("<p>hi</p>")


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\xff\xfe\x00",
        b"Content-Type: text/html; charset=no-such-thing\n\n<p>\xe4</p>",
        b"Content-Type: multipart/mixed; boundary=\n\n--\n--",
        b"Subject: =?utf-8?b?////?=\n\nx",
    ],
)
def test_broken_mime_is_shown_as_far_as_it_goes(source: bytes) -> None:
    """Its source always is."""
    assert preview(source).source == source.decode(errors="replace")


@pytest.mark.slow
def test_a_message_that_takes_long_to_parse_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """To Python's parser these are hours of work: its source is shown all the same, and it is said."""
    monkeypatch.setattr(preview_module, "PATIENCE", 0.5)
    source = b"Content-Type: " + b"a;" * 1_000_000 + b"\n\nx"
    parts = preview(source)
    assert (parts.whole, parts.source, parts.text) == (False, source[:MOST].decode(), "")


@pytest.mark.slow
def test_text_and_html_are_taken_out() -> None:
    """Whatever characters are in them."""
    source = b"Content-Type: multipart/alternative; boundary=b\n\n--b\n\n" + "Grüße\n--b\n".encode()
    source += b"Content-Type: text/html; charset=utf-8\n\n<p>\xf0\x9f\x90\x8e\n--b--\n"
    parts = preview(source)
    assert (parts.whole, parts.html) == (True, "<p>\U0001f40e")
    assert parts.text.startswith("Gr")


@pytest.fixture
def sent() -> Iterator[tuple[LiveTable, list[dict[str, Any]]]]:
    """A table, and what it sends."""
    patches: list[dict[str, Any]] = []
    with Client(page("/table"), request=None):
        table = LiveTable([Column("a", "A"), Column("b", "B")], "rows", Empty("Nothing"))
    table.run_method = lambda name, *arguments: patches.extend(arguments)  # type: ignore[method-assign, assignment]
    yield table, patches
    table.client.delete()


def test_only_what_changed_is_sent(sent: tuple[LiveTable, list[dict[str, Any]]]) -> None:
    """A cell costs its own bytes, what stays the same nothing."""
    table, patches = sent
    rows = [{"key": "x", "a": 1, "b": 1}, {"key": "y", "a": 2, "b": 2}]
    table.show(rows, sort="a")
    table.show(rows, sort="a")
    table.show([{"key": "x", "a": 1, "b": 7}, rows[1]], sort="a")
    table.show([rows[1]], sort="b")
    assert patches == [
        {"sort": "a", "cells": {"x": {"a": 1, "b": 1}, "y": {"a": 2, "b": 2}}, "order": ["x", "y"]},
        {"cells": {"x": {"b": 7}}},
        {"sort": "b", "order": ["y"]},
    ]


def test_a_table_without_rows_says_so_at_once(sent: tuple[LiveTable, list[dict[str, Any]]]) -> None:
    """Else it would look as if it were still loading."""
    table, patches = sent
    table.show([])
    table.show([])
    assert patches == [{"order": []}]


async def test_a_preview_that_cannot_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """K5, K11: the page says that it is not whole, and the fault stands; mail is not concerned."""
    monkeypatch.setattr("gui.components.mail.preview.PREVIEW", ChildKind("preview", "no.such.module"))
    with supervisor().hear():
        parts = await asyncio.to_thread(preview, b"Subject: x\r\n\r\nbody")
        await asyncio.sleep(0)
    assert (parts.header, parts.text, parts.whole) == ("Subject: x", "", False)
    assert "No module named" in supervisor().faults[0] and not supervisor().grave
