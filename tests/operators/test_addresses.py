"""Which addresses can stand in MAIL and RCPT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.addresses import ascii_domain, loosely, path, valid_path

GOOD = [
    "a@b", "someone@example.com", "first.last+tag@mail.example.co.uk", "!#$%&'*+-/=?^_`{|}~@example.com",
    '"quoted string"@example.com', r'"a\"b@c"@example.com', "x@[192.0.2.1]", "x@[IPv6:2001:db8::1]", "x@[tag:data]",
    "jürgen@example.com", "x@bücher.example", "x@xn--bcher-kva.example", "x@under_score.example", "用户@例子.广告",
    "a" * 64 + "@example.com", "x@" + ".".join(["d" * 60] * 4), "x@example.com.",
]  # fmt: skip
BAD = [
    "", "someone", "@example.com", "x@", "a b@example.com", "x@example.com..", "x@.", "x@[IPv6:fe80::1%en0]",
    "a@b c", "a@b\r\nRCPT TO:<c@d>", "a\r\n@b.c", "a@b.c\n", "a\0@b.c", "a@b\0.c", "a>@b.c", "<a@b.c>", "a@b.c> SIZE=1",
    "a@b@c.d ", '"a\r\nb"@c.d', '"a"b@c.d', '"a@c.d', "a@-b.c", "a@b..c", "a@[1.2.3]", "a@[1.2.3.4", "a@[IPv6:x]",
    "a@[1.2.3.4]>", "a" * 65 + "@b.c", "a@" + "b" * 64 + ".c", "a@" + ".".join(["d" * 60] * 5), "ü" * 33 + "@b.c",
    "a\u2028b@c.d", "a\u00a0b@c.d", "a@b\u3000c", "\ud800@b.c", "a\x7f@b.c", "a(c)@b.c", "a,b@c.d", "a:b@c.d",
]  # fmt: skip


@pytest.mark.parametrize("address", GOOD)
def test_a_mailbox_is_valid(address: str) -> None:
    """RFC 5321 4.1.2 and RFC 6531 3.3."""
    assert valid_path(address)


@pytest.mark.parametrize("address", BAD)
def test_what_is_no_mailbox_is_not(address: str) -> None:
    """Above all what would be more than an address on the wire."""
    assert not valid_path(address)


@given(st.text(max_size=80) | st.text(alphabet='a.@"\\<> \r\n\0[]é', max_size=20))
def test_a_valid_address_adds_nothing_to_a_command(address: str) -> None:
    """No line end, no NUL, and, outside quotes, no end of the path."""
    if valid_path(address):
        written, _ = path(address)
        assert not set(written) & set("\r\n\0") and written.encode()
        if '"' not in written:
            assert not set(written) & set("<> ")


def test_an_international_domain_beside_an_ascii_local_part_is_sent_in_a_labels() -> None:
    """It needs no SMTPUTF8 then."""
    assert path("someone@Bücher.example") == ("someone@xn--bcher-kva.example", False)
    assert ascii_domain("例子.example") == "xn--fsqu00a.example"


def test_an_international_local_part_needs_smtputf8() -> None:
    """RFC 6531 3.2; the domain then stays as it was given."""
    assert path("jürgen@bücher.example") == ("jürgen@bücher.example", True)


@pytest.mark.parametrize(
    "address", ["abc..def@docomo.ne.jp", "abc.@docomo.ne.jp", ".abc@docomo.ne.jp", "...@example.com"]
)
def test_dots_that_no_atom_may_have_are_quoted_on_the_wire(address: str) -> None:
    """K6: Japanese providers gave such addresses out; RFC 5321 4.1.2 has a form for them."""
    assert valid_path(address)
    local, _, domain = address.rpartition("@")
    assert path(address) == (f'"{local}"@{domain}', False)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("you@d.example.", ("you@d.example", False)),
        ("a..b@d.example.", ('"a..b"@d.example', False)),
        ("you@bücher.example.", ("you@xn--bcher-kva.example", False)),
        ("jürgen@d.example.", ("jürgen@d.example", True)),
        ('"a b"@d.example.', ('"a b"@d.example', False)),
        ("ü..x@d.example", ('"ü..x"@d.example', True)),
        ("x@[192.0.2.1]", ("x@[192.0.2.1]", False)),
        ("", ("", False)),
    ],
)
def test_a_domain_goes_out_without_its_final_dot(address: str, written: tuple[str, bool]) -> None:
    """K6: RFC 5321 2.3.5: domains on the wire have none."""
    assert path(address) == written


@pytest.mark.parametrize(("address", "quoted"), [
    ("a b@x.example", '"a b"@x.example'), ("a,b@x.example", '"a,b"@x.example'), ("a@b@x.example", '"a@b"@x.example'),
    ("<a>@x.example", '"<a>"@x.example'),
    ('a"b\\c@x.example', '"a\\"b\\\\c"@x.example'), ("@x.example", "@x.example"),
])  # fmt: skip
def test_what_is_loosely_an_address_is_quoted(address: str, quoted: str) -> None:
    """Any printable ASCII may stand before the last @, of a domain that is one."""
    assert loosely(address) == quoted


@given(st.text(max_size=80) | st.text(alphabet='a.@"\\<> \r\n\0[]é', max_size=20))
def test_what_is_loosely_an_address_adds_nothing_to_a_command(address: str) -> None:
    """Either it is a mailbox, or it stays what it is, and is refused."""
    made = loosely(address)
    assert made == address or (valid_path(made) and not set(path(made)[0]) & set("\r\n\0"))
