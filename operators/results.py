"""Results: the entry that an attempt adds to a message, and the copies that go to the result queues."""

from __future__ import annotations

import base64
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Any

import msgspec

from operators.delivery import Delivery, Lease
from operators.headers import length
from operators.message import Invalid, Message, timestamp
from operators.outcome import Next, Outcome
from operators.result_queues import came_back

QUOTED = 1_000_000  # bytes of a refused body that its copy quotes: no queue takes a copy of any size
LARGEST_HEAD = 262_144  # bytes of a header that results list: it is taken apart on the event loop
WHOLE = 100  # attempts that a message tells in full
BRIEF = ("state", "result", "time", "code")  # what it tells of those before
_encode = msgspec.json.Encoder().encode


def entry(outcome: Outcome, when: float) -> dict[str, Any]:
    """The attempt as the `results` property lists it; properties that need a connection only where there was one."""
    result: dict[str, Any] = {"state": outcome.state, "result": outcome.result, "time": timestamp(when)}
    if outcome.remote_ip is not None:
        result |= {"mta": outcome.mta} if outcome.mta else {}
        result |= {
            "from": outcome.local_ip,
            "to": outcome.remote_ip,
            "messages": outcome.messages,
            "sent": {"connection": outcome.sent_connection, "data": outcome.sent_data},
        }
    for name in ("code", "status", "description"):
        if value := getattr(outcome, name):
            result[name] = value
    if outcome.result == "accepted" and outcome.dsn is not None:
        result["dsn"] = outcome.dsn
    return result | (outcome.tls or {})


def tried(message: Message, outcome: Outcome, when: float) -> dict[str, Any]:
    """The message's properties with this attempt added."""
    return {**message.properties, "results": [*_bounded(message.results), entry(outcome, when)]}


def _bounded(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attempts so far. Of more than WHOLE the older ones are brief, so that no number of them outgrows a queue."""
    if len(results) < WHOLE:
        return results
    brief = [{name: one[name] for name in BRIEF if name in one} for one in results[: 1 - WHOLE]]
    return brief + results[1 - WHOLE :]


def copies(delivery: Delivery, queues: dict[str, str], when: float) -> list[tuple[str, bytes]]:
    """The (queue, body) copies that a message's end owes.

    Args:
        delivery: with its outcome.
        queues: the configured names of `results`, `success`, `failure`, `retry`, `refused`; absent is off.
        when: epoch seconds.
    """
    outcome = delivery.outcome
    assert outcome is not None
    if outcome.next is Next.REFUSE:
        return _refusal_once(delivery, queues, outcome.description)
    kinds = {Next.DELIVERED: ("results", "success"), Next.FAIL: ("results", "failure"), Next.RETRY: ("retry",)}
    names = [name for kind in kinds.get(outcome.next, ()) if (name := _queue(delivery.message, queues, kind))]
    if not names:
        return []
    body = _encode(report(delivery.message, outcome, when))
    return [(name, body) for name in names]


def _refusal_once(delivery: Delivery, queues: dict[str, str], why: str) -> list[tuple[str, bytes]]:
    """The refusal of a result that came back goes to the refused queue alone, that of a refusal nowhere: no circles."""
    what = came_back(delivery.message.properties)
    kinds = {"": ("refused", "failure"), "a result": ("refused",)}.get(what, ())
    return refusal(delivery.lease, {kind: name for kind, name in queues.items() if kind in kinds}, why)


def refusal(lease: Lease, queues: dict[str, str], why: str) -> list[tuple[str, bytes]]:
    """A body that is no message, for the refused queue, or for failure; of a very large one the beginning."""
    name = queues.get("refused") or queues.get("failure")
    size = lease.size or len(lease.body)
    quoted = {"error": why, "body": base64.b64encode(lease.body[:QUOTED]).decode()}
    return [(name, _encode(quoted | ({"size": size} if size > QUOTED else {})))] if name else []


def report(message: Message, outcome: Outcome, when: float) -> dict[str, Any]:
    """What a result queue gets: the message as it came, its attempts, and what was extracted from it."""
    properties = tried(message, outcome, when)
    if not message.keepmime or outcome.next is Next.RETRY:
        properties.pop("mime", None)
        properties.pop("mime-encoding", None)
    properties["extracted"] = extracted(message)
    return properties


def extracted(message: Message) -> dict[str, Any]:
    """From, To, Subject and all headers by lower-case name; envelope and recipient split."""
    try:
        source = message.source()
    except (Invalid, ValueError):
        source = b""
    head = source[: min(length(source), LARGEST_HEAD)]
    parsed = BytesHeaderParser(policy=compat32).parsebytes(head)
    headers: dict[str, list[str]] = {}
    for name, value in parsed.items():
        headers.setdefault(name.lower(), []).append(str(value))
    first: dict[str, Any] = {name: headers[name][0] for name in ("from", "to", "subject") if name in headers}
    return {
        **first,
        "headers": headers,
        "envelope": _split(message.envelope or ""),
        "recipient": _split(message.recipient),
    }


def _split(address: str) -> dict[str, str]:
    local, _, domain = address.rpartition("@")
    return {"local": local, "domain": domain}


def _queue(message: Message, queues: dict[str, str], kind: str) -> str | None:
    """The message's own queue for this kind; null turns it off, absent keeps the configured one."""
    if message.queues is not None and kind in message.queues:
        return message.queues[kind]
    return queues.get(kind)
