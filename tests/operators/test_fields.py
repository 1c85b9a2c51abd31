"""The composer of header fields, read by a strict grammar of our own: `tests.support.strict`."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import assume, example
from hypothesis import given as whatever
from hypothesis import strategies as st

from operators.mail.encoded_words import decoded
from operators.mail.fields import address_field, field, host, message_id
from operators.mail.message import InvalidMessage
from tests.support import strict

CLEAN = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=120)
ODD = st.text(alphabet='aü,;:"\\()<>@. =?_\t🎉\u2028', max_size=60)
ANY = CLEAN | ODD


def value(name: str, text: str) -> str:
    """What a strict reader finds in the field."""
    [(found, read)] = strict.fields(field(name, text))
    assert found == name
    return read


# -- unstructured text -----------------------------------------------------------------------------------------------


@whatever(ANY)
@example("x" * 5000)
@example("ü" * 5000)
@example("word " * 300)
@example("a" + " " * 39 + "b")
def test_text_comes_back_as_it_was(text: str) -> None:
    """K1: whatever a subject holds, a strict reader finds the same, and no line is too long."""
    assume("=?" not in text)
    assert strict.text_of(value("Subject", text)) == text.strip(" \t")


@whatever(st.lists(st.sampled_from(["=?", "?=", "utf-8", "?q?", "?b?", "=0A", "Cg==", "=C3=BC", " ", "a", "ü", "?"])))
def test_nothing_that_looks_like_an_encoded_word_hides_a_line_break(pieces: list[str]) -> None:
    """K1: a reader that decodes too much finds text, not a line end; so does one that decodes by the rules."""
    text = value("Subject", "".join(pieces))
    assert not re.search(r"[\x00-\x08\x0a-\x1f]", strict.text_of(text))
    for kind, word in re.findall(r"=\?[^?]*\?([bq])\?([^?]*)\?=", text):
        assert not (kind == "q" and "=0A" in word) and not (kind == "b" and word == "Cg==")


@pytest.mark.parametrize(
    "text",
    ["Hello=?utf-8?q?=0A?=Bcc: v@x.example", "=?utf-8?q?=0D=0A?=", "=?utf-8?b?DQo=?=", "=?utf-8?q?=00?=", "=?x?q?a?="],
)
def test_an_encoded_word_that_is_none_or_hides_something_stays_text(text: str) -> None:
    """K1: the reader sees what was written, and no field more."""
    assert strict.text_of(value("Subject", text)) == text
    assert strict.addresses(value("From", f"{text.replace('@', '')} <a@b.example>"))[0][1] == "a@b.example"


@pytest.mark.parametrize("text", ["=?utf-8?q?J=C3=BCrgen?=", "Re: =?iso-8859-1?Q?M=FCller?= x", "=?UTF-8?B?w7w=?="])
def test_a_sound_encoded_word_stays_one(text: str) -> None:
    """Applications that encode by themselves go on."""
    assert value("Subject", text) == text


@pytest.mark.parametrize("character", [*map(chr, [*range(9), *range(10, 32), 127, 0x85, 0x9B])])
@pytest.mark.parametrize("name", ["Subject", "From", "List-Unsubscribe", "X-Own"])
def test_a_control_character_is_refused(name: str, character: str) -> None:
    """K1: in every kind of field, at any place; a line break above all."""
    for text in (f"a{character}b@c.d", f"a@b.c{character}", f"{character}a@b.c"):
        with pytest.raises(InvalidMessage, match=r"has a (line break or NUL|control character) in it"):
            field(name, text)


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nBcc", "Ü", "X\0", "X\t", "X;Y", " X", "x" * 201])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """K1: RFC 5322 3.6.8 says which are."""
    with pytest.raises(InvalidMessage, match="is no header name"):
        field(name, "x")


# -- addresses -------------------------------------------------------------------------------------------------------


@whatever(st.lists(st.tuples(ANY, st.sampled_from(["a@b.example", '"a b"@c.example', "x@[192.0.2.1]"])), min_size=1))
def test_a_display_name_comes_back_and_an_address_is_never_encoded(entries: list[tuple[str, str]]) -> None:
    """K1: quoted where it must be, encoded where it must be; a comma is no end, an `@` no address."""
    assume(all("=?" not in name for name, _ in entries))
    [(_, text)] = strict.fields(address_field("To", entries, "to"))
    wanted = [(name.strip(" \t"), address) for name, address in entries]
    found = strict.addresses(text)
    assert [address for _, address in found] == [address for _, address in wanted]
    for (name, _), (before, _) in zip(found, wanted, strict=True):
        assert name == re.sub(r"[ \t]+", " ", before).strip()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Jürgen <a@b.example>", [("Jürgen", "a@b.example")]),
        ("Müller, Jürgen <a@b.example>", [("Müller, Jürgen", "a@b.example")]),
        ('"Müller, Jürgen" <a@b.example>, c@d.example', [("Müller, Jürgen", "a@b.example"), ("", "c@d.example")]),
        ("Dr. J. Doe <a@b.example>", [("Dr. J. Doe", "a@b.example")]),
        ('He said "hi" <a@b.example>', [('He said hi', "a@b.example")]),
        ('"He said \\"hi\\"" <a@b.example>', [('He said "hi"', "a@b.example")]),
        ("me@work.example <a@b.example>", [("me@work.example", "a@b.example")]),
        ("a@b.example (Jürgen (x))", [("Jürgen (x)", "a@b.example")]),
        ("Jürgen (Sales) <a@b.example>", [("Jürgen (Sales)", "a@b.example")]),
        ("=?utf-8?q?J=C3=BCrgen=2C?= <a@b.example>", [("Jürgen,", "a@b.example")]),
        ("山田\u3000太郎 <a@b.example>", [("山田\u3000太郎", "a@b.example")]),
        ("Dupont\u00a0&\u2009Fils <a@b.example>", [("Dupont\u00a0&\u2009Fils", "a@b.example")]),
        ("<a@bücher.example>", [("", "a@xn--bcher-kva.example")]),
        ("a@b.example; c@d.example", [("", "a@b.example"), ("", "c@d.example")]),
        ("Team: Ä <a@b.example>, c@d.example;, e@f.example",
         [("Ä", "a@b.example"), ("", "c@d.example"), ("", "e@f.example")]),
        ("undisclosed-recipients:;", []),
        ("<@relay.example,@x.example:a@b.example>", [("", "a@b.example")]),
        ('"a@b"@c.example', [("", '"a@b"@c.example')]),
        ("a . b @ c . example", [("", "a.b@c.example")]),
        ("=?utf-8?q?=0ABcc=3A?= <a@b.example>", [("=?utf-8?q?=0ABcc=3A?=", "a@b.example")]),
        (", , a@b.example,", [("", "a@b.example")]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["From", "Reply-To", "Cc", "Resent-To", "Disposition-Notification-To"])
def test_addresses_as_people_write_them(name: str, given: str, wanted: list[tuple[str, str]]) -> None:
    """K1: each address field is written anew, by the grammar."""
    assert strict.addresses(value(name, given)) == wanted


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nobody",
        "a@",
        "@b",
        "a@b c@d.example",
        "a b@c.example",
        "<>",
        "a@b..c",
        "foo, a@b.c",
        "a@b.c(x)d.e",
        "<a@b.c(x)d.e>",
        "A <a@b.c d.e>",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    """K1: at acceptance, with the property's name."""
    with pytest.raises(InvalidMessage, match=r"^mime\.to: "):
        field("To", given, "mime.to")


def test_an_international_local_part_stays_as_it_is() -> None:
    """RFC 6532: it cannot be encoded, and only receivers with SMTPUTF8 get it; the name beside it is encoded."""
    assert field("To", "Äb <jürgen@b.example>") == "To: =?utf-8?b?w4Ri?= <jürgen@b.example>\r\n".encode()


# -- structured fields -----------------------------------------------------------------------------------------------

URL = "<https://mail.example/unsubscribe?user=" + "0123456789abcdef" * 12 + ">"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("List-Unsubscribe", f"{URL}, <mailto:leave@l.example?subject=leave>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("List-Help", URL),
        ("In-Reply-To", "<" + "x" * 200 + "@b.example>"),
        ("References", " ".join(f"<{number}.{'y' * 60}@b.example>" for number in range(50))),
        ("Message-ID", "<" + "x" * 120 + "@b.example>"),
        ("Received", "from a.example (a.example [192.0.2.1]) by b.example; Thu, 26 Nov 2026 10:00:00 +0000"),
        ("DKIM-Signature", "v=1; a=rsa-sha256; d=b.example; s=s; h=from:to; bh=" + "A" * 44 + "; b=" + "A" * 344),
        ("ARC-Seal", "i=1; a=rsa-sha256; cv=none; b=" + "A" * 344),
        ("Authentication-Results", "b.example; dkim=pass header.d=" + "a" * 90 + ".example"),
        ("Return-Path", "<a@b.example>"),
        ("Date", "Thu, 26 Nov 2026 10:00:00 +0000"),
        ("MIME-Version", "1.0"),
        ("Content-ID", "<x@b.example>"),
        ("Content-Transfer-Encoding", "quoted-printable"),
        ("Content-Type", 'multipart/mixed; boundary="' + "x" * 69 + '"'),
        ("X-Own", URL),
    ],
)  # fmt: skip
def test_a_structured_field_stands_as_it_is_given(name: str, given: str) -> None:
    """K1: no encoded-word in it, however long it is (RFC 2047 5); one-click needs the URL."""
    assert value(name, given) == given


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("List-Unsubscribe", "<https://bücher.example/ü?x=%20>", "<https://xn--bcher-kva.example/%C3%BC?x=%20>"),
        ("List-Post", "<mailto:liste@bücher.example>", "<mailto:liste@xn--bcher-kva.example>"),
        ("List-ID", "Jürgens Liste <l.bücher.example>", None),
        ("Message-ID", "<x@bücher.example>", "<x@xn--bcher-kva.example>"),
        ("Content-Disposition", 'attachment; filename="Grüße, heute.pdf"', None),
    ],
)
def test_beyond_ascii_a_structured_field_is_written_in_ascii(name: str, given: str, wanted: str | None) -> None:
    """K1: hosts in A-labels, URLs as URIs (RFC 3987), phrases encoded, parameters by RFC 2231."""
    found = value(name, given)
    if wanted is not None:
        assert found == wanted
    elif name == "List-ID":
        assert strict.addresses(found.replace("<", "<x@")) == [("Jürgens Liste", "x@l.xn--bcher-kva.example")]
    else:
        assert strict.parameters(found) == ("attachment", {"filename": "Grüße, heute.pdf"})


@pytest.mark.parametrize(
    ("name", "given"),
    [("In-Reply-To", "<ü@b.example>"), ("Date", "Do, 26. März"), ("DKIM-Signature", "ü"), ("Message-ID", "<nowhere>"),
     ("Message-ID", "a b@c"), ("Message-ID", ""), ("References", "x" * 1000),
     ("Date", "yesterday"), ("Resent-Date", ""), ("Sender", "a@b.example, c@d.example"),
     ("List-Unsubscribe", f"<https://x/{'a' * 999}>")],
)  # fmt: skip
def test_what_a_structured_field_cannot_hold_is_refused(name: str, given: str) -> None:
    """K1: with one line, at acceptance, rather than sent as nobody can read it."""
    with pytest.raises(InvalidMessage, match=rf"^headers\.{name}: "):
        field(name, given)


@whatever(st.sampled_from(["References", "List-Unsubscribe", "Received", "From", "Subject", "X-Own", "List-ID"]), ANY)
def test_whatever_is_written_is_well_formed_or_refused(name: str, given: str) -> None:
    """K1: of any field and any value; there is no third way."""
    try:
        written = field(name, given)
    except InvalidMessage:
        return
    if written.isascii():
        strict.fields(written)


@whatever(ANY, ANY)
def test_a_message_id_always_has_a_right_side(unique: str, domain: str) -> None:
    """K1: RFC 5322 3.6.4, whatever the application calls its message; the same for the same name."""
    made = message_id(unique, domain)
    assert value("Message-ID", made) == made == message_id(unique, domain)


def test_a_host_is_one() -> None:
    """In A-labels; what is none becomes `localhost`."""
    names = ("mx.example.", "bücher.example", "(none)", "", "a b", "x\r\ny", "ü" * 300)
    assert [host(name) for name in names] == ["mx.example", "xn--bcher-kva.example", *["localhost"] * 5]


@pytest.mark.parametrize(
    "pattern", ["a<", '"', '"\\', "(", "((a)", "a,", "a@b,", "=?", "=?utf-8?q?a?= ", "\\(", "[", "<@", "ü ", ":", "a:;"]
)
def test_time_grows_with_the_length_and_no_faster(pattern: str) -> None:
    """S1: the worst that fits into a field costs well under a second; with the square of its length, minutes."""
    text = (pattern * 100_000)[:99_000]
    began = time.process_time()
    for name in ("To", "Subject", "List-ID", "Content-Type"):
        with contextlib.suppress(InvalidMessage):
            field(name, text)
    decoded(text)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("length", [1, 40, 60, 200])
def test_a_long_name_leaves_room_for_its_text(length: int) -> None:
    """RFC 2047 2: a line with an encoded-word has at most 76 characters."""
    name = "X" * length
    assert strict.text_of(value(name, "ü" * 100)) == "ü" * 100


@pytest.mark.parametrize("text", ["attachment; filename*=utf-8''%C3%BC.pdf; x=ü", 'a/b; name="a;b\\"c"; x="ü"'])
def test_parameters_are_read_before_they_are_written(text: str) -> None:
    """RFC 2045 5.1, RFC 2231: a semicolon in quotes is no end, and what is encoded already stays."""
    _, found = strict.parameters(value("Content-Disposition", text))
    assert found["x"] == "ü"
    assert found.get("filename", "ü.pdf") == "ü.pdf" and found.get("name", 'a;b"c') == 'a;b"c'


@pytest.mark.parametrize("text", ["attachment; ü=1", "attachment; filename", "ä; a=b", 'a; b="ü'])
def test_what_is_no_parameter_is_refused(text: str) -> None:
    """K1: rather than left out."""
    with pytest.raises(InvalidMessage):
        field("Content-Disposition", f"{text}; x=ü")
