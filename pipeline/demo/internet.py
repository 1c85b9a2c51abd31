"""The simulated internet as a process of its own, so that it takes no time of the machine's event loop.

`python -m pipeline.demo.internet` starts every receiver of the table and the name server, writes one JSON line with
their ports, and ends when its standard input does: with whoever started it, however that one ends.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import json
import logging
import signal
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.demo.nameserver import DnsTrouble, NameServer
from pipeline.demo.providers import MTA_IPS, PROVIDERS, Provider
from pipeline.demo.receiver import Receiver

TRIES = 20  # ports that are tried, where one is free on some addresses and taken on others


class Internet:
    """All receivers, on one port of many loopback addresses, and the name server that knows them."""

    def __init__(self, providers: Sequence[Provider] = PROVIDERS) -> None:
        self.nameserver = NameServer()
        self.receivers: dict[str, Receiver] = {}  # by address, of hosts that listen
        self.port = 0
        self._providers = providers

    async def start(self) -> None:
        """Publish all names, and listen.

        Raises:
            OSError: no port is free on all addresses, or 127.0.0.0/8 is not all this machine's.
        """
        certificate = self_signed("mx.example")
        for number, provider in enumerate(self._providers, 1):
            self._publish(number, provider, certificate)
        for number, ip in enumerate(MTA_IPS, 1):
            self.nameserver.add(
                ".".join(reversed(ip.split("."))) + ".in-addr.arpa", "PTR", f"mta{number}.mailrace.test."
            )
        await self._listen()
        await self.nameserver.start()

    async def stop(self) -> None:
        """Listen no more, and close what is open."""
        for receiver in self.receivers.values():
            await receiver.stop()
        await self.nameserver.stop()

    def _publish(self, number: int, provider: Provider, certificate: ssl.SSLContext) -> None:
        hosts = {f"mx{n}.{provider.name}": f"127.10.{number}.{n}" for n in range(1, provider.hosts + 1)}
        for n, (host, address) in enumerate(hosts.items() if provider.receives else ()):
            self.nameserver.add(host, "A", address)
            if provider.trouble != "refuses" and not (provider.trouble == "halfdead" and n == 0):
                self.receivers[address] = Receiver(provider, host, certificate)
        for domain in provider.taken:
            self._domain(domain, provider, hosts)

    def _domain(self, domain: str, provider: Provider, hosts: dict[str, str]) -> None:
        if provider.dns == "mx":
            self.nameserver.add(domain, "MX", *(f"{10 * n} {host}." for n, host in enumerate(hosts, 1)))
        elif provider.dns == "no-mx":
            self.nameserver.add(domain, "A", *hosts.values())
        elif provider.dns == "alias":
            self.nameserver.add(domain, "CNAME", f"{next(iter(hosts))}.")
        elif provider.dns == "null-mx":
            self.nameserver.add(domain, "MX", "0 .")
        elif provider.dns == "servfail":
            self.nameserver.trouble(domain, DnsTrouble.SERVFAIL)

    async def _listen(self) -> None:
        for attempt in range(TRIES):
            started: list[Receiver] = []
            self.port = 0
            try:
                for address, receiver in self.receivers.items():
                    self.port = await receiver.start(address, self.port)
                    started.append(receiver)
                return
            except OSError as error:
                for receiver in started:
                    await receiver.stop()
                if error.errno != errno.EADDRINUSE or attempt == TRIES - 1:
                    raise


def self_signed(name: str) -> ssl.SSLContext:
    """A server's TLS context with a new self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"*.{name}")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # ssl reads certificates from files alone
        file = Path(folder, "certificate.pem")
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(file)
    return context


async def serve() -> None:
    """Run until SIGTERM, or the end of the program that started it."""
    loop = asyncio.get_running_loop()
    internet = Internet()
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's: what a client says wrong is answered
    try:
        await internet.start()
    except OSError as error:
        print(json.dumps({"error": f"{error.strerror or error}"}), flush=True)
        return
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group; the parent decides
    print(json.dumps({"port": internet.port, "dns": internet.nameserver.port}), flush=True)
    await over.wait()
    await internet.stop()


def main() -> None:
    """Be that process."""
    uvloop.run(serve())
