"""DKIM keys: reading, making and publishing them (RFC 6376 3.6.1, RFC 8463). Pure; nothing here keeps a key."""

from __future__ import annotations

import base64
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

Algorithm = Literal["rsa", "ed25519"]
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

ALLOWED = "allowed is an unencrypted PEM private key, RSA of 1024 to 4096 bits or Ed25519"
GENERATED_BITS = 2048  # RFC 8301 3.2: at least 1024, should be at least 2048


def load(pem: str) -> PrivateKey:
    """Read a PEM private key.

    Raises:
        ValueError: it is none that can sign; the text says what is allowed, and has nothing of the key in it.
    """
    try:
        key = serialization.load_pem_private_key(pem.strip().encode("ascii"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the library's texts are dropped: they may quote the key
        raise ValueError(f"cannot be read; {ALLOWED}") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if not 1024 <= key.key_size <= 4096:
            raise ValueError(f"is RSA of {key.key_size} bits; {ALLOWED}")
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise ValueError(f"is of another algorithm; {ALLOWED}")


def generate(algorithm: Algorithm) -> str:
    """A new private key as PEM (PKCS 8). RSA takes up to a second of processor time."""
    key: PrivateKey
    if algorithm == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=GENERATED_BITS)
    return pem_of(key)


def pem_of(key: PrivateKey) -> str:
    """The key as PEM (PKCS 8), unencrypted."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def algorithm_of(key: PrivateKey) -> Algorithm:
    """The name of the key's algorithm in DNS (tag `k=`)."""
    return "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"


def record_of(key: PrivateKey) -> str:
    """The TXT record to publish at `<selector>._domainkey.<domain>` (RFC 6376 3.6.1; RFC 8463 4.2 for Ed25519)."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        data = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    else:
        data = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"v=DKIM1; k={algorithm_of(key)}; p={base64.b64encode(data).decode()}"
