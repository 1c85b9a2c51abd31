"""dkim_keys: the keys that sign, from PEM, and what is published of them. Held are the loaded keys, at most KEYS."""

from __future__ import annotations

import base64
import functools
from typing import get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from operators.mail.dkim import Key
from settings.rules.key_pairs import ALLOWED, PrivateKey, record_of
from settings.rules.models import Canonicalization

CANONICALIZATIONS: tuple[Canonicalization, ...] = get_args(Canonicalization)
KEYS = 1000  # loaded keys that are kept
PEM = 16_384  # characters at most; RSA-4096 has 3,300


@functools.lru_cache(maxsize=KEYS)
def load(pem: str) -> PrivateKey:
    """The private key in a PEM text; raises `ValueError`, whose text has nothing of the key in it.

    That the primes of an RSA key are primes is checked where a rule is stored (36 ms), not here (12 us).
    """
    try:
        if len(pem) > PEM:
            raise ValueError
        key = _read(pem.strip())
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the library's texts are dropped: they may quote the key
        raise ValueError(f"cannot be read; {ALLOWED}") from None
    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, RSAPrivateKey) and 1024 <= key.key_size <= 4096):
        return key
    raise ValueError(f"is of another kind; {ALLOWED}")


def _read(text: str) -> object:
    if text.startswith("-"):
        return load_pem_private_key(text.encode("ascii"), None, unsafe_skip_rsa_key_validation=True)
    octets = base64.b64decode("".join(text.split()), validate=True)  # as ResponsiveEmail's pages have keys
    return load_der_private_key(octets, None, unsafe_skip_rsa_key_validation=True)


def record(key: Key) -> str:
    """The TXT record to publish at the key's `name` (RFC 6376 3.6.1)."""
    return _record(key.private)


@functools.lru_cache(maxsize=KEYS)
def _record(private: PrivateKey) -> str:
    return record_of(private)
