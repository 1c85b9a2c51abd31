"""bounce: the delivery status notification that a sender asked for (RFC 3461, RFC 3464). Pure functions.

None is sent for the null sender, with NOTIFY=NEVER, or where nobody asked: so a bounce never bounces. Whatever an
address or an answer holds, its field is one line of ASCII (RFC 6533 3); only `To` has international addresses as they
are.
"""

from __future__ import annotations

import ipaddress
import re
from email.utils import formatdate
from typing import Any

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome
from operators.mail.addresses import valid_path
from operators.mail.dsn_parameters import is_address_type
from operators.mail.entity import Entity, coded, entity, several, text
from operators.mail.fields import address_field, field, folded, host, message_id
from operators.mail.head import length
from operators.mail.long_lines import ENCODE, fitted
from operators.mail.message import InvalidMessage, from_properties, joined, mime_properties, timestamp
from operators.mail.source import source_of
from operators.mail.wire import needs_smtputf8

LONGEST = 1000  # characters of an address, an answer or an identifier
WORD = 900  # characters of one without white space: no line is longer than 998 octets (RFC 5322 2.1.1)
HEADER = 100_000  # octets of an original header that come back
ACTIONS = {Next.FAIL: ("FAILURE", "failed"), Next.DELIVERED: ("SUCCESS", "relayed")}  # RFC 3464 2.3.3
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII).fullmatch


def bounce(delivery: Delivery, hostname: str, id: str, when: float) -> dict[str, Any] | None:
    """The notification as a message's properties, or None where none is owed.

    Success is told only where the receiver offers no DSN itself, as `relayed` (RFC 3461 6.2.1).

    Args:
        delivery: with its outcome.
        hostname: the reporting MTA.
        id: for the notification.
        when: epoch seconds.
    """
    message, outcome = delivery.message, delivery.outcome
    assert outcome is not None
    if message.dsn is None or outcome.next not in ACTIONS or not valid_path(message.envelope or ""):
        return None
    wish, action = ACTIONS[outcome.next]
    wishes = {part.strip().upper() for part in (message.dsn.notify or "").split(",")}
    if wish not in wishes or (action == "relayed" and outcome.dsn):
        return None
    parts = [
        text(_text(delivery, outcome, action), "plain", "the notification"),
        _status(delivery, outcome, action, hostname, when),
        _original(delivery),
    ]
    report = _head(message.envelope or "", action, hostname, message_id(id, hostname), when)
    report += several("report", parts, (("report-type", "delivery-status"),)).octets  # RFC 6522
    own = {"message-id": id, "received": timestamp(when), "hostname": hostname}
    return {"recipient": message.envelope, "envelope": "", **own, **mime_properties(report)}


def _head(to: str, action: str, hostname: str, id: str, when: float) -> bytes:
    subject = "Undelivered mail" if action == "failed" else "Mail was relayed"
    fields = [
        address_field("From", [("Mail Delivery System", f"postmaster@{host(hostname)}")], "From"),
        address_field("To", [("", to)], "To"),
        field("Subject", subject),
        field("Date", formatdate(when)),
        field("Message-ID", id),
        field("Auto-Submitted", "auto-replied"),  # RFC 3834 5
        b"MIME-Version: 1.0\r\n",
    ]
    return b"".join(fields)


def _text(delivery: Delivery, outcome: Outcome, action: str) -> str:
    said = " ".join(str(part) for part in (outcome.code, outcome.status, outcome.description) if part)
    to, host, said = (_shown(text) for text in (delivery.message.recipient, outcome.host or "", said))
    if action == "relayed":
        return f"Your mail to {to} was handed to {host or 'a server'}, which sends no notifications itself.\n"
    return f"Your mail to {to} could not be delivered.\n\n{f'{host} said: {said}'.strip()}\n"


def _shown(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _status(delivery: Delivery, outcome: Outcome, action: str, hostname: str, when: float) -> Entity:
    """message/delivery-status: fields for the message, then for the recipient (RFC 3464 2.2, 2.3)."""
    message, wish = delivery.message, delivery.message.dsn
    assert wish is not None
    whole = [("Reporting-MTA", _mta(hostname))]
    if wish.envid:
        whole.append(("Original-Envelope-Id", _line(wish.envid)))
    if delivery.lease.queued:
        whole.append(("Arrival-Date", formatdate(delivery.lease.queued)))
    one = [("Original-Recipient", _original_recipient(wish.orcpt))] if wish.orcpt else []
    one += [("Final-Recipient", _typed("rfc822", message.recipient).replace(";", "; ", 1)), ("Action", action)]
    one.append(("Status", status_of(outcome)))
    if outcome.host:
        one.append(("Remote-MTA", _mta(outcome.host)))
    if outcome.code:
        said = f"smtp; {outcome.code} {outcome.status or ''} {outcome.description}"
        one.append(("Diagnostic-Code", _line(said)))
    one.append(("Last-Attempt-Date", formatdate(when)))
    body = b"\r\n".join(b"".join(_plain(name, value) for name, value in group) for group in (whole, one))
    return entity("message/delivery-status", body)


def _plain(name: str, value: str) -> bytes:
    """None of these fields may have an encoded-word in it (RFC 2047 5)."""
    words = [word[:WORD] for word in value.split()]
    return folded(name, [words[0], *(f" {word}" for word in words[1:])] if words else [], name)


def _line(text: str) -> str:
    """The text as one line of ASCII, as far as it is reasonable; the rest as `\\x{...}` (RFC 6533 3)."""
    return "".join(sign if " " <= sign <= "~" else f"\\x{{{ord(sign):X}}}" for sign in text[:LONGEST])


def _typed(kind: str, address: str) -> str:
    """type;address (RFC 3464 2.3.1); beyond ASCII it is of type utf-8, and utf-8-addr-xtext (RFC 6533 3)."""
    if address.isascii():
        return f"{kind};{_line(address)}"
    return "utf-8;" + "".join(
        sign if "!" <= sign <= "~" and sign not in "+=\\" else f"\\x{{{ord(sign):X}}}" for sign in address[:LONGEST]
    )


def _original_recipient(orcpt: str) -> str:
    kind, semicolon, address = orcpt.partition(";")
    if semicolon and is_address_type(kind.strip()):
        return _typed(kind.strip(), address.strip())
    return _typed("rfc822", orcpt.strip())


def _mta(name: str) -> str:
    """dns; and a host name in A-labels, or an address literal (RFC 3464 2.2.2)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return f"dns; {host(name)}"
    return f"dns; [{name}]"


def status_of(outcome: Outcome) -> str:
    """The enhanced status (RFC 3463), of the class that the action has: 2 relayed, 4 or 5 failed (RFC 3464 2.3.4).

    The receiver's own, where it gave one; where its class says something else than its code, the code counts.
    """
    if outcome.next is Next.DELIVERED:
        kind = "2"
    elif outcome.code is not None and 400 <= outcome.code < 600:
        kind = str(outcome.code)[0]
    else:
        kind = "4" if outcome.result in ("timeout", "lost") else "5"
    if outcome.status and _STATUS(outcome.status):
        return kind + outcome.status[1:]
    if kind == "2":
        return "2.0.0"
    if outcome.result == "timeout":
        return f"{kind}.4.7"  # delivery time expired
    return kind + {"dns": ".1.2", "connect": ".4.1", "bind": ".3.0", "rcptto": ".1.1"}.get(outcome.state, ".0.0")


def _original(delivery: Delivery) -> Entity:
    """What comes back: the header, or where RET=FULL asks for it the message, byte for byte.

    Of one with a line over 998 octets that cannot be encoded the header: else the notification could not be sent.
    """
    message, content = delivery.message, delivery.content
    try:
        if content is not None and isinstance(message.mime, dict):
            message, content = from_properties(joined(message.properties, content.read())), None
        source = delivery.source or source_of(message)
    except InvalidMessage:
        source = b""
    if message.dsn is None or (message.dsn.ret or "").upper() != "FULL":
        return _header(source[: length(source)])
    if content is not None:
        source += content.read()
    try:
        fitted(source, ENCODE)
    except InvalidMessage:
        return _header(source[: length(source)])
    kind = "message/global" if needs_smtputf8(message, source) else "message/rfc822"  # RFC 6533 3
    return entity(kind, source, eight=not source.isascii())


def _header(head: bytes) -> Entity:
    """text/rfc822-headers (RFC 6522 4), at most HEADER octets."""
    if len(head) > HEADER:
        head = head[: head.rfind(b"\r\n", 0, HEADER) + 2]
    return coded(head, "text/rfc822-headers", (), "the header")
