"""DNS messages, as far as mail needs them: a question, and what an answer says of it (RFC 1035 4, RFC 6891). Pure.

dnspython makes an object of each name, record and set of records, which took a third of the event loop's time where
mail goes to many domains (0.35 ms a question, against 0.04). It still speaks TCP, and writes names that are no words.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import dns.name
import msgspec

A, CNAME, SOA, PTR, MX, TXT, AAAA, OPT = 1, 5, 6, 12, 15, 16, 28, 41
KINDS = {"A": A, "AAAA": AAAA, "MX": MX, "PTR": PTR, "TXT": TXT}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION, OFFERED = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
INTERNET = 1
LONGEST_NAME = 255  # bytes
_WORD = re.compile(rb"[a-z0-9_.-]*").fullmatch
_HEADER, _RECORD = struct.Struct("!6H"), struct.Struct("!HHIH")


class DnsRecord(msgspec.Struct, frozen=True):
    """One record of an answer: whose it is, its type, seconds that it holds, and its value, see `_READ`."""

    name: str
    kind: int
    ttl: int
    value: Any


class DnsReply(msgspec.Struct, frozen=True):
    """What a server has said.

    Attributes:
        rcode: with its extension by EDNS.
        flags: of the header.
        edns: it speaks EDNS.
        records: the answer section.
        soa: (seconds that it holds, its minimum) of the zone that a negative answer is of (RFC 2308 5).
    """

    rcode: int
    flags: int
    edns: bool
    records: tuple[DnsRecord, ...] = ()
    soa: tuple[int, int] | None = None

    def of(self, name: str, kind: int) -> list[DnsRecord]:
        """The records of this name and type."""
        return [record for record in self.records if record.kind == kind and record.name == name]


def question(name: str, kind: int) -> bytes:
    """The question section. Raises `ValueError` for what is no name."""
    if "\\" in name:
        return dns.name.from_text(f"{name}.").to_wire() + struct.pack("!HH", kind, INTERNET)  # type: ignore[operator]
    labels = [label.encode("ascii") for label in name.split(".")] if name else []
    if any(not 0 < len(label) < 64 for label in labels) or sum(map(len, labels)) + len(labels) >= LONGEST_NAME:
        raise ValueError(f"{name!r} is no name")
    octets = b"".join([b"%c%b" % (len(label), label) for label in labels])
    return octets + b"\0" + struct.pack("!HH", kind, INTERNET)


def query(id: int, question: bytes, payload: int) -> bytes:
    """A query; `payload`: bytes of UDP answer that are taken with EDNS, 0: without EDNS."""
    edns = struct.pack("!BHHIH", 0, OPT, payload, 0, 0) if payload else b""
    return _HEADER.pack(id, RECURSION, 1, 0, 0, bool(payload)) + question + edns


def read(wire: bytes, id: int, question: bytes) -> DnsReply | None:
    """The answer to this question; None: it is none, or nonsense."""
    try:
        return _read(wire, id, question)
    except (IndexError, struct.error, ValueError):
        return None


def _read(wire: bytes, id: int, question: bytes) -> DnsReply | None:
    found, flags, questions, answers, authorities, others = _HEADER.unpack_from(wire)
    position, rcode = _HEADER.size, flags & 0xF
    if found != id or not flags & RESPONSE or flags & 0x7800:
        return None
    if questions == 0 and rcode in (FORMERR, SERVFAIL, NOTIMP, REFUSED):
        return DnsReply(rcode, flags, edns=False)  # some do not repeat what they refuse
    if questions != 1 or wire[position : position + len(question)].lower() != question.lower():
        return None
    position += len(question)
    records = []
    for _ in range(answers):
        record, position = _record(wire, position)
        if record is not None:
            records.append(record)
    soa, edns = None, False
    for number in range(authorities + others):
        name, after = _name(wire, position)
        kind, _, ttl, size = _RECORD.unpack_from(wire, after)
        position = after + _RECORD.size + size
        if position > len(wire):
            raise ValueError(name)
        if kind == SOA and number < authorities and soa is None and size >= 22:
            soa = _ttl(ttl), int.from_bytes(wire[position - 4 : position], "big")
        elif kind == OPT and number >= authorities:
            edns, rcode = True, rcode | ttl >> 24 << 4
    return DnsReply(rcode, flags, edns, tuple(records), soa)


def _record(wire: bytes, position: int) -> tuple[DnsRecord | None, int]:
    """A record, None where mail has no use for it, and where it ends."""
    name, position = _name(wire, position)
    kind, network, ttl, size = _RECORD.unpack_from(wire, position)
    begin = position + _RECORD.size
    if begin + size > len(wire):
        raise ValueError(name)
    if kind not in _READ or network != INTERNET:
        return None, begin + size
    return DnsRecord(name, kind, _ttl(ttl), _READ[kind](wire, begin, size)), begin + size


def _ttl(seconds: int) -> int:
    """RFC 2181 8: with the highest bit it is 0."""
    return 0 if seconds & 0x8000_0000 else seconds


def _name(wire: bytes, position: int) -> tuple[str, int]:
    """A name, lower case and without its final dot, and where it ends. Pointers lead backward only."""
    labels: list[bytes] = []
    end, lowest, length = 0, position, 1
    while size := wire[position]:
        if size >= 0xC0:
            end = end or position + 2
            position = (size & 0x3F) << 8 | wire[position + 1]
            if position >= lowest:
                raise ValueError("a pointer that leads forward")
            lowest = position
            continue
        length += size + 1
        if size > 63 or length > LONGEST_NAME:
            raise ValueError("no name")
        labels.append(wire[position + 1 : position + 1 + size])
        position += size + 1
    return _text(labels), end or position + 1


def _text(labels: list[bytes]) -> str:
    joined = b".".join(labels).lower()
    if _WORD(joined) and joined.count(b".") == max(0, len(labels) - 1):
        return joined.decode()
    return dns.name.Name([*labels, b""]).to_text(omit_final_dot=True).lower()


def _address(wire: bytes, begin: int, size: int) -> str:
    return socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, wire[begin : begin + size])


def _strings(wire: bytes, begin: int, size: int) -> bytes:
    found, end = b"", begin + size
    while begin < end:
        following = begin + 1 + wire[begin]
        if following > end:
            raise ValueError("a string that is too long")
        found, begin = found + wire[begin + 1 : following], following
    return found


_READ: dict[int, Callable[[bytes, int, int], Any]] = {
    A: _address,
    AAAA: _address,
    CNAME: lambda wire, begin, _: _name(wire, begin)[0],
    PTR: lambda wire, begin, _: _name(wire, begin)[0],
    MX: lambda wire, begin, _: (int.from_bytes(wire[begin : begin + 2], "big"), _name(wire, begin + 2)[0]),
    TXT: _strings,
}
