"""personalize: a mail made personal with its `data`: From, To and other fields, and the text and HTML versions.

A value never changes the form of the mail: in address fields it is a name or an address, elsewhere in the header text
on one line, in HTML it is escaped. What was read of a mail is remembered, so that a mailing is read once; bound:
REMEMBERED octets of mails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from operators.mail import head
from operators.mail.encoded_words import decoded
from operators.mail.fields import ADDRESSES, address_field, field
from operators.mail.mailboxes import mailboxes
from operators.mail.message import InvalidMessage, Message
from operators.mail.parts import MimeLeaf, leaves
from operators.mail.unmade import Unmade
from operators.template.language import render
from operators.template.remembered import Remembered
from operators.template.values import Budget, TemplateError

REMEMBERED = 2_000_000
MARKED = 0xE000  # private use characters stand for tags while an address field is read
MOST = 6_000  # of them in a field

NOWHERE = "@\uf8ff"  # stands for the domain of an address that is a tag alone

_TAG = re.compile(r"\{[^{}]*\}")
_ALONE = re.compile(r"<([^<>@]*)>")
_BREAKS = re.compile(r"[\x00-\x1f\x7f]+")
_LEFT = (b"dkim-signature", b"received", b"mime-version", b"authentication-results")
_LEFT_KINDS = (b"arc-", b"content-")
_OFF: tuple[Any, ...] = (None, False, 0, "", "0", "false", "no", "off")

Fill = Callable[["Personal"], bytes]


class Personal:
    """One message's variables, and what its templates may still use.

    `recipient` and `envelope` are there without being in `data`.
    """

    def __init__(self, message: Message, data: Mapping[str, Any]) -> None:
        self._variables = {"recipient": message.recipient, "envelope": message.envelope or "", **data}
        self._budget = Budget()

    def text(self, template: str, where: str, *, html: bool = False) -> str:
        """A template with its values. Raises `Unmade`."""
        if "{" not in template:
            return template
        try:
            return render(template, dict(self._variables), self._budget, html=html)
        except TemplateError as error:
            raise Unmade("personalize", f"{where}: {error}") from None
        except RecursionError:
            raise Unmade("personalize", f"{where}: is nested too deep") from None

    def line(self, template: str, where: str) -> str:
        """The same on one line, for a header field."""
        return _BREAKS.sub(" ", self.text(template, where)).strip() if "{" in template else template

    def address(self, template: str, where: str) -> str:
        """The same as an address."""
        return re.sub(r"\s", "", self.line(template, where))

    # -- a mail ------------------------------------------------------------------------------------------------------

    def mail(self, source: bytes) -> bytes:
        """A mail, with lines that end in CRLF. Raises `InvalidMessage`, `Unmade`."""
        return b"".join(piece if isinstance(piece, bytes) else piece(self) for piece in _plan(source))

    def object(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """A mail as an object."""
        return {name: self._part(name, value) for name, value in parts.items()}

    def _part(self, name: str, value: Any) -> Any:
        where = f"mime.{name}"
        if name in ("text", "html") or (name == "content" and isinstance(value, str)):
            return self.text(value, where, html=name != "text") if isinstance(value, str) else value
        if name == "subject" and isinstance(value, str):
            return self.line(value, where)
        if name in ("from", "to", "cc", "bcc", "reply-to", "replyTo"):
            return self._addresses(value, where)
        if name == "headers" and isinstance(value, Mapping):
            return self.headers(value, where)
        return self._blocks(value) if name == "content" else value

    def _addresses(self, value: Any, where: str) -> Any:
        if isinstance(value, list):
            found = [self._addresses(one, where) for one in value]
            return [one for some in found for one in (some if isinstance(some, list) else [some])]
        if isinstance(value, Mapping):
            return {
                name: self.address(one, where) if name in ("address", "email") else self.line(one, where)
                if isinstance(one, str) else one for name, one in value.items()
            }  # fmt: skip
        if isinstance(value, str) and "{" in value:
            found = [_entry(name, address)(self, where) for name, address in _entries(value)]
            return [{"name": name, "address": address} for name, address in found]
        return value

    def headers(self, value: Any, where: str = "headers") -> Any:
        """The texts of a `headers` property, whatever form it has."""
        if isinstance(value, str):
            return self.line(value, where)
        if isinstance(value, list):
            return [self.headers(one, where) for one in value]
        return {name: self.headers(one, where) for name, one in value.items()} if isinstance(value, Mapping) else value

    def _blocks(self, value: Any, *, html: bool = False) -> Any:
        """The texts of blocks; those of html blocks are HTML, others are escaped when the blocks are drawn."""
        if isinstance(value, str):
            return self.text(value, "mime.content", html=html)
        if isinstance(value, list):
            return [self._blocks(one, html=html) for one in value]
        if not isinstance(value, Mapping):
            return value
        return {name: self._blocks(one, html=value.get("type") == "html") for name, one in value.items()}


def personal(message: Message) -> Personal | None:
    """The variables of a message that is to be personalised; None where it is not. Raises `InvalidMessage`."""
    data = message.properties.get("data")
    if data is None and isinstance(message.mime, Mapping):
        data = message.mime.get("data")
    if data is None:
        return None
    if isinstance(data, Mapping) or data == []:  # PHP writes an empty object so
        return Personal(message, data or {})
    if any(data == off and isinstance(data, type(off)) for off in _OFF):
        return None
    raise InvalidMessage("data: must be an object of names and values")


def _read(source: bytes) -> list[bytes | Fill]:
    """What stands in a mail as it is, and what is to be filled in."""
    fields, rest = head.split(source)
    own = [one for one in fields if not _is_of_body(one)]
    ours = [one for one in fields if _is_of_body(one)]
    pieces = leaves(b"".join(ours) + rest)
    return [*map(_field, own), *(_leaf(piece) if isinstance(piece, MimeLeaf) else piece for piece in pieces)]


def _is_of_body(one: bytes) -> bool:
    name = head.name_of(one)
    return name.startswith(b"content-") or name == b"mime-version"


def _leaf(leaf: MimeLeaf) -> bytes | Fill:
    raw = leaf.fields + b"\r\n" + leaf.body
    if not leaf.is_text:
        return raw
    text, html = leaf.text(), leaf.kind == "text/html"
    if "{" not in text:
        return raw
    where = "the HTML version" if html else "the text version"
    return lambda personal: leaf.replaced(personal.text(text, where, html=html))


def _field(one: bytes) -> bytes | Fill:
    name = head.name_of(one)
    value = head.value_of(one)
    meant = decoded(value) or value
    if name in _LEFT or name.startswith(_LEFT_KINDS) or "{" not in meant:
        return one
    shown = one.partition(b":")[0].strip().decode()
    if name.decode() in ADDRESSES:
        entries = [_entry(*pair) for pair in _entries(meant)]
        return lambda personal: address_field(shown, [fill(personal, shown) for fill in entries], shown)
    return lambda personal: field(shown, personal.line(meant, shown), shown)


def _entry(name: str, address: str) -> Callable[[Personal, str], tuple[str, str]]:
    """A display name and an address, filled in; a value alone may be the address."""

    def fill(personal: Personal, where: str) -> tuple[str, str]:
        shown, filled = personal.line(name, where), personal.address(address, where)
        return (shown, filled) if filled or "@" not in shown else ("", personal.address(name, where))

    return fill


def _entries(value: str) -> list[tuple[str, str]]:
    """(display name, address) of an address list with tags in it."""
    tags: list[str] = []

    def marked(found: re.Match[str]) -> str:
        if len(tags) >= MOST:
            return found[0]
        tags.append(found[0])
        return chr(MARKED + len(tags) - 1)

    def back(text: str) -> str:
        return "".join(tags[ord(one) - MARKED] if MARKED <= ord(one) < MARKED + len(tags) else one for one in text)

    text = _ALONE.sub(rf"<\1{NOWHERE}>", _TAG.sub(marked, value))
    found = [(back(entry.name), back(entry.address.removesuffix(NOWHERE))) for entry in mailboxes(text)]
    return [pair for pair in found if any(pair)]


_plan: Remembered[bytes, list[bytes | Fill]] = Remembered(_read, REMEMBERED)
