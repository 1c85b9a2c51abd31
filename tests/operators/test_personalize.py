"""Personal mails: which parts of a mail are templates, and that no value changes the form of the mail."""

from __future__ import annotations

import base64
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from operators.mail.message import InvalidMessage, from_properties
from operators.mail.source import source_of

TEXT = (
    "From: {$ourname} <info@example.org>\r\nTo: {$name} <{$recipient}>\r\nSubject: Hello {$name}!\r\n\r\nHi {$name}\r\n"
)


def sent(mime: Any, **more: Any) -> EmailMessage:
    message = from_properties({"recipient": "john@example.com", "envelope": "me@my.test", "mime": mime, **more})
    read = message_from_bytes(source_of(message), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


def test_from_to_subject_and_text_are_personal() -> None:
    """As documented; `recipient` and `envelope` need not be in `data`."""
    mail = sent(TEXT, data={"ourname": "The team", "name": "John Doe"})
    assert (mail["from"], mail["to"]) == ("The team <info@example.org>", "John Doe <john@example.com>")
    assert (mail["subject"], mail.get_content()) == ("Hello John Doe!", "Hi John Doe\r\n")


@pytest.mark.parametrize("name", ["Jörg, Döe", 'a" <evil@x.example>, "b', "x\r\nBcc: evil@x.example", "a@b.example"])
def test_a_value_never_changes_an_address_field(name: str) -> None:
    """Neither more addresses nor more fields, whatever stands in it."""
    mail = sent(TEXT, data={"ourname": name, "name": name})
    assert [str(one.addr_spec) for one in mail["from"].addresses] == ["info@example.org"]
    assert [str(one.addr_spec) for one in mail["to"].addresses] == ["john@example.com"]
    assert set(mail.keys()) <= {"From", "To", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}


def test_a_value_alone_may_be_an_address() -> None:
    """`To: {$email}`; and conditions may stand in a name."""
    source = "From: {if $name}{$name}{else}Customer{/if} <a@b.example>\r\nTo: {$email}, c@d.example\r\n\r\nx\r\n"
    mail = sent(source, data={"email": "x@y.example"})
    assert (mail["from"], mail["to"]) == ("Customer <a@b.example>", "x@y.example, c@d.example")


def test_encoded_parts_are_read_and_only_text_is_changed() -> None:
    """Whatever encoding and character set they have; HTML is escaped; files and preamble stay."""
    html = base64.b64encode("<p>Grüße {$n}</p>".encode()).decode()
    mime = (
        "From: a@b.example\r\nSubject: =?utf-8?q?=7B=24n=7D?=\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=xx\r\n\r\n{$n}\r\n--xx\r\n"
        "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        "Gr=FC=DFe {$=\r\nn}\r\n--xx\r\n"
        f"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{html}\r\n--xx\r\n"
        "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nraw {$n}\r\n--xx--\r\n"
    )
    mail = sent(mime, data={"n": "<X>"})
    plain, page, file = mail.iter_parts()
    assert mail["subject"] == "<X>" and mail.preamble.strip() == "{$n}"
    assert [part.get_content().strip() for part in (plain, page, file)] == [
        "Grüße <X>", "<p>Grüße &lt;X&gt;</p>", "raw {$n}",
    ]  # fmt: skip


def test_an_object_is_personal_in_all_its_fields() -> None:
    """Names, addresses, subject, text, HTML, headers; what is in the data is no template."""
    mime = {
        "from": {"name": "{$n}", "address": "a@{$domain}"}, "to": ["{$n} <{$recipient}>"], "subject": "S {$n}",
        "text": "T {$n}", "html": "<b>{$n}</b>", "headers": {"X-Id": "{$n}"},
    }  # fmt: skip
    mail = sent(mime, data={"n": "{$domain}<", "domain": "d.example"})
    assert [str(one.addr_spec) for one in mail["from"].addresses] == ["a@d.example"]
    assert (mail["subject"], mail["x-id"]) == ("S {$domain}<", "{$domain}<")
    plain, page = mail.iter_parts()
    assert (plain.get_content().strip(), page.get_content().strip()) == ("T {$domain}<", "<b>{$domain}&lt;</b>")


def test_headers_of_the_message_are_personal() -> None:
    """The `headers` property too."""
    mail = sent("From: a@b.example\r\n\r\nx\r\n", headers={"append": {"X-Id": "{$id}"}}, data={"id": 7})
    assert mail["x-id"] == "7"


@pytest.mark.parametrize("data", [{}, []])
def test_empty_data_is_data(data: Any) -> None:
    """Placeholders are filled with nothing: no placeholder reaches people. PHP writes an empty object as a list."""
    assert sent("From: a@b.example\r\n\r\n[{$x}]\r\n", data=data).get_content().strip() == "[]"


def test_without_data_nothing_is_a_template() -> None:
    """Braces are text then."""
    assert sent("From: a@b.example\r\n\r\n{$x} {if}\r\n").get_content().strip() == "{$x} {if}"


def test_what_cannot_be_filled_in_fails_with_its_state() -> None:
    """`personalize/error`, and where."""
    with pytest.raises(InvalidMessage, match="the text version: line 3") as caught:
        sent("From: a@b.example\r\n\r\nx\r\n{if $x}\r\n", data={})
    assert (caught.value.state, caught.value.result) == ("personalize", "error")


def test_all_templates_of_a_message_share_one_bound() -> None:
    """Ten times a tenth too much is too much."""
    loop = "{foreach $a in $l}{foreach $b in $l}{$b}{/foreach}{/foreach}"
    parts = {"from": "a@b.example", "subject": "x", "text": loop, "html": loop}
    with pytest.raises(InvalidMessage, match="does more than a template may"):
        sent(parts, data={"l": list(range(120))})


# -- style sheets ---------------------------------------------------------------------------------------------

PAGE = "<html><head><style>p{color:red} @media print{p{color:black}}</style></head><body><p>x</p></body></html>"


@pytest.mark.parametrize("mime", [
    {"from": "a@b.example", "html": PAGE},
    {"from": "a@b.example", "content": PAGE},
    f"From: a@b.example\r\nContent-Type: text/html\r\n\r\n{PAGE}\r\n",
])  # fmt: skip
def test_style_sheets_become_attributes(mime: Any) -> None:
    """`inlinecss`; what attributes cannot have stays a style sheet."""
    mail = sent(mime, inlinecss=True)
    page = mail.get_body(("html",)).get_content()
    assert '<p style="color: red;">' in page and "@media print" in page


def test_too_many_styles_fail_with_their_state() -> None:
    """`responsive/error`: they would hold up other mail."""
    rules = "".join(f"p.c{n}{{color:red}}" for n in range(3000))
    with pytest.raises(InvalidMessage) as caught:
        sent({"from": "a@b.example", "html": f"<style>{rules}</style>" + "<p>x</p>" * 3000}, inlinecss=True)
    assert (caught.value.state, caught.value.result) == ("responsive", "error")
