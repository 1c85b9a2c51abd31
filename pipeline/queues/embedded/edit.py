"""Single messages in the embedded queue's file: looked at whole, and changed by their ids. For the console and the API.

Owns nothing; runs in the queue's threads, see `EmbeddedQueue.read` and `EmbeddedQueue.change`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from operators.mail.message import decode_object, joined
from pipeline.queues.embedded.browse import browse
from pipeline.queues.embedded.file import RELEASED, Store, StoredRow
from pipeline.queues.listing import Action, Filter, OpenedMessage

_WANTED = "id IN (SELECT value FROM json_each(?))"
_CHANGES: dict[Action, str] = {
    "retry": f"UPDATE messages SET due = {RELEASED} WHERE {_WANTED} AND lane = '' AND due > {RELEASED}",  # noqa: S608
    "release": f"UPDATE messages SET lane = '', due = {RELEASED}, expires = NULL WHERE {_WANTED} AND lane <> ''",  # noqa: S608
    "delete": f"DELETE FROM messages WHERE {_WANTED}",  # noqa: S608
}
# What one transaction may come to, so that it finds room on a full disk and publishers get their turn.
_SIZES = (
    "SELECT json_group_array(json_array(id, length(body))) FROM messages WHERE id IN (SELECT value FROM json_each(?))"
)
STEP_MESSAGES = 200
STEP_BYTES = 2**20  # of bodies, and one more message


def read(store: Store, id: int) -> OpenedMessage | None:
    """One message, or None where it is not there (any more)."""
    with store.reading():
        listed = browse(store, Filter(), (0, id - 1), 1).messages
        if not listed or listed[0].id != id:
            return None
        row = store.take([id])[id]
    return OpenedMessage(listed[0], _whole(row))


def _whole(row: StoredRow) -> bytes:
    """The body with its content, as far as that can be read."""
    if row.content is None:
        return row.body
    try:
        return msgspec.json.encode(joined(decode_object(row.body), row.content.read()))
    except (OSError, ValueError):
        return row.body


def change(store: Store, action: Action, ids: Sequence[int]) -> tuple[int, int]:
    """Do this with the first of these messages, in one transaction: how many it was done with, and how many looked at.

    `retry`: those that wait for a time become due. `release`: those that are parked become due. `delete`: they go.
    """
    step = _step(store, ids[:STEP_MESSAGES])
    return store.change(_CHANGES[action], msgspec.json.encode(step).decode()), len(step)


def _step(store: Store, ids: Sequence[int]) -> Sequence[int]:
    """As many as one transaction should take; at least one."""
    sizes, total = dict(store.select(_SIZES, msgspec.json.encode(ids).decode())), 0
    for count, id in enumerate(ids, 1):
        total += sizes.get(id, 0)
        if total >= STEP_BYTES:
            return ids[:count]
    return ids
