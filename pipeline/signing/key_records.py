"""published: what DNS says of a DKIM key, against the record that should be there (RFC 6376 3.6.1). Pure functions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.util import InvalidTagValueList, parse_tag_value

from operators.deliveries.routes import DnsAnswer

Verdict = Literal["valid", "missing", "different", "unreachable"]


def compare(answer: DnsAnswer, record: str) -> tuple[Verdict, str]:
    """What verifiers will make of a key, and why, for people.

    Args:
        answer: to the question for TXT at the key's name.
        record: what should be there.
    """
    if answer.transient:
        return "unreachable", answer.why or answer.status
    keys = [tags for text in answer.records if (tags := _tags(text)) is not None]
    if not keys:
        return "missing", "DNS has no key there" if answer.records else "DNS has nothing there"
    wanted = _tags(record.encode())
    assert wanted is not None
    whys = [why for tags in keys if (why := _difference(tags, wanted))]  # of several a verifier takes any: 3.6.2.2
    return ("different", whys[0]) if whys else ("valid", "")


def _tags(text: bytes) -> Mapping[bytes, bytes] | None:
    """The tags of a key record, or None where it is none."""
    try:
        tags: dict[bytes, bytes] = parse_tag_value(text)
    except InvalidTagValueList:
        return None
    return tags if b"p" in tags and tags.get(b"v", b"DKIM1") == b"DKIM1" else None


def _difference(tags: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> str:
    """Why a verifier with this record would not accept what our key signs, or ""."""
    if not _compact(tags[b"p"]):
        return "the key there is revoked: its p= is empty"
    kind, hashes, services = tags.get(b"k", b"rsa"), tags.get(b"h"), tags.get(b"s", b"*")
    if kind != wanted[b"k"]:
        return f"the key there is of another kind: k={_shown(kind)}"
    if not _same_key(tags[b"p"], wanted[b"p"]):
        return "another key is there"
    if hashes is not None and b"sha256" not in _list(hashes):
        return f"the key there does not allow SHA-256: h={_shown(hashes)}"
    if not {b"*", b"email"} & set(_list(services)):
        return f"the key there is not for mail: s={_shown(services)}"
    return ""


def _same_key(theirs: bytes, ours: bytes) -> bool:
    """RSA keys are published with or without the algorithm around them (RFC 6376 3.6.1, erratum 3017)."""
    if _compact(theirs) == ours:
        return True
    try:
        found, mine = (load_der_public_key(base64.b64decode(_compact(text), validate=True)) for text in (theirs, ours))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        return False
    return isinstance(found, RSAPublicKey) and found == mine


def _compact(text: bytes) -> bytes:
    return b"".join(text.split())


def _list(text: bytes) -> list[bytes]:
    return [part.strip() for part in text.split(b":")]


def _shown(text: bytes) -> str:
    return repr(text.decode("ascii", "replace"))[1:51]
