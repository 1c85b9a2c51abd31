"""TLS for outgoing connections: the two contexts, and what the results say of a connection's cipher and certificate.

Owner of: one context with verification and one without, made on first use and kept; a changed set of authorities
holds from the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509

from operators.deliveries.replies import clean
from operators.mail.message import TIME_FORMAT

NAME, LONGEST = 255, 1000  # characters of a name, and of a subject or an issuer
ALTNAMES = 100  # of a certificate; some have thousands

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
    """A client context, TLS 1.2 or later; with `verify` the chain and the host's name must be right.

    Without, it knows no authorities: OpenSSL would look for the chain all the same, 0.2 ms each time.
    """
    made = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        made.set_ciphers("DEFAULT@SECLEVEL=0")  # weak encryption is better than the none that a failure would bring
        made.options |= getattr(ssl, "OP_LEGACY_SERVER_CONNECT", 4)  # and so is a server without RFC 5746
    return made


def describe(transport: asyncio.BaseTransport, verified: bool) -> dict[str, Any]:
    """`cipher` and `certificate` as the results have them (README, "Results"). It never raises, since mail goes on
    whatever there is to say: receivers have certificates of X.509 versions 2 and 4, and names of types that few know.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        name, version, bits = transport.get_extra_info("cipher")
        found["cipher"] = {"name": clean(str(name), NAME), "bits": bits, "version": clean(str(version), NAME)}
    with contextlib.suppress(Exception):
        if der := transport.get_extra_info("ssl_object").getpeercert(binary_form=True):
            found["certificate"] = _certificate(der) | {"verified": verified}
    return found


def _certificate(der: bytes) -> dict[str, Any]:
    """What there is to say of a certificate; each part that cannot be read is left out, and the first one says why."""
    said: dict[str, Any] = {"subject": "", "issuer": ""}
    try:
        read = x509.load_der_x509_certificate(der)
    except Exception as error:
        return said | {"altnames": [], "unreadable": _why(error)}
    parts: dict[str, Callable[[], Any]] = {
        "subject": lambda: clean(read.subject.rfc4514_string(), LONGEST),
        "issuer": lambda: clean(read.issuer.rfc4514_string(), LONGEST),
        "valid-from": lambda: read.not_valid_before_utc.strftime(TIME_FORMAT),
        "valid-until": lambda: read.not_valid_after_utc.strftime(TIME_FORMAT),
        "altnames": lambda: _altnames(read),
    }
    for name, part in parts.items():
        try:
            said[name] = part()
        except Exception as error:
            said.setdefault("unreadable", _why(error))
    return {"altnames": [], **said}


def _altnames(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [clean(_text(name), NAME) for name in itertools.islice(names, ALTNAMES)]


def _text(name: x509.GeneralName) -> str:
    value = getattr(name, "value", b"")
    return value.rfc4514_string() if isinstance(value, x509.Name) else str(value)


def _why(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}", 200)
