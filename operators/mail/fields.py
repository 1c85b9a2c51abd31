"""fields: the one composer of header fields. Whatever Mailrace writes into a header itself comes from here.

Pure functions. Each kind of field by its own grammar (RFC 5322 3.6): address lists are read and written anew, with
display names quoted or encoded and addresses never; the other structured fields stand as they are given, since an
encoded-word may not stand in them (RFC 2047 5); all the rest is unstructured text. Lines are folded at 76 characters
where there is white space, and are never longer than 998 (RFC 5322 2.1.1). A control character is refused.
"""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from email.utils import parsedate_tz

from operators.mail.addresses import ascii_domain, path, valid_path
from operators.mail.encoded_words import MOST as MOST_WORD
from operators.mail.encoded_words import decoded, encoded
from operators.mail.mailboxes import Mailbox, mailboxes
from operators.mail.message import InvalidMessage

MOST = 100_000  # characters of a field: what receivers take (Postfix: header_size_limit 102,400)
WIDTH, LONGEST = 76, 998  # a line with encoded-words (RFC 2047 2), and any line (RFC 5322 2.1.1)
ADDRESSES = frozenset((
    "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-reply-to", "resent-to",
    "resent-cc", "resent-bcc", "errors-to", "mail-followup-to", "mail-reply-to", "disposition-notification-to",
    "return-receipt-to",
))  # fmt: skip
ONE_ADDRESS = frozenset(("sender", "resent-sender"))  # RFC 5322 3.6.2, 3.6.6
DATES = frozenset(("date", "resent-date"))  # RFC 5322 3.3
LINKS = frozenset((
    "list-help", "list-unsubscribe", "list-subscribe", "list-post", "list-owner", "list-archive", "archived-at",
    "content-location", "content-base",
))  # fmt: skip  # RFC 2369, RFC 5064, RFC 2557: URLs
IDS = frozenset(("message-id", "resent-message-id", "content-id"))  # one msg-id (RFC 5322 3.6.4)
PARAMETERS = frozenset(("content-type", "content-disposition"))  # RFC 2045 5.1, RFC 2183 2
# Structured fields besides those, and besides what begins with one of PLAIN_KINDS.
PLAIN = frozenset((
    "in-reply-to", "references", "received", "return-path", "date", "resent-date", "mime-version", "received-spf",
    "authentication-results", "auto-submitted", "precedence", "importance", "priority", "sensitivity", "feedback-id",
    "delivered-to", "x-original-to", "original-recipient", "original-message-id", "require-recipient-valid-since",
    "expires", "expiry-date", "reply-by", "supersedes", "deferred-delivery", "domainkey-signature", "tls-required",
    "accept-language", "autocrypt", "x-mailman-version", "x-csa-complaints", "x-priority",
))  # fmt: skip
PLAIN_KINDS = ("list-", "content-", "dkim-", "arc-", "bimi-", "x-list-")

# RFC 5322 3.6.8: printable, no colon. A semicolon is legal there, and libopendkim verifies no message that has one.
_NAME = re.compile(r"[!-9<-~]{1,200}").fullmatch
_CONTROL = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\ud800-\\udfff]").search
_WORDS = re.compile(r"[ \t]*[^ \t]+").findall
_SPACE = re.compile(r"[ \t]+")
_GAP = re.compile(r"[ \t]{40,}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*").fullmatch
_DOT_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_ID = re.compile(rf"{_DOT_ATOM}@(?:{_DOT_ATOM}|\[[!-Z^-~]*\])").fullmatch
_LEFT = re.compile(_DOT_ATOM).fullmatch
_HOST = re.compile(r"(?:(?<=//)|(?<=@))[^\s/?#:<>@,;\[\]]*[^\x00-\x7f][^\s/?#:<>@,;\[\]]*")
_NAMED = re.compile(r"(.*)<([^<>]*)>", re.DOTALL).fullmatch
_PARAMETER = re.compile(r';[ \t]*([!#$%&*+.0-9A-Z^_`a-z{|}~-]+)[ \t]*=[ \t]*("(?:[^"\\]++|\\.)*+"[ \t]*|[^;"]*)')
_EXTENDED = re.compile(r"[!#$%&'+.0-9A-Z^_`a-z{|}~-]+").fullmatch
_PIECES = re.compile(r"(?:%..|[^%]){1,50}").findall
_ESCAPED = re.compile(r"\\(.)")
UTF8 = "utf-8''"


def field(name: str, value: str, where: str = "") -> bytes:
    """The field as it stands in a header, with its CRLF.

    Args:
        name: as it is to be written.
        value: as text; of an address field the addresses, of another structured field its value.
        where: the property that it comes from, for errors; `headers` where nothing is said.

    Raises:
        Invalid: the name is none, or the value cannot stand in this field; says what is allowed.
    """
    value = _checked(name, value, where or f"headers: the value of {name[:60]}")
    where, kind = where or f"headers.{name}", name.lower()
    if kind in ADDRESSES:
        found = [*_merged(mailboxes(value), value, where)]
        if kind in ONE_ADDRESS and len(found) != 1:
            raise InvalidMessage(f"{where}: must be one address (RFC 5322 3.6.2)")
        words = _listed(found, where)
    elif kind in PARAMETERS and not value.isascii():
        words = with_parameters(*read_parameters(value, where))
    elif kind == "list-id":
        words = _list_id(value, where)
    elif kind in PLAIN or kind in LINKS or kind in IDS or kind in PARAMETERS or kind.startswith(PLAIN_KINDS):
        words = _structured(kind, value, where)
    else:
        words = _unstructured(name, value)
    return folded(name, words, where)


def address_field(name: str, entries: Iterable[str | tuple[str, str]], where: str) -> bytes:
    """An address field of lists as text, and of (display name, address) pairs; raises `InvalidMessage`."""
    found: list[Mailbox] = []
    for entry in entries:
        if isinstance(entry, str):
            found += _merged(mailboxes(_checked(name, entry, where)), entry, where)
        else:
            local, _, domain = _checked(name, entry[1], where).rpartition("@")
            found.append(Mailbox(_checked(name, entry[0], where), local, domain))
            if not found[-1].address:
                raise InvalidMessage(f"{where}: {entry[1][:200]!r} is no address")
    return folded(name, _listed(found, where), where)


def message_id(unique: str, domain: str) -> str:
    """A Message-ID with its brackets (RFC 5322 3.6.4), the same for the same `unique`, whatever that is."""
    if len(unique) < 500 and _ID(unique):
        return f"<{unique}>"
    left = (
        unique if _LEFT(unique) and len(unique) <= 200 else hashlib.sha256(unique.encode(errors="replace")).hexdigest()
    )
    return f"<{left}@{host(domain)}>"


def host(name: str) -> str:
    """A host name that can stand in a field, in A-labels; `localhost` for what is none."""
    if name.isascii() and valid_path(f"x@{name}"):
        return name.rstrip(".")
    try:
        return host(ascii_domain(name)) if not name.isascii() else "localhost"
    except ValueError:
        return "localhost"


def with_parameters(main: str, parameters: Iterable[tuple[str, str]]) -> list[str]:
    """The words of Content-Type or Content-Disposition (RFC 2045 5.1; other than ASCII, and long: RFC 2231)."""
    words = [main]
    for name, value in parameters:
        for piece in _parameter(name, clean(value, name)):
            words[-1] += ";"
            words.append(f" {piece}")
    return words


def read_parameters(value: str, where: str) -> tuple[str, list[tuple[str, str]]]:
    """What stands before the parameters of Content-Type or Content-Disposition, and they; raises `InvalidMessage`."""
    clean(value, where)
    main, semicolon, rest = value.partition(";")
    if not main.isascii() or _PARAMETER.sub("", semicolon + rest).strip(" ;"):
        raise InvalidMessage(
            f"{where}: must be one word in ASCII, and behind it parameters: ; name=value (RFC 2045 5.1)"
        )
    pairs = _PARAMETER.findall(semicolon + rest)
    return main.strip(), [(name, _ESCAPED.sub(r"\1", text.strip().strip('"'))) for name, text in pairs]


def folded(name: str, words: Iterable[str], where: str) -> bytes:
    """The field of these words; it may have a line's end before each that begins with white space (RFC 5322 2.2.3).

    Raises:
        Invalid: a word makes a line longer than LONGEST octets.
    """
    lines = [f"{name}:"]
    for number, word in enumerate(words):
        piece = word if number else f" {word}"
        may = number or word.startswith("=?")  # some readers fall over a name alone
        if may and piece[:1] in (" ", "\t") and len(lines[-1].encode()) + len(piece.encode()) > WIDTH:
            lines.append(piece)
        else:
            lines[-1] += piece
    if any(len(line.encode()) > LONGEST for line in lines):
        raise InvalidMessage(f"{where}: has a word that makes a line longer than {LONGEST} octets (RFC 5322 2.1.1)")
    return ("\r\n".join(lines) + "\r\n").encode()


def clean(value: str, where: str) -> str:
    """The text; raises `InvalidMessage` where it has a control character in it, or more characters than MOST."""
    if found := _CONTROL(value):
        what = "a line break or NUL" if found[0] in "\r\n\0" else "a control character"
        raise InvalidMessage(f"{where}{'' if ': ' in where else ':'} has {what} in it")
    if len(value) > MOST:
        raise InvalidMessage(f"{where}: has {len(value):,} characters, {MOST:,} are allowed")
    return value


def _checked(name: str, value: str, where: str) -> str:
    if not _NAME(name):
        raise InvalidMessage(f"headers: {name[:200]!r} is no header name")
    return _GAP.sub(" ", clean(value, where).strip(" \t"))


# -- the kinds -----------------------------------------------------------------------------------------------------


def _unstructured(name: str, value: str) -> list[str]:
    """RFC 5322 3.2.5. Encoded-words in it stay where they are well formed; what only looks like one is text."""
    text = decoded(value)
    words = _WORDS(value)
    if value.isascii() and text is not None and all(len(word) < LONGEST - len(name) - 2 for word in words):
        return words
    return _spaced(encoded(value if text is None else text, MOST_WORD - len(name) - 1))


def _structured(kind: str, value: str, where: str) -> list[str]:
    """As it is given, an international host in A-labels, a URL beyond ASCII as a URI (RFC 3987 3.1)."""
    if not value.isascii():
        try:
            value = _HOST.sub(lambda found: ascii_domain(found[0]), value)
        except ValueError:
            raise InvalidMessage(f"{where}: a host name in it is none") from None
        if kind in LINKS:
            value = urllib.parse.quote(value, safe="".join(map(chr, range(128))))
    if not value.isascii():
        raise InvalidMessage(f"{where}: may have only ASCII: no encoded-word may stand in it (RFC 2047 5)")
    if kind in IDS and not (value.startswith("<") and value.endswith(">") and _ID(value[1:-1])):
        raise InvalidMessage(f"{where}: must be <left@right> (RFC 5322 3.6.4)")
    if kind in DATES and parsedate_tz(value) is None:
        raise InvalidMessage(f"{where}: must be a date, as Thu, 26 Nov 2026 10:00:00 +0000 (RFC 5322 3.3)")
    return _WORDS(value)


def _list_id(value: str, where: str) -> list[str]:
    """RFC 2919 3: a phrase may stand before the identifier."""
    found = _NAMED(value)
    if found is None:
        return _structured("list-id", value, where)
    try:
        identifier = _structured("list-id", f"<{ascii_domain(found[2].strip())}>", where)
    except ValueError:
        raise InvalidMessage(f"{where}: {found[2][:60]!r} is no list identifier (RFC 2919 3)") from None
    phrase = _phrase(_name(found[1]))
    return [*phrase, f" {identifier[0]}"] if found[1].strip() else identifier


def _parameter(name: str, value: str) -> list[str]:
    if name.endswith("*") and _EXTENDED(value):  # by RFC 2231 already
        return [f"{name}={value}"]
    if value.isascii() and len(value) <= 200 and "=?" not in value:
        quoted = value.replace("\\", r"\\").replace('"', r"\"")
        return [f'{name}="{quoted}"']
    pieces = _PIECES(urllib.parse.quote(value, safe="!#$&+-.^_`|~"))
    if len(pieces) == 1:
        return [f"{name}*=utf-8''{pieces[0]}"]
    return [f"{name}*{index}*={'' if index else UTF8}{piece}" for index, piece in enumerate(pieces)]


# -- address lists -------------------------------------------------------------------------------------------------


def _listed(entries: Iterable[Mailbox], where: str) -> list[str]:
    """RFC 5322 3.4, the words of the list."""
    words: list[str] = []
    group: str | None = None
    for entry in entries:
        if entry.group != group and group is not None:
            words[-1] += ";"
        if words:
            words[-1] += ","
        if entry.group is not None and entry.group != group:
            words += _after(words, _phrase(_name(entry.group)))
            words[-1] += ":"
        group = entry.group
        if entry.address:
            words += _after(words, _entry(entry, where))
    if group is not None:
        words[-1] += ";"
    if not words:
        raise InvalidMessage(f"{where}: has no address in it (RFC 5322 3.4)")
    return words


def _after(words: list[str], more: list[str]) -> list[str]:
    """More words, with white space before them where others go before."""
    return [f" {more[0]}", *more[1:]] if words else more


def _merged(entries: Iterable[Mailbox], value: str, where: str) -> Iterator[Mailbox]:
    """Entries with an address, and empty groups: what stood without one is a display name with a comma in it."""
    names: list[str] = []
    for entry in entries:
        if not entry.address and entry.name:
            names.append(entry.name)
            continue
        if names and not (entry.address and entry.name):
            break
        yield Mailbox(", ".join([*names, entry.name]), entry.local, entry.domain, entry.group)
        names = []
    if names:
        raise InvalidMessage(f"{where}: {', '.join(names)[:60]!r} is no list of addresses (RFC 5322 3.4)")


def _entry(entry: Mailbox, where: str) -> list[str]:
    """A mailbox: the address is never encoded; an international domain is written in A-labels where that serves."""
    if not valid_path(entry.address):
        raise InvalidMessage(f"{where}: {entry.address[:200]!r} is no address")
    address, _ = path(entry.address)
    return [*_phrase(_name(entry.name)), f" <{address}>"] if entry.name else [address]


def _name(text: str) -> str:
    """A display name as it is meant: with encoded-words read, where they are sound."""
    text = _SPACE.sub(" ", text).strip()
    found = decoded(text)
    return text if found is None else found


def _phrase(text: str) -> list[str]:
    """RFC 5322 3.2.5: atoms, else a quoted-string, else encoded-words."""
    if _ATOMS(text) and "=?" not in text and len(text) < LONGEST // 2:
        return _WORDS(text)
    if text.isascii() and "=?" not in text and max(map(len, _WORDS(text)), default=0) < LONGEST // 4:
        escaped = text.replace("\\", r"\\").replace('"', r"\"")
        return _WORDS(f'"{escaped}"')
    return _spaced(encoded(text, MOST_WORD // 2))


def _spaced(words: Iterable[str]) -> list[str]:
    return [word if not number else f" {word}" for number, word in enumerate(words)]
