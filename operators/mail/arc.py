"""arc: ARC sets (RFC 8617), for keys whose `protocols` name it. Pure functions.

A message that has a chain already gets no further set: that would have to say whether the chain holds, which takes its
keys from DNS, and a wrong word is worse than none. The chain it has stays whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from operators.mail import dkim
from operators.mail.dkim import Key
from operators.mail.head import name_of, split

_OURS = (b"arc-seal", b"arc-message-signature", b"arc-authentication-results")
_UNSIGNED = frozenset((*_OURS, b"authentication-results", b"return-path", b"received"))  # RFC 8617 4.1.2


def signatures_and_seals(source: bytes, keys: Sequence[Key], now: float) -> bytes:
    """What all keys add, to stand before the message: DKIM signatures, and above them the ARC sets.

    Args:
        source: the message, lines ending in CRLF.
        keys: what signs, and what seals.
        now: epoch seconds, for t=.
    """
    made = dkim.signatures(source, keys, now)
    sealing = [key for key in keys if key.seals]
    return sets(made + source, sealing, now) + made if sealing else made


def sets(source: bytes, keys: Sequence[Key], now: float) -> bytes:
    """A set for each of these keys, to stand before the message; the last one first.

    Args:
        source: the message with its DKIM signatures, lines ending in CRLF.
        keys: what seals, in this order.
        now: epoch seconds, for t=.
    """
    if source[:1] in (b" ", b"\t") or any(name_of(field) in _OURS for field in split(source)[0]):
        return b""
    made: list[bytes] = []  # the fields of all sets, in the order in which a seal covers them
    for instance, key in enumerate(keys, 1):
        results = f"ARC-Authentication-Results: i={instance}; {key.domain}; none\r\n".encode()
        made += [results, _message_signature(source, key, instance, now)]
        made.append(_seal(made, key, instance, now))
    return b"".join(reversed(made))


def _message_signature(source: bytes, key: Key, instance: int, now: float) -> bytes:
    """As a DKIM signature, without v=, and of DKIM-Signature too (RFC 8617 4.1.2)."""
    fields, rest = split(source)
    wanted = dkim.SIGNED | key.headers | {b"dkim-signature"} - _UNSIGNED
    chosen = [
        (name, field)
        for field in reversed(fields)
        if (name := name_of(field)) in wanted and b":" in field and b";" not in name
    ]
    chosen = dkim.verifiable(chosen)
    digest = base64.b64encode(hashlib.sha256(dkim.BODY["relaxed"](rest[2:])).digest())
    tags = f"i={instance}; {dkim.algorithm(key)}; c=relaxed/relaxed;\r\n\td={key.domain}; s={key.selector}; t={now:.0f}"
    names = dkim.names([name for name, _ in chosen])
    mine = b"ARC-Message-Signature: %s;\r\n\th=%s;\r\n\tbh=%s;\r\n\tb=" % (tags.encode(), names, digest)
    return dkim.signed(mine, [field for _, field in chosen], key)


def _seal(covered: Sequence[bytes], key: Key, instance: int, now: float) -> bytes:
    """Of all sets so far (RFC 8617 5.1.1): the first begins the chain, each later one has seen the one before."""
    chain = "none" if instance == 1 else "pass"
    tags = f"i={instance}; {dkim.algorithm(key)}; cv={chain};\r\n\td={key.domain}; s={key.selector}; t={now:.0f}"
    return dkim.signed(b"ARC-Seal: %s;\r\n\tb=" % tags.encode(), covered, key)
