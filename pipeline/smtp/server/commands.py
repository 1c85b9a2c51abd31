"""The arguments of MAIL and RCPT: paths and ESMTP parameters (RFC 5321 4.1.2, 1870, 3461, 4954, 6152, 6531).

Pure functions. What cannot be read is refused with the reply to give; nothing is guessed. One precompiled
expression splits path from parameters: the `email` package takes 50 microseconds an address, this 2.
"""

from __future__ import annotations

import re

import msgspec

from operators.mail import dsn_parameters
from operators.mail.addresses import valid_path, without_dot
from operators.mail.dsn_parameters import ENVID, ORCPT, from_xtext, is_address_type
from pipeline.smtp.server.refusal import Refusal

# A quoted string may hold spaces and brackets; the alternatives never begin alike, so matching is linear. Some devices
# leave the brackets of the path out (RFC 5321 4.1.2), as other servers let them.
_WORD = r'(?:"(?:[^"\\]|\\.)*"|[^"<>\s])'
_PATH = re.compile(rf"(FROM|TO):[ \t]*(?:<({_WORD}*)>|({_WORD}+))(?:[ \t]+(\S.*))?$", re.IGNORECASE)
_PARAMETER = re.compile(r"([A-Z0-9][A-Z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?$", re.IGNORECASE)
_ROUTE = re.compile(r"^@[^@,:]+(?:,@[^@,:]+)*:(?=.)")


class MailCommand(msgspec.Struct, frozen=True):
    """What a MAIL command says."""

    sender: str
    size: int = 0
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


class Rcpt(msgspec.Struct, frozen=True):
    """What a RCPT command says."""

    recipient: str
    notify: str | None = None
    orcpt: str | None = None


def mail(arg: str) -> MailCommand:
    """Read the argument of MAIL; raises `Refusal`."""
    path, parameters = _split("FROM", arg)
    if not parameters:
        return MailCommand(_sender(path, smtputf8=False))
    found: dict[str, str | None] = dict(parameters)
    size = _size(found.pop("SIZE", "0"))
    if (found.pop("BODY", "7BIT") or "").upper() not in ("7BIT", "8BITMIME"):
        raise Refusal("501 5.5.4 BODY is 7BIT or 8BITMIME")
    smtputf8 = "SMTPUTF8" in found
    if found.pop("SMTPUTF8", None) is not None:
        raise Refusal("501 5.5.4 SMTPUTF8 takes no value")
    ret = _ret(found.pop("RET")) if "RET" in found else None
    envid = _xtext("ENVID", found.pop("ENVID"), ENVID) if "ENVID" in found else None
    found.pop("AUTH", None)  # who wrote it (RFC 4954 5): we vouch for nobody, which is allowed
    _none_left(found)
    return MailCommand(_sender(path, smtputf8), size, smtputf8, ret, envid)


def rcpt(arg: str, smtputf8: bool) -> Rcpt:
    """Read the argument of RCPT; raises `Refusal`."""
    path, parameters = _split("TO", arg)
    recipient = _mailbox(path, smtputf8)
    if not parameters:
        return Rcpt(recipient)
    found: dict[str, str | None] = dict(parameters)
    notify = _notify(found.pop("NOTIFY")) if "NOTIFY" in found else None
    orcpt = _orcpt(found.pop("ORCPT")) if "ORCPT" in found else None
    _none_left(found)
    return Rcpt(recipient, notify, orcpt)


def is_routed(recipient: str) -> bool:
    """Its local part carries another address or a route (`a%b`, `b!a`, `"a@b"`): the classic relay tricks."""
    local = recipient.rpartition("@")[0]
    return any(sign in local for sign in "%!@:")


def _split(keyword: str, arg: str) -> tuple[str, list[tuple[str, str | None]]]:
    found = _PATH.match(arg)
    if found is None or found[1].upper() != keyword:
        raise Refusal(f"501 5.5.4 Syntax: {'MAIL' if keyword == 'FROM' else 'RCPT'} {keyword}:<address> [parameters]")
    path = found[3] if found[2] is None else found[2]
    return path, _parameters(found[4]) if found[4] else []


def _parameters(text: str) -> list[tuple[str, str | None]]:
    found = [_PARAMETER.match(word) for word in text.split()]
    if None in found:
        raise Refusal("501 5.5.4 Parameters are NAME or NAME=value")
    pairs = [(match[1].upper(), match[2]) for match in found if match]
    if len({name for name, _ in pairs}) < len(pairs):
        raise Refusal("501 5.5.4 A parameter is given twice")
    return pairs


def _sender(path: str, smtputf8: bool) -> str:
    """The reverse-path. A source route before it is ignored (RFC 5321 4.1.1.2, appendix C)."""
    path = _ROUTE.sub("", path)
    return _mailbox(path, smtputf8) if path else ""


def _mailbox(path: str, smtputf8: bool) -> str:
    if not path.isascii() and not smtputf8:
        raise Refusal("553 5.6.7 An address that is not ASCII needs SMTPUTF8 at MAIL")
    if path.startswith("@"):
        raise Refusal("553 5.1.3 Source routes are not taken")
    if not valid_path(path):
        raise Refusal("553 5.1.3 An address is local@domain, of at most 64 and 255 octets")
    return without_dot(path)


def _size(value: str | None) -> int:
    if not value or not value.isdigit() or len(value) > 20:
        raise Refusal("501 5.5.4 SIZE is a number of octets")
    return int(value)


def _ret(value: str | None) -> str:
    try:
        return dsn_parameters.ret(value or "")
    except ValueError as error:
        raise Refusal(f"501 5.5.4 RET is {error}") from None


def _notify(value: str | None) -> str:
    try:
        return dsn_parameters.notify(value or "")
    except ValueError:  # in SMTP without its spaces
        raise Refusal("501 5.5.4 NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY") from None


def _orcpt(value: str | None) -> str:
    kind, separator, address = (value or "").partition(";")
    if not separator or not is_address_type(kind):
        raise Refusal("501 5.5.4 ORCPT is type;address")
    if kind.lower() == "utf-8" and not address.isascii():  # RFC 6533 3: kept in its form of ASCII
        address = "".join(sign if sign.isascii() else f"\\x{{{ord(sign):X}}}" for sign in address)
    return f"{kind};{_xtext('ORCPT', address, ORCPT)}"


def _xtext(name: str, value: str | None, most: int) -> str:
    try:
        return from_xtext(value or "", most)
    except ValueError as error:
        raise Refusal(f"501 5.5.4 {name} {error}") from None


def _none_left(found: dict[str, str | None]) -> None:
    if found:
        raise Refusal(f"555 5.5.4 {next(iter(found))[:40]} is not a parameter we know")
