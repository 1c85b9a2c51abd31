"""unmade: what a message asks of its text and is not done here, so that it is given up and never sent raw.

Pure functions. Only a message that asks for it is read through, once, after it has been composed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.policy import compat32
from typing import Any

from operators.mail.encoded_words import decoded
from operators.mail.message import InvalidMessage

_TAG = re.compile(
    rb"\{\s*(\$|\*|/?(if|elseif|else|foreach|foreachelse|section|for|while|capture|assign|append|literal|strip)\b"
    rb"|ldelim\b|rdelim\b|[\"'(])"
).search
_STYLE = re.compile(rb"<\s*(style|link)\b", re.IGNORECASE).search
_OFF: tuple[Any, ...] = (None, False, 0, "", "0", "false", "no", "off", [])


class Unmade(InvalidMessage):
    """The message needs what is not done here: `state` says which step, `responsive` or `personalize`."""

    result = "error"

    def __init__(self, state: str, text: str) -> None:
        self.state = state
        super().__init__(text)


def refuse(properties: Mapping[str, Any], source: bytes) -> None:
    """Raises `Unmade` where placeholders would reach people, or style blocks that were to be inlined."""
    if properties.get("data") not in (*_OFF, {}) and _anywhere(_TAG, source):
        text = "data: personalization is not done here; publish the message with its text filled in"
        raise Unmade("personalize", text)
    if properties.get("inlinecss") not in _OFF and _anywhere(_STYLE, source):
        raise Unmade("responsive", "inlinecss: is not done here; publish the HTML with style attributes")


def _anywhere(found: Callable[[bytes], object], source: bytes) -> bool:
    """Whether it stands in the message as it is, or in what its encodings (RFC 2045 6, RFC 2047) hide."""
    if found(source):
        return True
    try:
        return any(found(text) for text in _hidden(source))
    except Exception:  # of a library, by the message: what cannot be read is not sent
        return True


def _hidden(source: bytes) -> Iterator[bytes]:
    whole = message_from_bytes(source, policy=compat32)
    for value in whole.values():
        yield (decoded(" ".join(str(value).split())) or "").encode(errors="replace")
    for part in whole.walk():
        if part.get_content_maintype() == "text" and part.get("content-transfer-encoding"):
            payload = part.get_payload(decode=True)
            yield payload if isinstance(payload, bytes) else b""
