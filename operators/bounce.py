"""bounce: the delivery status notification that a sender asked for (RFC 3461, RFC 3464). Pure functions.

None is sent for the null sender, with NOTIFY=NEVER, or where nobody asked: so a bounce never bounces. Whatever an
address or an answer holds, its field is one line of ASCII (RFC 6533 3); only `To` has international addresses as they
are.
"""

from __future__ import annotations

from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import SMTPUTF8, compat32
from email.utils import formatdate
from typing import Any

from operators.addresses import valid_path
from operators.delivery import Delivery
from operators.message import Invalid, mime_properties, timestamp
from operators.outcome import Next, Outcome

LONGEST = 1000  # characters of an address, an answer or an identifier
PLACE = b"(the original message)"  # until its bytes stand there
ACTIONS = {Next.FAIL: ("FAILURE", "failed"), Next.DELIVERED: ("SUCCESS", "relayed")}  # RFC 3464 2.3.3


def bounce(delivery: Delivery, hostname: str, message_id: str, when: float) -> dict[str, Any] | None:
    """The notification as a message's properties, or None where none is owed.

    Success is told only where the receiver offers no DSN itself, as `relayed` (RFC 3461 6.2.1).

    Args:
        delivery: with its outcome.
        hostname: the reporting MTA.
        message_id: for the notification.
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
    mail = _report(delivery, outcome, action, hostname, when)
    mail["Message-ID"] = f"<{message_id}>"
    part, original = _original(delivery)
    mail.attach(part)
    report = mail.as_bytes(policy=SMTPUTF8)
    if original is not None:
        before, _, after = report.rpartition(PLACE)
        report = before + original + after
    own = {"message-id": message_id, "received": timestamp(when), "hostname": hostname}
    return {"recipient": message.envelope, "envelope": "", **own, **mime_properties(report)}


def _report(delivery: Delivery, outcome: Outcome, action: str, hostname: str, when: float) -> MIMEMultipart:
    """multipart/report: for people, for programs, and what was sent (RFC 6522)."""
    mail = MIMEMultipart("report")
    mail.set_param("report-type", "delivery-status")
    mail["From"] = f"Mail Delivery System <postmaster@{hostname}>"
    mail["To"] = str(delivery.message.envelope)
    mail["Subject"] = "Undelivered mail" if action == "failed" else "Mail was relayed"
    mail["Date"] = formatdate(when)
    mail["Auto-Submitted"] = "auto-replied"  # RFC 3834 5
    mail.attach(MIMEText(_text(delivery, outcome, action), "plain", "utf-8"))
    mail.attach(_status(delivery, outcome, action, hostname, when))
    return mail


def _text(delivery: Delivery, outcome: Outcome, action: str) -> str:
    said = " ".join(str(part) for part in (outcome.code, outcome.status, outcome.description) if part)
    who = f" {outcome.host}" if outcome.host else ""
    if action == "relayed":
        return f"Your mail to {delivery.message.recipient} was handed to{who}, which sends no notifications itself.\r\n"
    return f"Your mail to {delivery.message.recipient} could not be delivered.\r\n\r\n{who.strip()} said: {said}\r\n"


def _status(delivery: Delivery, outcome: Outcome, action: str, hostname: str, when: float) -> Message:
    """message/delivery-status: fields for the message, then for the recipient (RFC 3464 2.2, 2.3)."""
    message, wish = delivery.message, delivery.message.dsn
    assert wish is not None
    whole, one = EmailMessage(compat32), EmailMessage(compat32)
    whole["Reporting-MTA"] = f"dns; {hostname}"
    if wish.envid:
        whole["Original-Envelope-Id"] = _line(wish.envid)
    if delivery.lease.queued:
        whole["Arrival-Date"] = formatdate(delivery.lease.queued)
    if wish.orcpt:
        one["Original-Recipient"] = _line(wish.orcpt)
    one["Final-Recipient"] = f"{'rfc822' if message.recipient.isascii() else 'utf-8'}; {_line(message.recipient)}"
    one["Action"] = action
    one["Status"] = outcome.status or _status_of(outcome)
    if outcome.host:
        one["Remote-MTA"] = f"dns; {outcome.host}"
    if outcome.code:
        said = f"smtp; {outcome.code} {outcome.status or ''} {outcome.description}"
        one["Diagnostic-Code"] = _line(said).replace("  ", " ")
    one["Last-Attempt-Date"] = formatdate(when)
    part = Message(compat32)
    part["Content-Type"] = "message/delivery-status"
    part.set_payload([whole, one])
    return part


def _line(text: str) -> str:
    """The text as one line of ASCII (RFC 6533 3, utf-8-addr-xtext), as far as it is reasonable."""
    return "".join(sign if " " <= sign <= "~" else f"\\x{{{ord(sign):X}}}" for sign in text[:LONGEST])


def _status_of(outcome: Outcome) -> str:
    """An enhanced status where the receiver gave none (RFC 3463)."""
    if outcome.next is Next.DELIVERED:
        return "2.0.0"
    if outcome.result == "timeout":
        return "4.4.7"  # delivery time expired
    return {"dns": "5.1.2", "connect": "5.4.1", "bind": "5.3.0", "rcptto": "5.1.1"}.get(outcome.state, "5.0.0")


def _original(delivery: Delivery) -> tuple[Message, bytes | None]:
    """The part for what comes back: the header, or where RET=FULL asks for it the message, and its bytes for PLACE. It
    is not taken apart: to fold a header anew takes Python hours where somebody means harm."""
    try:
        source = delivery.source or delivery.message.source()
    except (Invalid, ValueError):
        source = b""
    if delivery.message.dsn is None or (delivery.message.dsn.ret or "").upper() != "FULL":
        head = source.partition(b"\r\n\r\n")[0]
        return MIMEText(head.decode("utf-8", "replace"), "rfc822-headers", "utf-8"), None
    part = Message(compat32)
    part["Content-Type"] = "message/rfc822"
    part["Content-Transfer-Encoding"] = "7bit" if source.isascii() else "8bit"
    part.set_payload(PLACE.decode())
    return part, source
