"""What is read of DNS answers, held against dnspython; nothing from outside is believed, or goes on for ever."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dns.packet import AAAA, CNAME, MX, TXT, A, query, question, read

ASKED = question("a.test", A)
RECORDS = (
    "a.test. 300 IN CNAME b.Example.TEST.",
    "b.example.test. 60 IN A 192.0.2.1",
    "b.example.test. 60 IN AAAA 2001:db8::1",
    "a.test. 5 IN MX 10 mx.b.example.test.",
    "a.test. 5 IN MX 0 .",
    'a.test. 5 IN TXT "v=DKIM1; " "p=abc"',
    "a.test. 5 IN SRV 0 0 25 other.test.",
    r"a.test. 5 IN MX 5 od\.d\032name.test.",
)


def reply(*records: str, id: int = 7) -> dns.message.Message:
    asked = dns.message.make_query("A.test", "A", id=id, use_edns=0)
    said = dns.message.make_response(asked, recursion_available=True)
    for record in records:
        name, ttl, _, kind, value = record.split(" ", 4)
        said.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, value))
    return said


def test_a_query_is_what_dnspython_reads() -> None:
    """With EDNS and without; recursion is asked for."""
    for payload in (0, 1232):
        read_back = dns.message.from_wire(query(7, question("a.test", MX), payload))
        assert read_back.question[0].to_text() == "a.test. IN MX"
        assert read_back.flags == dns.flags.RD
        assert (read_back.edns, read_back.payload) == ((0, 1232) if payload else (-1, 0))


def test_records_are_read_as_dnspython_writes_them() -> None:
    """Names in lower case, pointers followed, what mail has no use for left out; also a name that is no word."""
    found = read(reply(*RECORDS).to_wire(), 7, ASKED)
    assert found is not None
    assert [(one.name, one.kind, one.ttl, one.value) for one in found.records] == [
        ("a.test", CNAME, 300, "b.example.test"),
        ("b.example.test", A, 60, "192.0.2.1"),
        ("b.example.test", AAAA, 60, "2001:db8::1"),
        ("a.test", MX, 5, (10, "mx.b.example.test")),
        ("a.test", MX, 5, (0, "")),
        ("a.test", TXT, 5, b"v=DKIM1; p=abc"),
        ("a.test", MX, 5, (5, r"od\.d\032name.test")),
    ]
    assert (found.edns, found.rcode, found.soa) == (True, 0, None)


def test_a_negative_answer_says_how_long_it_holds() -> None:
    """RFC 2308 5."""
    said = reply()
    said.authority.append(dns.rrset.from_text("test.", 900, "IN", "SOA", "ns.test. host.test. 1 2 3 4 60"))
    found = read(said.to_wire(), 7, ASKED)
    assert found is not None
    assert found.soa == (900, 60)


@pytest.mark.parametrize("other", ["id", "name", "kind", "query"])
def test_what_is_no_answer_to_the_question_is_none(other: str) -> None:
    """Anybody can send a datagram."""
    wire = bytearray(reply(*RECORDS).to_wire())
    if other == "query":
        wire[2] &= 0x7F
    asked = question("b.test" if other == "name" else "a.test", MX if other == "kind" else A)
    assert read(bytes(wire), 8 if other == "id" else 7, asked) is None


def test_pointers_in_a_circle_end() -> None:
    """RFC 1035 4.1.4: to a prior occurrence only."""
    head = reply().to_wire()[:12]
    wire = head[:6] + b"\0\1" + head[8:] + ASKED + b"\xc0\x18" + b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
    assert read(wire, 7, ASKED) is None


@given(st.data())
def test_nothing_that_is_sent_raises(data: st.DataObject) -> None:
    """Octets changed, cut off or added: an answer, or none."""
    wire = bytearray(reply(*RECORDS).to_wire())
    for place in data.draw(st.lists(st.integers(0, len(wire) - 1), max_size=8)):
        wire[place] = data.draw(st.integers(0, 255))
    read(bytes(wire[: data.draw(st.integers(0, len(wire)))]), 7, ASKED)


@pytest.mark.parametrize("name", ["a..test", "a" * 64 + ".test", ".".join(["a" * 60] * 5)])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    """RFC 1035 2.3.4."""
    with pytest.raises(ValueError, match="is no name"):
        question(name, A)
