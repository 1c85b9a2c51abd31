"""Messages as the console lists them, without loading them whole.

A page looks at LOOKED messages at most, so that a filter that hits nothing does not read a million messages: it then
comes back short, or empty, and `after` says where to go on.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from operators.mail.head import readable
from pipeline.queues.embedded.file import RELEASED, Store
from pipeline.queues.listing import Browsed, Filter, Listed, Place, Sought

_CONTINUED = re.compile(r"\n(?![ \t])")
LOOKED = 5000  # messages looked at for one page

# What is not JSON (refused bodies) has no properties. SQLite writes numbers into JSON with 15 digits; times have 17,
# and a place rounded up would skip messages, one rounded down would repeat them for ever.
# What a foreign hand has put into a column is shown as far as it can be: see `mend` for what becomes of it.
_PAGE = """SELECT json_group_array(json_array(id, CAST(queue AS TEXT), CAST(lane AS TEXT),
    json(printf('%!.17g', min(max(CAST(due AS REAL), 0.0), 253402300799.0))),
    iif(expires IS NULL, NULL, min(max(CAST(expires AS REAL), 0.0), 253402300799.0)),
    min(max(CAST(queued AS REAL), 0.0), 253402300799.0), size,
    json_extract(text, '$.recipient'), json_extract(text, '$.envelope'), json_array_length(text, '$.results'),
    json(text -> '$.results[#-1]'), json(text -> '$.tags'), json_extract(text, '$."message-id"'),
    iif(?2, coalesce(json_extract(text, '$.mime.subject'),
        substr(head, nullif(instr(lower(head), char(10) || 'subject:'), 0) + 9, 300)), NULL)))
FROM (SELECT *, iif(?2, char(10) || substr(json_extract(text, '$.mime'), 1, 8000), '') AS head
    FROM (SELECT m.*, length(CAST(body AS BLOB)) + coalesce(octets, 0) AS size,
    iif(json_valid(CAST(body AS TEXT)), CAST(body AS TEXT), '{}') AS text
    FROM json_each(?1) AS wanted CROSS JOIN messages AS m ON m.id = wanted.value))"""

# Parameters: queue, lane, after (due, id), how many.
_LOOK = "SELECT json_group_array(id) FROM (SELECT id FROM messages {} LIMIT ?5)"
_PARKED = _LOOK.format("INDEXED BY parked WHERE queue = ?1 AND lane <> '' AND lane = ?2 AND id > ?4 ORDER BY id")
_WAITING = _LOOK.format(
    "INDEXED BY waiting WHERE queue = ?1 AND lane = '' AND due > 0 AND (due, id) > (?3, ?4) ORDER BY due, id"
)
_READY = _LOOK.format("INDEXED BY ready WHERE queue = ?1 AND lane = '' AND due = 0 AND id > ?4 ORDER BY id")
_ALL = _LOOK.format("WHERE id > ?4 ORDER BY id")


def browse(store: Store, filter: Filter, after: Place, limit: int) -> Browsed:
    """The first `limit` messages after a place, as far as LOOKED reaches; those that wait by time, others by age."""
    narrow = filter.containing is not None
    parameters = (filter.queue, filter.lane, *after, LOOKED if narrow else limit)
    ids: list[int] = store.select(_search(filter), *parameters)
    listed: list[Listed] = []
    for start in range(0, len(ids), limit):
        for row in store.select(_PAGE, msgspec.json.encode(ids[start : start + limit]).decode(), narrow):
            message, subject = _listed(row), row[13]
            after = (row[3], message.id)
            if _matches(message, subject, filter):
                listed.append(message)
            if len(listed) == limit:
                return Browsed(listed, after)
    return Browsed(listed, after if len(ids) == parameters[-1] else None)


def _search(filter: Filter) -> str:
    if filter.queue is None:
        return _ALL
    if filter.lane:
        return _PARKED
    return _WAITING if filter.waiting else _READY


def _listed(row: list[Any]) -> Listed:
    id, queue, lane, due, expires, queued, size, recipient, envelope, attempts, last, tags, message_id, _ = row
    return Listed(
        id=id,
        queue=queue,
        lane=lane,
        due=0.0 if due == RELEASED else due,
        expires=expires,
        queued=queued,
        size=size,
        recipient=str(recipient or ""),
        envelope=str(envelope or ""),
        attempts=attempts or 0,
        last=last if isinstance(last, dict) else None,
        tags=[tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
        message_id=str(message_id or ""),
    )


def _matches(message: Listed, subject: Any, filter: Filter) -> bool:
    wanted = (filter.containing or "").lower()
    if not wanted:
        return True
    texts = (message.recipient, message.envelope, message.message_id, _read(str(subject or "")))
    return any(wanted in text.lower() for text in texts)


def _read(field: str) -> str:
    """A subject as people read it: its first line and those that continue it (RFC 5322 2.2.3), decoded (RFC 2047)."""
    return readable(_CONTINUED.split(field.replace("\r\n", "\n"), maxsplit=1)[0].replace("\n", "").strip())


# -- what is to be withdrawn -------------------------------------------------------------------------------------------
#
# A part of the file at once, in the order of the ids, with no index: one would cost each message on its way, and a look
# at a whole message costs SQLite 1 to 5 microseconds, without the interpreter's lock. It finds all that are sought,
# and of domains those in Unicode, too: who asks decides on each message.
#
# SQLite ends AND and OR early in a condition only: as a value it works out both sides, so the search is one CASE. LIKE
# looks for its first letter as the C library does, and takes a third of the time of `instr`.

SEARCHED = 10_000  # rows looked at in one part
FOUND = 8 * 2**20  # of bodies found in one part, and one more message

# A tag is a string of JSON, so it stands in quotes, which are escaped in a mail's text. Another program may have
# written its letters as \u0061: then JSON is read.
_TAG = r"""(CAST(body AS TEXT) LIKE ?4 ESCAPE '\' OR CAST(body AS TEXT) LIKE '%\\u%' ESCAPE '\')
    AND json_valid(CAST(body AS TEXT))
    AND EXISTS(SELECT 1 FROM json_each(CAST(body AS TEXT), '$.tags') WHERE value = ?5)"""
_DOMAIN = """json_valid(CAST(body AS TEXT)) AND EXISTS(SELECT 1 FROM json_each(?6) AS wanted
    WHERE rtrim(lower(CAST(body AS TEXT) ->> '$.recipient'), '.') LIKE '%@' || wanted.value
    OR CAST(body AS TEXT) ->> '$.recipient' GLOB '*[^ -~]*')"""
_STATE = {"ready": "lane = '' AND due = 0", "waiting": "lane = '' AND due > 0", "parked": "lane <> ''", "": "1"}
_ANY = "coalesce(?4, ?5, ?6, ?7) IS NOT NULL"  # each parameter stands somewhere
_SEARCH = """SELECT json_array(count(*), max(id), json_group_array(json_array(id, size)) FILTER (WHERE fits)) FROM
    (SELECT id, length(body) AS size, CASE WHEN queue = ?2 AND {} THEN 1 ELSE 0 END AS fits FROM messages
    WHERE id > ?1 AND id <= ?3 ORDER BY id LIMIT {})"""
_LAST = "SELECT coalesce(max(id), 0) FROM messages"


def last(store: Store) -> int:
    """The id of the newest message."""
    return int(store.one(_LAST))


def seek(
    store: Store, queue: str, sought: Sought, after: int, until: int, whole: bool = True
) -> tuple[int, int, list[int]]:
    """Look at a part of the ids after `after` and up to `until`: how many there are, the last one, and those sought.

    `whole`: they will be read, so they are no more than FOUND bytes.
    """
    needle = f"%{_SPECIAL.sub(_ESCAPED, msgspec.json.encode(sought.tag).decode())}%"
    domains = msgspec.json.encode([_like(domain) for domain in sought.domains]).decode()
    fits = {_ANY: True, _STATE[sought.state]: True, "lane = ?7": bool(sought.lane)}
    fits |= {_TAG: bool(sought.tag), _DOMAIN: bool(sought.domains)}
    search = _SEARCH.format(" AND ".join(condition for condition, holds in fits.items() if holds), SEARCHED)
    values = (after, sought.queue or queue, until, needle, sought.tag, domains, sought.lane)
    looked, reached, found = store.select(search, *values)
    ids, size = [], 0
    for id, octets in found:
        ids.append(id)
        size += octets
        if whole and size >= FOUND and id != found[-1][0]:
            return len(ids), id, ids
    return looked, until if looked < SEARCHED else reached, ids


_SPECIAL, _ESCAPED = re.compile(r"[%_\\]"), r"\\\g<0>"  # of LIKE


def _like(domain: str) -> str:
    """For LIKE, where these two stand for any text; a host's name has none."""
    return domain.replace("%", "").replace("_", "")
