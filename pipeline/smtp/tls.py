"""TLS for outgoing connections: the two contexts, and what the results say of a connection's cipher and certificate.

Owner of: one context with verification and one without, made on first use and kept; a changed set of authorities
holds from the next start.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from typing import Any

from cryptography import x509

from operators.message import TIME_FORMAT

# What each security asks of a connection: how much it must be secured before mail may go over it.
PLAIN, ENCRYPTED, VERIFIED = 0, 1, 2
NEEDED = {
    "off": PLAIN,
    "optional": PLAIN,
    "opportunistic": PLAIN,
    "required": ENCRYPTED,
    "verified": VERIFIED,
}


@functools.cache
def context(verify: bool) -> ssl.SSLContext:
    """A client context, TLS 1.2 or later; with `verify` the chain and the host's name must be right."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        made.set_ciphers("DEFAULT@SECLEVEL=0")  # weak encryption is better than the none that a failure would bring
    return made


def describe(transport: asyncio.BaseTransport, verified: bool) -> dict[str, Any]:
    """`cipher` and `certificate` as the results have them (README, "Results")."""
    name, version, bits = transport.get_extra_info("cipher")
    found: dict[str, Any] = {"cipher": {"name": name, "bits": bits, "version": version}}
    secured = transport.get_extra_info("ssl_object")
    der = secured.getpeercert(binary_form=True) if secured is not None else None
    if der:
        found["certificate"] = _certificate(der) | {"verified": verified}
    return found


def _certificate(der: bytes) -> dict[str, Any]:
    """What there is to say of a certificate; one that cannot be read says so."""
    try:
        read = x509.load_der_x509_certificate(der)
        return {
            "subject": read.subject.rfc4514_string(),
            "issuer": read.issuer.rfc4514_string(),
            "valid-from": read.not_valid_before_utc.strftime(TIME_FORMAT),
            "valid-until": read.not_valid_after_utc.strftime(TIME_FORMAT),
            "altnames": _altnames(read),
        }
    except ValueError as error:
        return {"subject": "", "issuer": "", "altnames": [], "unreadable": str(error)[:200]}


def _altnames(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]
