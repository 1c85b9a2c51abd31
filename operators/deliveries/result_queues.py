"""result_queues: where results may not go, and how a result is known that came back as if it were mail.

Pure functions. Both guard against one loop: a result that is read as a message has a result of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from settings.config.queue_names import is_ours, is_read

KINDS = ("results", "success", "failure", "retry")
_REFUSAL = {"error", "body", "size"}  # see `results.refusal`


class ResultQueues(dict[str, str]):
    """The names of the result queues that are on, by kind; `previous`: results have the shapes of Mailrace 0.1."""

    previous = False


class ResultRule:
    """The rule for the `queues` of a message.

    Args:
        outbox, inbox: the queues that mail is read from.
    """

    def __init__(self, outbox: str, inbox: str) -> None:
        self._outbox, self._inbox = outbox, inbox

    def wrong(self, queues: Mapping[str, str | None] | None) -> dict[str, str]:
        """What is wrong with each kind of queue that may not be used; empty where nothing is."""
        found = {}
        for kind, name in (queues or {}).items():
            if name and self._forbidden(kind, name):
                found[kind] = f"{name[:60]!r} is a queue that mail is read from, so results cannot go there"
        return found

    def _forbidden(self, kind: str, name: str) -> bool:
        """Notifications are mail themselves, and may go to the outbox, but to no queue of our own."""
        if kind in KINDS:
            return is_read(name, self._outbox, self._inbox)
        return is_ours(name, self._outbox)


def came_back(properties: Mapping[str, Any]) -> str:
    """What of ours this is, where it is no message: "a result", "a refusal", or ""."""
    if "error" in properties and "body" in properties and properties.keys() <= _REFUSAL:
        return "a refusal"
    if isinstance(properties.get("extracted"), dict) and properties.get("results"):
        return "a result"
    return ""
