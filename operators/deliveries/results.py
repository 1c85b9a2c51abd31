"""Results: the entry that an attempt adds to a message, and the copies that go to the result queues."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.extracted import extracted, previous
from operators.deliveries.outcome import Next, Outcome, TlsFacts
from operators.deliveries.result_queues import ResultQueues, came_back
from operators.mail.message import Content, Message, joined, timestamp

QUOTED = 1_000_000  # bytes of a refused body that its copy quotes: no queue takes a copy of any size
SECRETS = (b"smarthost", b"dkim")  # properties that hold some
WHOLE = 100  # attempts that a message tells in full
BRIEF = ("state", "result", "time", "code", "skipped")  # what it tells of those before
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
        result |= {"authentication": outcome.authentication} if outcome.authentication else {}
    for name in ("code", "status", "description"):
        if value := getattr(outcome, name):
            result[name] = value
    if outcome.result == "accepted" and outcome.dsn is not None:
        result["dsn"] = outcome.dsn
    if outcome.skipped:
        result["skipped"] = True
    if outcome.ours and outcome.state == "process":
        result["forced"] = True
    if outcome.bounce_class is not None:
        result["class"] = outcome.bounce_class
    tls = outcome.tls or {}
    return result | (tls.whole() if isinstance(tls, TlsFacts) else tls) | (outcome.extra or {})


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
    properties = report(delivery.message, outcome, when, delivery.source, delivery.content)
    if isinstance(queues, ResultQueues) and queues.previous:
        properties = previous(properties)
    body = _encode(properties)
    return [(name, body) for name in names]


def _refusal_once(delivery: Delivery, queues: dict[str, str], why: str) -> list[tuple[str, bytes]]:
    """The refusal of a result that came back goes to the refused queue alone, that of a refusal nowhere: no circles."""
    what = came_back(delivery.message.properties)
    kinds = {"": ("refused", "failure"), "a result": ("refused",)}.get(what, ())
    return refusal(delivery.lease, {kind: name for kind, name in queues.items() if kind in kinds}, why)


def refusal(lease: Lease, queues: dict[str, str], why: str) -> list[tuple[str, bytes]]:
    """A body that is no message, for the refused queue, or for failure; of a very large one the beginning.

    Where it is one after all, by a fault of ours, it is without its secrets.
    """
    name = queues.get("refused") or queues.get("failure")
    size = lease.size or len(lease.body)
    quoted = {"error": why, "body": base64.b64encode(_quotable(lease.body)[:QUOTED]).decode()}
    return [(name, _encode(quoted | ({"size": size} if size > QUOTED else {})))] if name else []


def _quotable(body: bytes) -> bytes:
    if not any(word in body for word in SECRETS):
        return body
    try:
        properties = msgspec.json.decode(body)
        return _encode(without_secrets(properties)) if isinstance(properties, dict) else body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


def report(
    message: Message, outcome: Outcome, when: float, source: bytes = b"", content: Content | None = None
) -> dict[str, Any]:
    """What a result queue gets: the message as it came, its attempts, and what was extracted from it."""
    properties = tried(message, outcome, when)
    if not message.keepmime or outcome.next is Next.RETRY:
        properties.pop("mime", None)
        properties.pop("mime-encoding", None)
    elif content is not None:
        properties = joined(properties, content.read())
    properties["extracted"] = extracted(message, source)
    return without_secrets(properties)


def without_secrets(properties: dict[str, Any]) -> dict[str, Any]:
    """The properties without a smarthost's password and DKIM's private keys, of whatever form: they stay with us.

    What is not as it should be goes as a whole. Costs 0.1 microseconds for a message without either.
    """
    if "smarthost" in properties:
        properties = {**properties, "smarthost": _without(properties["smarthost"], "password")}
    if "dkim" in properties:
        keys = properties["dkim"]
        clean = [_without(one, "key") for one in keys] if isinstance(keys, list) else _without(keys, "key")
        properties = {**properties, "dkim": clean}
    return properties


def _without(value: Any, secret: str) -> Any:
    if not isinstance(value, dict):
        return None
    return {name: one for name, one in value.items() if name.lower() != secret}


def smaller(body: bytes, most: int) -> bytes | None:
    """A copy in at most so many bytes: without its MIME, then without headers, then with its last attempt only.

    None where nothing is left to leave out.
    """
    try:
        properties = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(properties, dict) or "extracted" not in properties:
        return None  # not a result: a notification is mail
    for shrink in (_without_mime, _without_headers, _with_last_attempt):
        shrink(properties)
        if len(found := _encode(properties)) <= most:
            break
    return found if len(found) < len(body) else None


def _without_mime(properties: dict[str, Any]) -> None:
    for name in ("mime", "mime-encoding"):
        properties.pop(name, None)


def _without_headers(properties: dict[str, Any]) -> None:
    properties["extracted"] = {}


def _with_last_attempt(properties: dict[str, Any]) -> None:
    results = properties.get("results")
    properties["results"] = results[-1:] if isinstance(results, list) else []


def _queue(message: Message, queues: dict[str, str], kind: str) -> str | None:
    """The message's own queue for this kind; null turns it off, absent keeps the configured one."""
    if message.queues is not None and kind in message.queues:
        return message.queues[kind]
    return queues.get(kind)
