"""Which messages go before others: those with a `priority`. They are lent as if their time had come already, in turn
with what is ready: a million ready ones are no delay for them.
"""

from __future__ import annotations

import msgspec

from pipeline.queues.contract import Body


class _Urgency(msgspec.Struct):
    priority: int = 0


def head_of(body: Body) -> bytes:
    """The part of a body that has its properties."""
    return body if isinstance(body, bytes) else body.head


_decode = msgspec.json.Decoder(_Urgency).decode


def urgent(body: bytes) -> bool:
    """Whether a message has a priority above 0. 0.1 us for one that names none."""
    if b'"priority"' not in body:
        return False
    try:
        return _decode(body).priority > 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
