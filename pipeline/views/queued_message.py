"""One queued message, as people may see it: header, properties, history; without its body and without secrets."""

from __future__ import annotations

from typing import Any

import msgspec

from operators.mail.head import shown
from operators.mail.message import Unreadable, decode_object, from_properties
from pipeline.queues.listing import Listed, OpenedMessage

HEADER = 64_000  # characters of the header that are shown
MASK = "***"


class ShownMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A queued message. `header`: as it came, "" where `mime` is an object; `results`: its attempts, oldest first."""

    listed: Listed
    properties: dict[str, Any]
    header: str
    results: list[Any]


def show(opened: OpenedMessage) -> ShownMessage:
    """What may be shown of a message, whatever it holds."""
    try:
        properties = decode_object(opened.body)
    except Unreadable:
        properties = {}
    results = properties.get("results")
    kept = {name: value for name, value in properties.items() if name not in ("mime", "results")}
    return ShownMessage(
        listed=opened.listed,
        properties=_masked(kept),
        header=_header(properties),
        results=results if isinstance(results, list) else [],
    )


def _header(properties: dict[str, Any]) -> str:
    if not isinstance(properties.get("mime"), str):
        return ""
    try:
        source = from_properties({name: properties.get(name) for name in ("mime", "mime-encoding")}).source()
    except ValueError:  # `Invalid`, or what is no base64
        return ""
    return shown(source[: HEADER * 4])[:HEADER]


def _masked(properties: dict[str, Any]) -> dict[str, Any]:
    """With the password of a smarthost and the private keys of `dkim` blanked out."""
    if isinstance(smarthost := properties.get("smarthost"), dict) and "password" in smarthost:
        properties["smarthost"] = {**smarthost, "password": MASK}
    dkim = properties.get("dkim")
    if isinstance(dkim, dict):
        properties["dkim"] = _keyless(dkim)
    elif isinstance(dkim, list):
        properties["dkim"] = [_keyless(entry) for entry in dkim]
    return properties


def _keyless(entry: Any) -> Any:
    """A DKIM entry with what names its key shown, and nothing else: the key may stand under any name."""
    if not isinstance(entry, dict):
        return MASK
    return {name: value if name in ("domain", "selector", "expire") else MASK for name, value in entry.items()}
