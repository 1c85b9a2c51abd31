"""The properties of results that need a real conversation: certificate, cipher, authentication, states, sent."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Sequence

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from operators.deliveries.delivery import Target
from operators.deliveries.extracted import extracted, previous
from operators.deliveries.results import entry
from operators.mail.message import Smarthost, from_properties
from pipeline.smtp.client.tls import certificate
from tests.pipeline.smtp.test_connecting import server_context
from tests.support.receiver import Receiver
from tests.support.sender import Sender, to

NOW = 1_800_000_000.0
SMARTHOST = Smarthost("localhost", 25, "user", "secret")


@contextlib.asynccontextmanager
async def scripted(auth: str, answers: Sequence[str], tls: ssl.SSLContext | None = None) -> AsyncIterator[list[Target]]:
    """A receiver that offers AUTH, and gives these answers, one a line, from AUTH on."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        writer.write(b"220 mx.there.example ESMTP\r\n")
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"EHLO"):
                    writer.write(f"250-mx\r\n250 AUTH {auth}\r\n".encode())
                elif left:
                    writer.write(left.pop(0).encode() + b"\r\n")
                else:
                    break
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield [Target("localhost", "127.0.0.1", server.sockets[0].getsockname()[1])]


@pytest.mark.parametrize(
    ("auth", "answers", "state"),
    [
        ("PLAIN", ["535 5.7.8 no"], "authplain"),
        ("LOGIN", ["454 4.7.0 no"], "authlogin"),
        ("LOGIN", ["334 VXNlcm5hbWU6", "535 5.7.8 no"], "authusername"),
        ("LOGIN", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "535 5.7.8 no"], "authpassword"),
        ("CRAM-MD5", ["454 4.7.0 no"], "authcram"),
        ("CRAM-MD5", ["334 PDFAeD4=", "535 5.7.8 no"], "authresponse"),
    ],
)
async def test_each_step_of_a_login_is_a_state(auth: str, answers: list[str], state: str) -> None:
    """As documented; with the mechanism, and what there is to say of the connection."""
    async with scripted(auth, answers) as there, Sender(there) as sender:
        result = entry(await sender.send(smarthost=SMARTHOST, security="off"), NOW)
    assert (result["state"], result["result"], result["authentication"]) == (state, "error", auth)
    assert (result["mta"], result["messages"]) == ("mx.there.example", 1)
    assert result["sent"]["connection"] > 0 and result["sent"]["data"] == 0


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_an_accepted_message_says_how_it_logged_in(mechanism: str) -> None:
    """`authentication`: the mechanism."""
    challenges = {"PLAIN": 0, "LOGIN": 2, "CRAM-MD5": 1}[mechanism]
    answers = [*["334 PDFAeD4="] * challenges, "235 2.7.0 welcome", "250 ok", "250 ok", "354 go"]
    async with scripted(mechanism, answers) as there, Sender(there) as sender:
        outcome = await sender.send(smarthost=SMARTHOST, security="off")
    assert outcome.authentication == mechanism


async def test_a_refused_starttls_says_who_refused() -> None:
    """`mta`, `messages` and `sent` are there wherever a greeting came."""
    tls = server_context(trustme.CA())
    async with Receiver({"STARTTLS": "454 4.7.0 no"}, tls=tls) as receiver, Sender(to(receiver)) as sender:
        result = entry(await sender.send(security="required"), NOW)
    assert (result["state"], result["mta"], result["messages"]) == ("starttls", "receiver.test", 1)
    assert result["sent"]["connection"] > 0


async def test_the_cipher_is_told_in_full() -> None:
    """With its number (RFC 8446 B.4) and the bits of its algorithm."""
    tls = server_context(trustme.CA())
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
    async with Receiver(tls=tls) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
    assert outcome.tls is not None
    cipher = outcome.tls["cipher"]
    assert (cipher["bits"], cipher["algbits"], cipher["version"]) == (128, 128, "TLSv1.2")
    assert cipher["id"] in (0xC02F, 0xC02B)


def made(days: int = 30) -> bytes:
    """A certificate that a company has signed itself."""
    key = rsa.generate_private_key(65537, 2048)
    parts = [
        (NameOID.COMMON_NAME, "mx.example"), (NameOID.COUNTRY_NAME, "KR"), (NameOID.LOCALITY_NAME, "Seoul"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Seoul"), (NameOID.ORGANIZATION_NAME, "Example"),
    ]  # fmt: skip
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin,
                                      begin + datetime.timedelta(days=days))  # fmt: skip
    usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
    return builder.add_extension(usage, True).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_the_certificate_is_told_in_full() -> None:
    """Each documented property; names as objects."""
    found = certificate(made(), False, datetime.datetime(2026, 1, 15, tzinfo=datetime.UTC))
    name = {"common": "mx.example", "country": "KR", "locality": "Seoul", "state": "Seoul", "organization": "Example"}
    assert found == {
        "notbefore": "2026-01-01 00:00:00", "notafter": "2026-01-31 00:00:00", "version": 3, "verified": False,
        "result": "self-signed certificate", "keyusage": 5, "self-signed": True, "subject": name, "issuer": name,
        "altnames": [],
    }  # fmt: skip


def test_what_a_certificate_says_against_itself_is_its_result() -> None:
    """Expired before self-signed; verified is ok."""
    later = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    assert certificate(made(), False, later)["result"] == "certificate has expired"
    assert certificate(made(), True, later)["result"] == "ok"


# -- what is extracted ----------------------------------------------------------------------------------------

MAIL = (
    b'From: "A, B" <a@b.example>\r\nTo: X <x@y.example>,\r\n z@y.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n'
    b"X-Long: a\r\n b\r\nReceived: one\r\nReceived: two\r\n\r\nx\r\n"
)


def test_what_is_extracted_is_of_the_mail_as_it_was_sent() -> None:
    """`from` an address, `to` a list of them, a text for each header."""
    found = extracted(
        from_properties({"recipient": "x@y.example", "envelope": "e@b.example", "mime": "From: other\n\n"}), MAIL
    )
    assert (found["from"], found["to"], found["subject"]) == ("a@b.example", ["x@y.example", "z@y.example"], "Grüße")
    assert (found["headers"]["x-long"], found["headers"]["received"]) == ("a b", "one")
    assert found["recipient"] == {"local": "x", "domain": "y.example"}


def test_an_object_and_its_changes_are_extracted_too() -> None:
    """Also where nothing was sent; what cannot be made leaves the rest."""
    mime = {"from": "a@b.example", "to": ["c@d.example"], "subject": "Hi {$n}", "text": "x"}
    message = from_properties(
        {"recipient": "x@y.example", "mime": mime, "data": {"n": "you"}, "headers": {"append": {"X-A": "1"}}}
    )
    found = extracted(message)
    assert (found["to"], found["subject"], found["headers"]["x-a"]) == (["c@d.example"], "Hi you", "1")
    broken = extracted(from_properties({"recipient": "x@y.example", "mime": {"nosuch": 1}}))
    assert (broken["headers"], broken["recipient"]["local"]) == ({}, "x")


def test_programs_that_read_the_shapes_before_can_go_on() -> None:
    """`results-format: previous`."""
    tls = {"cipher": {"name": "X", "bits": 1, "algbits": 2, "version": "T", "id": 3}}
    tls["certificate"] = certificate(made(), False, datetime.datetime(2026, 1, 15, tzinfo=datetime.UTC))
    message = from_properties({"recipient": "x@y.example", "mime": ""})
    result = {
        "results": [{"state": "authplain", "authentication": "PLAIN", **tls}],
        "extracted": extracted(message, MAIL),
    }
    found = previous(result)
    assert found["results"][0]["state"] == "auth" and found["results"][0]["cipher"].keys() == {
        "name",
        "bits",
        "version",
    }
    assert found["results"][0]["certificate"]["subject"] == "O=Example,ST=Seoul,L=Seoul,C=KR,CN=mx.example"
    assert found["extracted"]["headers"]["x-long"] == ["a b"]
    assert found["extracted"]["from"] == '"A, B" <a@b.example>'
