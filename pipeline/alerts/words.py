"""Notices in words: as the JSON that a webhook gets, as a text, and as a mail. Pure functions."""

from __future__ import annotations

import datetime
import hmac
import quopri
from typing import Any
from urllib.parse import quote

import msgspec

from pipeline.alerts.states import AlertNotice

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
        f"From: Mailrace <{sender}>",
        f"To: <{recipient}>",
        f"Subject: {_header(headline(notice, instance))}",
        f"Date: {datetime.datetime.fromtimestamp(notice.time, datetime.UTC).strftime('%a, %d %b %Y %H:%M:%S +0000')}",
        f"Message-ID: <alert-{notice.id}@{sender.rpartition('@')[2]}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
    ]
    return {
        "envelope": "",
        "recipient": recipient,
        "tags": ["mailrace-alert"],
        "priority": 255,
        "mime": "\r\n".join([*head, "", _printable("\r\n".join(lines)), ""]),
    }


def _header(text: str) -> str:
    """Unstructured text of one line, in encoded words where it is not ASCII (RFC 2047)."""
    text = " ".join(text.split())[:200]
    if text.isascii() and text.isprintable():
        return text
    words = (text[start : start + 10] for start in range(0, len(text), 10))
    return "\r\n ".join(f"=?utf-8?Q?{quote(word, safe='').replace('%', '=')}?=" for word in words)


def _printable(text: str) -> str:
    """Quoted-printable (RFC 2045 6.7)."""
    return quopri.encodestring(text.replace("\r\n", "\n").encode()).decode().replace("\n", "\r\n")
