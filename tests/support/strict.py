"""What RFC 5322, RFC 2045 and RFC 2047 allow in a header, read strictly, by a grammar that shares nothing with ours.

`email` forgives too much to be asked: it reads encoded-words where none may stand, and lines of any length.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
ATOM = rf"{ATEXT}+"
DOT_ATOM = rf"{ATOM}(?:\.{ATOM})*"
QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
WORD = re.compile(rf"({ATOM})|({QUOTED})")
SPEC = re.compile(rf"((?:{DOT_ATOM}|{QUOTED})@(?:{DOT_ATOM}|\[[!-Z^-~]*\]))")
ENCODED = re.compile(r"=\?([A-Za-z0-9-]+)\?([bqBQ])\?([!->@-~]+)\?=")
IN_PHRASE = re.compile(r"[A-Za-z0-9!*+/=_-]+")  # RFC 2047 5 (3)


def fields(head: bytes) -> list[tuple[str, str]]:
    """(name, unfolded value) of each field, after a look at every line (RFC 5322 2.1.1, 2.2, 3.2.2)."""
    assert head.endswith(b"\r\n")
    assert head.isascii()
    found: list[tuple[str, str]] = []
    for line in head.decode()[:-2].split("\r\n"):
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line), line
        assert len(line) <= 998, line
        assert line.strip(" \t"), "a line of white space alone ends the header for some"
        assert len(line) <= 76 or not any(map(ENCODED.fullmatch, line.split())), line
        for word in re.findall(r"=\?[^ \t]*\?=", line):
            assert len(word) <= 75 or not ENCODED.fullmatch(word), word
        if line[0] in " \t":
            found[-1] = (found[-1][0], found[-1][1] + line)
        else:
            name, colon, value = line.partition(":")
            assert colon and re.fullmatch(r"[!-9;-~]+", name), line
            found.append((name, value))
    return [(name, value.strip(" \t")) for name, value in found]


def text_of(value: str) -> str:
    """Unstructured text with its encoded-words decoded (RFC 2047 6.2: white space between two is none)."""
    out, coded = "", False
    for gap, piece in re.findall(r"([ \t]*)([^ \t]+)", value):
        found = ENCODED.fullmatch(piece)
        out += ("" if coded and found else gap) + (_decoded(found) if found else piece)
        coded = bool(found)
    return out


def addresses(value: str) -> list[tuple[str, str]]:
    """(display name, address) of each mailbox, groups opened; anything else than the grammar fails."""
    reader = _Reader(value)
    found = reader.list("")
    assert not reader.rest, reader.rest
    return found


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """The media type or disposition, and its parameters (RFC 2045 5.1, RFC 2231)."""
    token = r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+"
    head = re.match(rf"{token}(?:/{token})?", value)
    assert head is not None, value
    rest, found = value[head.end() :], dict[str, str]()
    while rest:
        one = re.match(rf"; ?[ \t]*({token})=({token}|{QUOTED})", rest)
        assert one is not None, rest
        found[one[1]] = re.sub(r"\\(.)", r"\1", one[2].strip('"'))
        rest = rest[one.end() :]
    whole: dict[str, str] = {}
    for name in found:
        base, star, rest = name.partition("*")
        if not star:
            whole[name] = found[name]
        elif rest in ("", "0*"):
            number, pieces = 1, found[name]
            while f"{base}*{number}*" in found:
                pieces += found[f"{base}*{number}*"]
                number += 1
            charset, _, octets = pieces.split("'", 2)
            whole[base] = unquote_to_bytes(octets).decode(charset)
    return head[0], whole


class _Reader:
    """Of an address list (RFC 5322 3.4), from the left to the right."""

    def __init__(self, text: str) -> None:
        self.rest = text

    def list(self, end: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while True:
            self.skip()
            if end and self.rest.startswith(end):
                break
            found += self.address()
            self.skip()
            if not self.rest.startswith(","):
                break
            self.rest = self.rest[1:]
        return found

    def address(self) -> list[tuple[str, str]]:
        if found := SPEC.match(self.rest):
            self.rest = self.rest[found.end() :]
            return [("", found[1])]
        name = self.phrase()
        if self.rest.startswith(":"):
            self.rest = self.rest[1:]
            members = self.list(";")
            assert self.rest.startswith(";"), self.rest
            self.rest = self.rest[1:]
            return members
        assert self.rest.startswith("<"), self.rest
        found = SPEC.match(self.rest, 1)
        assert found is not None and self.rest.startswith(">", found.end()), self.rest
        self.rest = self.rest[found.end() + 1 :]
        return [(name, found[1])]

    def phrase(self) -> str:
        out, coded = "", False
        while found := WORD.match(self.rest):
            self.rest = self.rest[found.end() :]
            word = ENCODED.fullmatch(found[0])
            if word:
                assert word[2] in "bB" or IN_PHRASE.fullmatch(word[3]), word[0]
            plain = re.sub(r"\\(.)", r"\1", found[0][1:-1]) if found[2] else found[0]
            out += ("" if coded and word else " ") + (_decoded(word) if word else plain)
            coded = bool(word)
            self.skip()
        return out[1:]

    def skip(self) -> None:
        self.rest = self.rest.lstrip(" \t")


def _decoded(found: re.Match[str]) -> str:
    if found[2] in "bB":
        return base64.b64decode(found[3], validate=True).decode(found[1])
    octets = re.sub(rb"=([0-9A-F]{2})", lambda code: bytes([int(code[1], 16)]), found[3].replace("_", " ").encode())
    return octets.decode(found[1])
