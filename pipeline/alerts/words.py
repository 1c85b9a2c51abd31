"""Notices in words: as the JSON that a webhook gets, as a text, and as a mail. Pure functions."""

from __future__ import annotations

import datetime
import hmac
from email.utils import formatdate
from typing import Any

import msgspec

from operators.mail.entity import text
from operators.mail.fields import address_field, field
from pipeline.alerts.states import AlertNotice
from pipeline.log.text import visible

VERSION = 1
MARKS = {"begun": "ALERT", "still": "STILL", "ended": "ENDED", "test": "TEST"}
TEXT = 1000  # characters of what was found


def iso(seconds: float) -> str:
    """A time, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def headline(notice: AlertNotice, instance: str) -> str:
    """One line: `ALERT mx1: Gmail defers: ...`."""
    return f"{MARKS[notice.kind]} {instance}: {notice.name}: {notice.text[:TEXT]}"


def posted(notice: AlertNotice, instance: str, url: str, style: str) -> bytes:
    """What a webhook gets. docs/api.md says what each field is."""
    if style == "slack":
        link = f" (<{url}/alerts|console>)" if url else ""
        return msgspec.json.encode({"text": _slack(headline(notice, instance)) + link})
    ended = notice.time if notice.kind == "ended" else None
    return msgspec.json.encode(
        {
            "mailrace-alert": VERSION,
            "id": notice.id,
            "kind": notice.kind,
            "time": iso(notice.time),
            "instance": instance,
            "rule": {"id": notice.rule, "name": notice.name, "watch": notice.watch},
            "subject": notice.subject,
            "text": notice.text[:TEXT],
            "since": iso(notice.since),
            "ended": iso(ended) if ended is not None else None,
            "url": f"{url}/alerts" if url else None,
        }
    )


def _slack(text: str) -> str:
    """Its three signs (https://docs.slack.dev/messaging/formatting-message-text), so that nothing becomes a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signature(secret: str, body: bytes) -> str:
    """What stands in X-Mailrace-Signature."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


def mailed(notice: AlertNotice, instance: str, sender: str, recipient: str, url: str) -> dict[str, Any]:
    """The message of the queue; an automatic one (RFC 3834), so without a return path and answers."""
    lines = [headline(notice, instance), "", f"Since {iso(notice.since)}."]
    if notice.kind == "ended":
        lines.append(f"Ended {iso(notice.time)}.")
    lines += ["", f"{url}/alerts"] if url else []
    head = [
        address_field("From", [("Mailrace", sender)], "alert-sender"),
        address_field("To", [("", recipient)], "email"),
        field("Subject", visible(" ".join(headline(notice, instance).split())[:200])),
        field("Date", formatdate(notice.time)),
        field("Message-ID", f"<alert-{notice.id}@{sender.rpartition('@')[2]}>"),
        field("Auto-Submitted", "auto-generated"),
        b"MIME-Version: 1.0\r\n",
    ]
    body = text(visible("\n".join([*lines, ""]), "\n\t"), "plain", "alert")
    return {
        "envelope": "",
        "recipient": recipient,
        "tags": ["mailrace-alert"],
        "priority": 255,
        "mime": (b"".join(head) + body.octets).decode(),
    }
