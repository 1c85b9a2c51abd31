"""Single messages in the embedded queue's file: looked at whole, and changed by their ids. For the console and the API.

Owns nothing; runs in the queue's threads, see `EmbeddedQueue.read` and `EmbeddedQueue.change`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from pipeline.queues.browse import Filter, Listed, browse
from pipeline.queues.store import Store

Action = Literal["retry", "release", "delete"]

# A message made ready must not be postponed again for the time that it names itself.
_READY = """UPDATE messages SET lane = '', due = 0, expires = NULL, body = CASE WHEN json_valid(CAST(body AS TEXT))
THEN CAST(json_remove(CAST(body AS TEXT), '$.nextattempt') AS BLOB) ELSE body END
WHERE id IN (SELECT value FROM json_each(?)) AND {}"""
_CHANGES: dict[Action, str] = {
    "retry": _READY.format("lane = '' AND due > 0"),
    "release": _READY.format("lane <> ''"),
    "delete": "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))",
}


class Opened(msgspec.Struct, frozen=True):
    """One message: how it is listed, and its body."""

    listed: Listed
    body: bytes


def read(store: Store, id: int) -> Opened | None:
    """One message, or None where it is not there (any more)."""
    with store.reading():
        listed = browse(store, Filter(), (0, id - 1), 1).messages
        if not listed or listed[0].id != id:
            return None
        return Opened(listed[0], store.take([id])[id].body)


def change(store: Store, action: Action, ids: Sequence[int]) -> int:
    """Do this with these messages, in one transaction; returns how many it was done with.

    `retry`: those that wait for a time become ready. `release`: those that are parked become ready. `delete`: they go.
    """
    return store.change(_CHANGES[action], msgspec.json.encode(ids).decode())
