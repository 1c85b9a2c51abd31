"""What several parts' tests stand on: a name server, and an authority with a certificate of `localhost`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from pipeline.demo.nameserver import NameServer
from pipeline.dns.resolver import Resolver
from tests.pipeline.asking import Clock


@pytest.fixture
async def zone() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def resolver(zone: NameServer, clock: Clock) -> AsyncIterator[Resolver]:
    resolver = Resolver(dns_server=[(zone.address, zone.port)], clock=clock)
    yield resolver
    await resolver.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with key and certificate of `localhost`."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def trusted(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
