"""Looking at single messages of the embedded queue, and changing many by their ids, for the console and the API.

Owns nothing: each call is one task in a thread of the queue's own. What is being sent at this moment is sent; what
is changed under a lease behaves as with `flush` and `purge`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec

from pipeline.queues.browse import Filter, Listed, browse
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.queues.store import Store

Action = Literal["retry", "release", "delete"]
CHUNK = 200  # messages changed in one transaction, so that publishers get their turn

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


async def read(queue: EmbeddedQueue, id: int) -> Opened | None:
    """One message, or None where it is not there (any more). Raises `QueueUnavailable`."""
    found: Opened | None = await queue._ask(queue._views, partial(_read, id=id))
    return found


async def due(queue: EmbeddedQueue, id: int) -> float | None:
    """The exact time that a message waits for; None where it is not there. Raises `QueueUnavailable`."""
    found: float | None = await queue._ask(queue._views, partial(_due, id=id))
    return found


async def change(queue: EmbeddedQueue, action: Action, ids: Sequence[int]) -> int:
    """Do this with these messages; returns how many it was done with. Raises `QueueUnavailable`.

    `retry`: those that wait for a time become ready. `release`: those that are parked become ready. `delete`: they go.
    """
    changed = 0
    for start in range(0, len(ids), CHUNK):
        changed += await queue._ask(queue._writer, partial(_change, action=action, ids=ids[start : start + CHUNK]))
    if changed:
        queue._lending.counted(queue._parked_in(await queue._ask(queue._writer, Store.counts)))
    return changed


def _read(store: Store, id: int) -> Opened | None:
    with store.reading():
        listed = browse(store, Filter(), (0, id - 1), 1).messages
        if not listed or listed[0].id != id:
            return None
        return Opened(listed[0], store.take([id])[id].body)


def _due(store: Store, id: int) -> float | None:
    row = store._db.execute("SELECT due FROM messages WHERE id = ?", (id,)).fetchone()
    return row[0] if row else None


def _change(store: Store, action: Action, ids: Sequence[int]) -> int:
    return store._db.execute(_CHANGES[action], (json.dumps(list(ids)),)).rowcount
