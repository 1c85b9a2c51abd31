"""TLS for outgoing connections: the two contexts, and what the results say of a connection's cipher and certificate.

Owner of: one context with verification and one without, made on first use and kept; a changed set of authorities
holds from the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import itertools
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from operators.deliveries.outcome import TlsFacts
from operators.deliveries.replies import clean
from operators.mail.message import TIME_FORMAT

NAME = 255  # characters of a name
ALTNAMES = 100  # of a certificate; some have thousands
NAMES = {
    NameOID.COMMON_NAME: "common",
    NameOID.COUNTRY_NAME: "country",
    NameOID.LOCALITY_NAME: "locality",
    NameOID.STATE_OR_PROVINCE_NAME: "state",
    NameOID.ORGANIZATION_NAME: "organization",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "unit",
    NameOID.EMAIL_ADDRESS: "email",
    NameOID.SERIAL_NUMBER: "serial",
    NameOID.STREET_ADDRESS: "street",
    NameOID.POSTAL_CODE: "postal",
}

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


def describe(transport: asyncio.BaseTransport | None, verified: bool) -> dict[str, Any]:
    """`cipher` and `certificate` as the results have them (docs: Messages, "Results").

    It never raises, since mail goes on whatever there is to say: receivers have certificates of X.509 versions 2 and
    4, and names of types that few know.
    """
    found: dict[str, Any] = {}
    if transport is None:
        return found
    with contextlib.suppress(Exception):
        name, version, bits = transport.get_extra_info("cipher")
        number, algorithm = _ciphers().get(name, (0, bits))
        found["cipher"] = {
            "name": clean(str(name), NAME),
            "bits": bits,
            "algbits": algorithm,
            "version": clean(str(version), NAME),
            "id": number,
        }
    with contextlib.suppress(Exception):
        if der := transport.get_extra_info("ssl_object").getpeercert(binary_form=True):
            return TlsFacts(found, functools.partial(certificate, der, verified, datetime.datetime.now(datetime.UTC)))
    return found


@functools.cache
def _ciphers() -> dict[str, tuple[int, int]]:
    """Of each cipher its number (RFC 8446 B.4) and the bits of its algorithm."""
    known = context(False).get_ciphers()
    return {one["name"]: (one["id"] & 0xFFFF, one["alg_bits"]) for one in known}


def certificate(der: bytes, verified: bool, now: datetime.datetime) -> dict[str, Any]:
    """What there is to say of a certificate; each part that cannot be read is left out, and the first one says why."""
    said: dict[str, Any] = {"verified": verified, "subject": {}, "issuer": {}, "altnames": []}
    try:
        read = x509.load_der_x509_certificate(der)
    except Exception as error:
        return said | {"unreadable": _why(error)}
    parts: dict[str, Callable[[], Any]] = {
        "notbefore": lambda: read.not_valid_before_utc.strftime(TIME_FORMAT),
        "notafter": lambda: read.not_valid_after_utc.strftime(TIME_FORMAT),
        "version": lambda: read.version.value + 1,
        "self-signed": lambda: _self_signed(read),
        "result": lambda: "ok" if verified else _doubt(read, now),
        "keyusage": lambda: _key_usage(read),
        "subject": lambda: _named(read.subject),
        "issuer": lambda: _named(read.issuer),
        "altnames": lambda: _altnames(read),
    }
    for name, part in parts.items():
        try:
            said[name] = part()
        except Exception as error:
            said.setdefault("unreadable", _why(error))
    return said


def _named(name: x509.Name) -> dict[str, str]:
    """The parts of a name, each the first of its kind."""
    found: dict[str, str] = {}
    for attribute in name:
        kind = NAMES.get(attribute.oid) or attribute.oid.dotted_string
        if len(found) < ALTNAMES:
            found.setdefault(kind, clean(str(attribute.value), NAME))
    return found


def _self_signed(read: x509.Certificate) -> bool:
    if read.issuer != read.subject:
        return False
    try:
        read.verify_directly_issued_by(read)
    except Exception:
        return False
    return True


def _doubt(read: x509.Certificate, now: datetime.datetime) -> str:
    """What can be said of a certificate by itself; whom it was signed by is looked into with security `verified`."""
    if read.not_valid_after_utc < now:
        return "certificate has expired"
    if read.not_valid_before_utc > now:
        return "certificate is not yet valid"
    return "self-signed certificate" if _self_signed(read) else "not checked"


def _key_usage(read: x509.Certificate) -> int:
    """RFC 5280 4.2.1.3: 1 is digitalSignature, 2 nonRepudiation, 4 keyEncipherment, and so on; 0 where it says none."""
    try:
        usage = read.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return 0
    bits = [
        usage.digital_signature, usage.content_commitment, usage.key_encipherment, usage.data_encipherment,
        usage.key_agreement, usage.key_cert_sign, usage.crl_sign,
        usage.key_agreement and usage.encipher_only, usage.key_agreement and usage.decipher_only,
    ]  # fmt: skip
    return sum(1 << place for place, bit in enumerate(bits) if bit)


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
