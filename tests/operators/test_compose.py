"""`mime` as an object: what is composed of it is well formed, or it is refused with the property's name."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.message import InvalidMessage, from_properties
from operators.mail.source import build, source_of
from tests.support import strict

LONG = f"{'x' * 1000}@b.example"
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def parsed(**parts: Any) -> Any:
    source = build({"from": "me@b.example", **parts}, "id-1")
    head, _, body = source.partition(b"\r\n\r\n")
    strict.fields(head + b"\r\n")
    assert all(len(line) <= 998 for line in body.split(b"\r\n"))
    return email.message_from_bytes(source, policy=email.policy.default)


def file(content: bytes = b"x", **more: Any) -> dict[str, Any]:
    return {"content": base64.b64encode(content).decode(), "name": "a.pdf", "type": "application/pdf", **more}


@pytest.mark.parametrize(
    "parts",
    [
        {"subject": "Hello\r\nBcc: v@x.example"},
        {"subject": "abc\n"},
        {"subject": "a\0b"},
        {"subject": "a\x1bb"},
        {"from": "a@b.c\r\nBcc: v@x.example"},
        {"to": ["a@b.c", "c@d.e\n"]},
        {"to": {"name": "x\r\nBcc: y", "address": "a@b.c"}},
        {"to": {"name": "x", "address": "a@b.c>\r\nBcc: <v@x"}},
        {"headers": {"X\r\nBcc": "v@x.example"}},
        {"headers": {"X Y": "1"}},
        {"headers": {"": "1"}},
        {"headers": {"Bcc: v@x.example\r\nX": "1"}},
        {"headers": {"X": "a\r\n\r\nbody"}},
        {"headers": {"X": ["a", "b\n"]}},
        {"headers": {"Content-Type": "text/html"}},
        {"headers": {"Subject": "twice"}, "subject": "once"},
        {"headers": {"Message-ID": "<none>"}},
        {"text": "a\0b"},
        {"text": "\ud800"},
        {"html": 7},
        {"from": "nobody"},
        {"from": {"mail": "a@b.c"}},
        {"attachments": {"name": "a.pdf"}},
        {"attachments": [file(type="pdf")]},
        {"attachments": [file(type="a/b\r\nX: y")]},
        {"attachments": [file(type="multipart/mixed")]},
        {"attachments": [file(name="a\r\nb.pdf")]},
        {"attachments": [file(name="a\0.pdf")]},
        {"attachments": [file(b"x" * 999, type="message/rfc822")]},
        {"attachments": [{"content": "&&"}]},
        {"attachments": [{"name": "a.pdf"}]},
        {"attachments": [7]},
    ],
    ids=repr,
)
def test_what_cannot_stand_in_a_message_is_refused_by_its_name(parts: dict[str, Any]) -> None:
    """K1: a line that says which property, before anything is sent; nothing adds a field or ends the header."""
    with pytest.raises(InvalidMessage, match=r"^(mime\.(subject|from|to|headers|text|html|attachments)|headers)"):
        build({"from": "me@b.example", **parts}, "id-1")


@given(
    st.dictionaries(st.sampled_from(["from", "to", "cc", "subject", "text", "html", "headers", "attachments"]), JSON)
)
def test_whatever_the_parts_are_the_message_is_well_formed_or_refused(parts: dict[str, Any]) -> None:
    """K1: no exception but `InvalidMessage`, and no field that was not asked for."""
    try:
        source = build(parts, None)
    except InvalidMessage:
        return
    names = [name.lower() for name, _ in strict.fields(source.partition(b"\r\n\r\n")[0] + b"\r\n")]
    own = {"from", "to", "cc", "subject", "date", "message-id", "mime-version", "content-type",
           "content-transfer-encoding"}  # fmt: skip
    assert set(names) - own <= {name.lower() for name in parts.get("headers") or {}}
    assert b"\0" not in source and b"\n" not in source.replace(b"\r\n", b"")


def test_an_encoded_word_in_a_subject_is_text() -> None:
    """K1: `=0A` in it adds no field and ends no header, here or at a reader that decodes it."""
    source = build({"from": "me@b.example", "subject": "Hello=?utf-8?q?=0A=0A?=Bcc: v@x.example", "text": "t"}, "i")
    fields = strict.fields(source.partition(b"\r\n\r\n")[0] + b"\r\n")
    assert "Bcc" not in dict(fields)
    assert strict.text_of(dict(fields)["Subject"]) == "Hello=?utf-8?q?=0A=0A?=Bcc: v@x.example"


def test_addresses_may_be_objects_and_lists() -> None:
    """As MailerQ takes them; Bcc is for the envelope, and is not written."""
    mail = parsed(
        **{
            "from": {"name": "Müller, J.", "address": "me@b.example"},
            "to": [{"address": "a@b.example", "name": "B"}, "Ü <c@d.example>", "e@f.example, g@h.example"],
            "replyTo": {"address": "r@b.example", "name": "R"},
            "bcc": "secret@b.example",
            "cc": [],
        }
    )
    assert [(one.display_name, one.addr_spec) for one in mail["from"].addresses] == [("Müller, J.", "me@b.example")]
    assert [one.addr_spec for one in mail["to"].addresses] == [
        "a@b.example", "c@d.example", "e@f.example", "g@h.example"
    ]  # fmt: skip
    assert mail["reply-to"] == "R <r@b.example>"
    assert mail["bcc"] is None and mail["cc"] is None


@pytest.mark.parametrize("id", ["mail-1", "a@b.example", "odd id", "<x@y>", "a\r\nb", "", None, "ü", LONG])
def test_a_composed_message_has_a_message_id_with_a_right_side(id: str | None) -> None:
    """K1: RFC 5322 3.6.4; of the From domain, and the same in each attempt."""
    one, two = (email.message_from_bytes(build({"from": "Ü <me@bücher.example>"}, id)) for _ in range(2))
    assert re.fullmatch(r"<[^@\s<>]+@(xn--bcher-kva\.example|b\.example)>", one["Message-ID"])
    assert (one["Message-ID"] == two["Message-ID"]) is bool(id)


@pytest.mark.parametrize(
    ("headers", "sender"), [({}, "a@b.example"), ({"Sender": "s@b.example"}, "s@b.example")], ids=["none", "given"]
)
def test_several_authors_have_one_sender(headers: dict[str, str], sender: str) -> None:
    """K1: RFC 5322 3.6.2; the first of them where the application names none."""
    head = build({"from": ["A <a@b.example>", "c@d.example"], "headers": headers}, "1").partition(b"\r\n\r\n")[0]
    fields = dict(strict.fields(head + b"\r\n"))
    assert fields["From"].strip() == "A <a@b.example>, c@d.example"
    assert fields["Sender"].strip() == sender


def test_a_message_without_from_has_its_envelope_there() -> None:
    """RFC 5322 3.6: a message has one; receivers refuse it without."""
    source = build({"text": "t"}, "id", "me@bücher.example")
    fields = dict(strict.fields(source.partition(b"\r\n\r\n")[0] + b"\r\n"))
    assert (fields["From"], fields["Message-ID"]) == ("me@xn--bcher-kva.example", "<id@xn--bcher-kva.example>")
    assert build({"headers": {"From": "a@b.example"}}, "id", "me@c.example").startswith(b"From: a@b.example\r\n")


@pytest.mark.parametrize(
    ("text", "coding"),
    [("plain", None), ("Grüße aus Köln am Rhein, bei gutem Wetter", "quoted-printable"), ("用户例子广告", "base64"),
     ("x" * 999, "quoted-printable"),
     (".\r\nFrom x\n\r\r\n ", None)],
)  # fmt: skip
def test_bodies_are_ascii_with_short_lines(text: str, coding: str | None) -> None:
    """No receiver needs 8BITMIME or a long line for what we compose."""
    mail = parsed(text=text, html=f"<p>{text}</p>")
    plain, html = mail.iter_parts()
    assert (plain["Content-Transfer-Encoding"], html["Content-Transfer-Encoding"]) == (coding, coding)
    lines = re.sub(r"\r\n?", "\n", text)
    assert re.sub(r"\r\n?", "\n", plain.get_content()).rstrip("\n") == lines.rstrip("\n")
    assert mail.as_bytes().isascii()


NAMES = [
    "a.pdf",
    "Grüße, heute.pdf",
    'a"b\\c.pdf',
    "x" * 300 + ".pdf",
    "ü" * 200,
    "=?utf-8?q?=0A?=.pdf",
    "用户.pdf",
    "a;b=c",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_files_name_comes_back(name: str) -> None:
    """K1: RFC 2231; no encoded-word in a parameter (RFC 2047 5)."""
    source = build({"from": "me@b.example", "attachments": [file(name=name)]}, "i")
    head = source.split(b"Content-Disposition: ")[1].partition(b"\r\n\r\n")[0]
    [(_, value)] = strict.fields(b"Content-Disposition: " + head + b"\r\n")
    assert strict.parameters(value) == ("attachment", {"filename": name})


def test_a_message_in_a_message_is_not_encoded() -> None:
    """K1: RFC 2046 5.2.1, RFC 2045 6.4: 7bit or 8bit, and then the whole says 8bit, too."""
    for content, coding in ((b"Subject: x\n\ny\n", None), ("Subject: x\n\nü\n".encode(), "8bit")):
        mail = parsed(text="t", attachments=[file(content, type="message/rfc822", name="m.eml")])
        attached = [*mail.walk()][2]
        assert attached.get_content_type() == "message/rfc822"
        assert attached["Content-Transfer-Encoding"] == mail["Content-Transfer-Encoding"] == coding


def test_files_come_back_with_their_types() -> None:
    """Parameters of the type, too; base64 may have line ends in it."""
    content = bytes(range(256)) * 10
    given = {**file(type="text/csv; charset=utf-8"), "content": base64.encodebytes(content).decode()}
    mail = parsed(text="t", attachments=[given, file(b""), {"content": ""}])
    one, two, three = mail.iter_attachments()
    assert (one.get_content_type(), one.get_content_charset()) == ("text/csv", "utf-8")
    assert one.get_payload(decode=True) == content
    assert (two.get_filename(), two.get_payload(decode=True)) == ("a.pdf", b"")
    assert (three.get_content_type(), three.get_filename()) == ("application/octet-stream", None)


# -- changes of the header ------------------------------------------------------------------------------------------


def changed(
    changes: dict[str, Any], mime: str = "From: a@b.example\r\nTo: x@y.example\r\n\r\nbody\r\n"
) -> dict[str, str]:
    source = source_of(from_properties({"recipient": "r@b.example", "mime": mime, "headers": changes}))
    return dict(strict.fields(source.partition(b"\r\n\r\n")[0] + b"\r\n"))


def test_a_changed_from_keeps_its_address() -> None:
    """K1: encoded is the name, so a key for the domain finds it."""
    fields = changed({"replace": {"From": "Müller, Jürgen <a@b.example>", "Reply-To": "Ü <r@b.example>"}})
    assert strict.addresses(fields["From"]) == [("Müller, Jürgen", "a@b.example")]
    assert strict.addresses(fields["Reply-To"]) == [("Ü", "r@b.example")]


@pytest.mark.parametrize("kind", ["replace", "append", "prepend"])
def test_a_changed_one_click_link_stays_a_link(kind: str) -> None:
    """K1: RFC 8058."""
    link = "<https://mail.example/u/" + "a" * 80 + ">"
    assert changed({kind: {"List-Unsubscribe": link}})["List-Unsubscribe"] == link


def test_changes_are_made_where_the_header_really_ends() -> None:
    """K6: what stands behind a line that is no field is body, and is not changed."""
    source = source_of(
        from_properties({"mime": "A: 1\nno field\nB: 2\n\nx\n", "headers": {"remove": ["b"], "append": {"C": "3"}}})
    )
    assert source == b"A: 1\r\nC: 3\r\n\r\nno field\r\nB: 2\r\n\r\nx\r\n"


@given(st.dictionaries(st.sampled_from(["remove", "replace", "update", "prepend", "append"]), JSON))
def test_any_changes_leave_a_well_formed_header_or_are_refused(changes: dict[str, Any]) -> None:
    """K1: whatever an application hands in."""
    try:
        changed(changes)
    except InvalidMessage:
        return


def test_a_composed_message_takes_the_fast_way_where_it_is_text() -> None:
    """Speed: a well-formed `mime` string is not copied."""
    message = from_properties(msgspec.json.decode(b'{"mime": "A: 1\\r\\n\\r\\nx\\r\\n"}'))
    assert source_of(message) == b"A: 1\r\n\r\nx\r\n"
