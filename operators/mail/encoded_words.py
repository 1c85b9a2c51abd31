"""encoded_words: text beyond ASCII in a header field (RFC 2047). Pure functions."""

from __future__ import annotations

import base64
import binascii
import re

MOST = 75  # characters of an encoded-word (RFC 2047 2)
_AROUND = len("=?utf-8?q??=")
# RFC 2047 5 (3): in a phrase
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_WORD = re.compile(r"=\?([^?*]+)(?:\*[^?]*)?\?([bBqQ])\?([!->@-~]*)\?=").fullmatch
_CONTROL = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]").search
# Python knows codecs that are no charsets of mail, some of them slow.
_CHARSET = re.compile(
    r"us-ascii|utf-?8|iso-8859-\d{1,2}|(?:windows-|cp)\d{3,4}|koi8-[ru]|gb2312|gbk|gb18030|big5|euc-(?:jp|kr)|"
    r"shift_jis|iso-2022-(?:jp|kr)",
    re.IGNORECASE,
).fullmatch


def encoded(text: str, first: int = MOST) -> list[str]:
    """The text as encoded-words, to be written with white space between them.

    Args:
        text: no character of it is divided.
        first: characters that the first word may have, beside the field's name.
    """
    octets = text.encode()
    in_base64 = sum(octet not in _PLAIN for octet in octets) * 3 > len(octets)
    room = max(first, 30) - _AROUND
    words, piece, size = [], [""], 0
    for character in text:
        cost = len(character.encode()) if in_base64 else len(_quoted(character))
        if piece and (4 * ((size + cost + 2) // 3) if in_base64 else size + cost) > room:
            words.append("".join(piece))
            piece, size, room = [], 0, MOST - _AROUND
        piece.append(character)
        size += cost
    return [_word(some, in_base64) for some in (*words, "".join(piece))]


def decoded(text: str) -> str | None:
    """The text with its encoded-words read.

    None where something in it looks like one and is none, cannot be read, or hides a control character: then it is
    not to be taken for anything but text, which some reader would decode all the same.
    """
    if "=?" not in text:
        return text
    found, after_word = [], False
    for gap, piece in re.findall(r"([ \t]*)([^ \t]+)", text):
        word = _read(piece) if "=?" in piece else ""
        if word is None or (word and _CONTROL(word)):
            return None
        coded = "=?" in piece
        found.append((gap if not (coded and after_word) else "") + (word if coded else piece))
        after_word = coded
    return "".join(found).strip(" \t")


def _read(piece: str) -> str | None:
    found = _WORD(piece)
    if found is None or not _CHARSET(found[1]):
        return None
    try:
        data = found[3].encode()
        if found[2] in "bB":
            return base64.b64decode(data, validate=True).decode(found[1])
        return binascii.a2b_qp(data, header=True).decode(found[1])
    except (ValueError, LookupError):
        return None


def _word(text: str, in_base64: bool) -> str:
    if in_base64:
        return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="
    return f"=?utf-8?q?{_quoted(text)}?="


def _quoted(text: str) -> str:
    return "".join(chr(o) if o in _PLAIN else "_" if o == 32 else f"={o:02X}" for o in text.encode())
