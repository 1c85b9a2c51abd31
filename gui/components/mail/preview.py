"""The preview of a message: its header, text and HTML, for people. What is in it comes from outside.

A process of its own takes the message apart, and is ended after PATIENCE seconds: to Python's parser a Content-Type of
20 KB can be 5 s of work, and one of 2 MB the work of half a day, in which it would keep the interpreter from the mail.

HTML is shown in a frame with `sandbox` and nothing allowed, under a policy that forbids everything but inline styles
and images that are in the document; elements that make a browser connect before any policy are taken out.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import sys
from email.message import EmailMessage

import msgspec

from pipeline.views.background import ChildFailed, ChildKind, failed, run
from pipeline.views.text import shown

MOST = 2_000_000  # bytes of a message that are looked at
PATIENCE = 3.0  # seconds
PREVIEW = ChildKind("preview", "gui.components.mail.preview")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
HEAD = (
    f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    '<meta name="referrer" content="no-referrer"><meta http-equiv="x-dns-prefetch-control" content="off">'
    '<meta name="color-scheme" content="light"><style>body{font:14px/1.5 sans-serif;margin:12px}</style>'
)

# `link` can make a browser resolve and connect (preconnect), which no policy forbids; `meta` can redirect; `base`
# changes where links lead; for a frame Chromium opens a connection before it finds that the policy forbids it. The HTML
# standard begins a tag at `<` and a letter, and ends its name at these characters.
_CONNECTING = re.compile(
    r"<(/?)(link|meta|base|iframe|frame|frameset|object|embed|portal|fencedframe)(?=[\s/>\x00]|$)", re.IGNORECASE
)


class Preview(msgspec.Struct, frozen=True):
    """What can be shown of a message; `html` is as it came, for `framed`; `whole` unless that failed or took long."""

    header: str
    text: str
    html: str
    source: str
    whole: bool


def preview(source: bytes) -> Preview:
    """What can be shown of these MIME bytes, whatever they are. Waits for a process: call it in a thread."""
    cut = source[:MOST]
    header = shown(cut)
    try:
        found, whole = run(PREVIEW, cut, PATIENCE), True
    except TimeoutError:
        found, whole = b"", False
    except ChildFailed as error:
        failed(PREVIEW.part, error, grave=False)
        found, whole = b"", False
    text, html = json.loads(found) if found else ("", "")
    return Preview(header, text, html, cut.decode(errors="replace"), whole)


def framed(html: str) -> str:
    """A document for a frame with `sandbox=""`."""
    return HEAD + _CONNECTING.sub(r"<\1x-\2", html)


def bodies(source: bytes) -> tuple[str, str]:
    """The text and the HTML of a message, empty where there is none."""
    try:
        message = email.message_from_bytes(source, policy=email.policy.default)
        return _body(message, "plain"), _body(message, "html")
    except Exception:  # the parser raises all sorts of things for broken MIME
        return "", ""


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError, KeyError):  # a charset that nobody knows
        payload = part.get_payload(decode=True)
        return payload.decode(errors="replace") if isinstance(payload, bytes) else ""


def main() -> None:
    """Be that process."""
    sys.stdout.write(json.dumps(bodies(sys.stdin.buffer.read())))
