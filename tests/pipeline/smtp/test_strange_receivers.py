"""K1, K2, K6. What a receiver says and shows is clean text before it is anything else, and ends no attempt."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.dsn import bounce
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.replies import Reply, clean
from operators.mail.message import Dsn, Message
from operators.stages.settle import plan
from tests.support.receiver import Cut, Receiver, Slow
from tests.support.sender import Sender, to

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


# -- text --------------------------------------------------------------------------------------------------------------

ODD = [
    "m\xfcller.test".encode("latin-1"),
    b"m\xc3\xbcller.test",
    b"\xff\xfe\x00\x01",
    b"a\x1b[31mred\x07",
    "\u202egpj.exe \u2028x\u2029".encode(),
    b"\xed\xa0\x80",  # a surrogate in UTF-8
    b"x" * 500_000,
    b"",
    b"   ",
    b"tab\there",
]


def told(outcome: Outcome) -> bytes:
    """All that is made of an outcome: results, and the notification."""
    message = Message(envelope="a@s.example", recipient="b@r.example", mime="Subject: x\r\n\r\nx", dsn=Dsn("FAILURE"))
    delivery = Delivery(lease=Lease(1, b"{}", queued=1.8e9), message=message, outcome=outcome)
    queues = {"results": "results", "retry": "retry"}
    copies = plan(delivery, queues, 3600, 1.8e9).publish
    assert copies
    notice = bounce(delivery, "mta.example", "id@mta.example", 1.8e9)
    return b"".join(body for _, body in copies) + json.dumps(notice).encode()


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("verb", ["greeting", "EHLO", "STARTTLS", "MAIL", "RCPT", ".", "none"])
@pytest.mark.parametrize("code", [b"250", b"451", b"550"])
async def test_what_a_receiver_says_is_told_in_clean_text(text: bytes, verb: str, code: bytes) -> None:
    """K1. Whatever its bytes, wherever it says them: the attempt has its outcome, and that can be written."""
    positive = {"greeting": b"220", "STARTTLS": b"454"}
    script: dict[str, Any] = {"greeting": b"220 " + text + b"\r\n"}
    if verb != "none":
        script[verb] = (positive.get(verb, code) if code == b"250" else code) + b" " + text + b"\r\n"
    script.setdefault("RCPT", "550 5.1.1 unknown")
    async with Receiver(script) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert outcome.state != "process"
        shown = f"{outcome.description}{outcome.mta or ''}"
        assert shown.isprintable() and len(shown) < 5000
        assert told(outcome)


async def test_a_latin_1_greeting_is_read_as_it_was_meant() -> None:
    """K1. And is no reason for anything."""
    script = {"greeting": "220 müller.test".encode("latin-1") + b"\r\n"}
    async with Receiver(script) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).mta == "müller.test"


@given(st.binary(max_size=300))
def test_no_bytes_of_a_receiver_are_more_than_text(octets: bytes) -> None:
    """K1. Found by search: each byte can come."""
    reply = Reply(550, [octets, octets])
    assert reply.description.isprintable() and clean(octets).encode() is not None


# -- certificates ------------------------------------------------------------------------------------------------------


def server(folder: Path, change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder], **options: Any) -> Any:
    """TLS with a certificate of our own making; `patch` changes its bytes, which nobody verifies."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd.test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(WHEN).not_valid_after(WHEN + datetime.timedelta(days=9999))
    der = change(builder).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    for old, new in options.get("patch", {}).items():
        assert old in der
        der = der.replace(old, new, 1)
    pem = ssl.DER_cert_to_PEM_cert(der) * options.get("times", 1)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "odd.pem").write_bytes(private + pem.encode())
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.load_cert_chain(folder / "odd.pem")
    return made


def san(*names: bytes) -> Callable[[x509.CertificateBuilder], x509.CertificateBuilder]:
    inner = b"".join(names)
    length = bytes([len(inner)]) if len(inner) < 128 else b"\x82" + len(inner).to_bytes(2, "big")
    value = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30" + length + inner)
    return lambda builder: builder.add_extension(value, critical=False)


def as_it_is(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder


def named(text: str) -> Callable[[x509.CertificateBuilder], x509.CertificateBuilder]:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])
    return lambda builder: builder.add_extension(
        x509.SubjectAlternativeName([x509.DirectoryName(name)]), critical=False
    )


VERSION_3 = b"\xa0\x03\x02\x01\x02"
DIRECTORY = b"\xa4\x0f\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02\x44\x45"
CERTIFICATES = {
    "version 2": (as_it_is, {"patch": {VERSION_3: b"\xa0\x03\x02\x01\x01"}}),
    "version 4": (as_it_is, {"patch": {VERSION_3: b"\xa0\x03\x02\x01\x03"}}),
    "x400Address": (san(b"\xa3\x02\x30\x00"), {}),
    "ediPartyName": (san(b"\xa5\x05\xa1\x03\x0c\x01A"), {}),
    "otherName": (san(b"\xa0\x09\x06\x03\x2a\x03\x04\xa0\x02\x05\x00"), {}),
    "directoryName": (san(DIRECTORY), {}),
    "NUL in a name": (san(b"\x82\x0aa\x00b.test\x1b["), {}),
    "no ASCII": (san(b"\x82\x04m\xfcl."), {}),
    "bad IP": (san(b"\x87\x03\x01\x02\x03"), {}),
    "500 names": (san(*[b"\x82\x06%06d" % n for n in range(500)]), {}),
    "no SAN": (as_it_is, {}),
    "expired": (lambda builder: builder, {"patch": {b"\x17\x0d260101": b"\x17\x0d160101"}}),
    "month 13": (as_it_is, {"patch": {b"\x17\x0d260101": b"\x17\x0d261301"}}),
    "controls": (named("a\x00b\x1b[31m\u202e"), {}),
    "a chain of 30": (as_it_is, {"times": 30}),
    "a chain of 2,000": (as_it_is, {"times": 2000}),
}


@pytest.mark.parametrize("which", CERTIFICATES)
async def test_a_certificate_is_described_as_far_as_it_can_be_read(which: str, tmp_path: Path) -> None:
    """K2. Opportunistic mail is delivered whatever it holds, and the description can be written."""
    change, options = CERTIFICATES[which]
    tls = server(tmp_path, change, **options)
    async with Receiver(tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert outcome.result == "accepted"
        if which != "a chain of 2,000":  # TLS gives up there, and the mail goes in plain text
            assert outcome.tls is not None and outcome.tls["cipher"]["name"]
            assert set(outcome.tls["certificate"]) >= {"subject", "issuer", "altnames", "verified"}
        described = json.dumps(outcome.tls, ensure_ascii=False)
        assert len(described) < 40_000 and "\x1b" not in described and "\x00" not in described
        assert told(outcome)


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "DHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "NULL-SHA"])
async def test_weak_ciphers_are_better_than_none_and_none_is_better_than_no_mail(ciphers: str) -> None:
    """K2. A receiver that offers only these gets its mail, over TLS where TLS can do it."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("localhost", key_type=trustme.KeyType.RSA).configure_cert(tls)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    async with Receiver(tls=tls) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "accepted"


# -- answers -----------------------------------------------------------------------------------------------------------

TAKEN = {
    "CR CR LF": b"250 2.0.0 taken\r\r\n",
    "LF": b"250 2.0.0 taken\n",
    "CR": b"250 2.0.0 taken\r",
    "tab": b"250\t2.0.0 taken\r\n",
    "no text": b"250\r\n",
    "blank": b"250 \r\n",
    "an empty line before": b"\r\n250 2.0.0 taken\r\n",
    "empty lines within": b"250-2.0.0 taken\r\n\r\n250 ok\r\n",
    "text without a code within": b"250-2.0.0 taken\r\nas 123\r\n250 ok\r\n",
    "2,000 lines": b"250-2.0.0 more\r\n" * 2000 + b"250 ok\r\n",
    "other codes of the class": b"250-2.0.0 taken\r\n252 ok\r\n",
    "a very long line": b"250 2.0.0 " + b"x" * 200_000 + b"\r\n",
    "long lines": b"250-" + b"x" * 20_000 + b"\r\n250 " + b"y" * 20_000 + b"\r\n",
    "Latin-1": b"250 2.0.0 \xfcbernommen\r\n",
    "controls": b"250 2.0.0 a\0b\x1b\r\n",
}
CUT_OFF = [b"250 2.0.0 tak", b"250", b"250-2.0.0 taken\r\n", b"250-2.0.0 taken\r\n250", b"250 ok\r", b"250-ok\r\n2"]


@pytest.mark.parametrize("which", TAKEN)
@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "."])
async def test_what_is_clearly_an_answer_is_one(verb: str, which: str) -> None:
    """K6. After the dot, whatever is not understood means that the mail arrives twice."""
    async with Receiver({verb: [TAKEN[which]]}) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "accepted"
        assert (await sender.send()).result == "accepted"
        assert (len(receiver.messages), receiver.connections) == (2, 1)


@pytest.mark.parametrize(
    "greeting",
    [b"\r\n220 odd.test\r\n", b"220\r\n", b"220 odd.test\r\r\n", b"220\todd.test\n", b"220-odd.test\r\n220\r\n",
     b"220-" + b"*" * 70 + b"\r\n\r\n220-no spam\r\n220 odd.test\r\n", b"220-x\r\n" * 1000 + b"220 odd.test\r\n",
     b"220 odd.test\r\n220 odd.test\r\n"],
)  # fmt: skip
async def test_greetings_are_taken_in_all_their_forms(greeting: bytes) -> None:
    """K6. Some begin with an empty line."""
    async with Receiver({"greeting": greeting}) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "accepted"


@pytest.mark.parametrize("octets", CUT_OFF)
async def test_an_answer_to_the_message_that_breaks_off_is_an_answer(octets: bytes) -> None:
    """K6. Its code has come; to send the message again would double it."""

    async with Receiver({".": Cut(octets)}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.result, outcome.next, outcome.code) == ("accepted", Next.DELIVERED, 250)


@pytest.mark.parametrize("octets", [b"", b"2", b"25", b"what", b"250-taken\r\n451"])
async def test_what_is_no_code_yet_is_no_answer(octets: bytes) -> None:
    """K6. Strict in what a code is: the retry may be a duplicate, and says so."""
    async with Receiver({".": Cut(octets)}) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert outcome.next is Next.RETRY and "duplicate" in outcome.description


async def test_silence_in_the_middle_of_an_answer_to_the_message_doubles_nothing() -> None:
    """K6. A byte a second, until our patience is over."""
    async with Receiver({".": Slow("250 2.0.0 taken", 0.2)}) as receiver, Sender(to(receiver), 0.002) as sender:
        assert (await sender.send()).result == "accepted"
