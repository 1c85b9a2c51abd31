"""ARC sets (RFC 8617), verified by dkimpy."""

from __future__ import annotations

import base64
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from operators.mail.arc import signatures_and_seals
from operators.mail.dkim import Key

PRIVATE = generate_private_key(65537, 2048)
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
MAIL = b"From: Me  <a@my.test>\r\nTo: b@c.example\r\nSubject: one\r\n  two\r\nX-Mine: 1\r\n\r\nBody  \r\n\r\n\r\n"


def dns(name: bytes, timeout: int = 5) -> bytes:
    """Where dkimpy has the key from."""
    return b"v=DKIM1; k=rsa; p=" + PUBLIC


def key(**more: Any) -> Key:
    """A key of the sender's."""
    return Key("my.test", more.pop("selector", "x"), PRIVATE, **more)


def sealed(*keys: Key, mail: bytes = MAIL) -> bytes:
    """The mail as it is sent."""
    return signatures_and_seals(mail, keys, 1_700_000_000) + mail


def chain(mail: bytes) -> Any:
    """What dkimpy says of the chain."""
    return dkim.ARC(mail).verify(dnsfunc=dns)[0]


def test_a_key_seals_what_it_has_signed() -> None:
    """One DKIM signature, and one set on top that covers it."""
    mail = sealed(key(seals=True, headers=frozenset([b"x-mine"])))
    assert [line.partition(b":")[0] for line in mail.split(b"\r\n") if line[:3] in (b"ARC", b"DKI")] == [
        b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"DKIM-Signature",
    ]  # fmt: skip
    assert chain(mail) == b"pass" and dkim.verify(mail, dnsfunc=dns)


def test_each_key_that_seals_adds_a_set() -> None:
    """As documented of MailerQ: one key for both, one for ARC alone."""
    mail = sealed(key(seals=True), key(selector="y", seals=True, signs=False))
    assert mail.count(b"DKIM-Signature:") == 1 and mail.count(b"ARC-Seal:") == 2
    assert chain(mail) == b"pass" and b"i=2; a=rsa-sha256; cv=pass" in mail


@pytest.mark.parametrize(
    ("old", "new"), [(b"Body", b"body"), (b"one", b"two"), (b"a@my", b"b@my"), (b"; none", b"; x")]
)
def test_a_chain_that_was_tampered_with_does_not_hold(old: bytes, new: bytes) -> None:
    """Body, header and results are covered."""
    mail = sealed(key(seals=True))
    assert chain(mail.replace(old, new, 1)) != b"pass"


def test_a_message_that_has_a_chain_gets_no_further_set() -> None:
    """What is said of a chain must be known; the one it has still holds."""
    once = sealed(key(seals=True))
    again = sealed(key(seals=True), mail=once)
    assert again.count(b"ARC-Seal:") == 1 and again.count(b"DKIM-Signature:") == 2
    assert chain(again) == b"pass"
