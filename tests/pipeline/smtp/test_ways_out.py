"""Ways out: what real proxies answer where they do not serve, and what is known of them when the rules change."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators.deliveries.delivery import Target
from pipeline.smtp.client.egress import Egress, pass_through
from pipeline.smtp.client.failure import Failed
from settings.config.egress import ExternalMta
from settings.rules.external import ExternalMtaRule
from tests.support.program import free_port, listens
from tests.support.waiting import until

PUBLIC = "203.0.113.7"
NOBODY = Target("nobody", "127.0.0.3", 9)


@contextlib.contextmanager
def running(port: int, *command: str) -> Iterator[None]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(port))
        yield
    finally:
        process.kill()
        process.wait()


async def refused(protocol: str, port: int, seconds: float = 5.0) -> Failed:
    """What comes of asking the proxy there for a connection."""
    way = ExternalMta(PUBLIC, protocol, "", "127.0.0.1", port)
    with contextlib.closing(socket.socket()) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        with pytest.raises(Failed) as raised:
            await pass_through(sock, way, NOBODY, seconds)
    return raised.value


async def test_a_proxy_that_wants_a_login_serves_nobody(tmp_path: Path) -> None:
    """Its lanes wait, whatever the message, and that is no attempt."""
    one, other = free_port(), free_port()
    config = tmp_path / "tinyproxy.conf"
    config.write_text(f"Port {other}\nListen 127.0.0.1\nAllow 127.0.0.1\nBasicAuth joe secret\n")
    with running(one, "microsocks", "-i", "127.0.0.1", "-p", str(one), "-u", "joe", "-P", "secret"):
        socks = await refused("socks", one)
    with running(other, "tinyproxy", "-d", "-c", str(config)):
        http = await refused("http", other)
    for failed in (socks, http):
        assert failed.proxy and failed.outcome.state == "handshake" and "wants a login" in failed.outcome.description


async def test_a_receiver_that_refuses_is_not_the_proxys_fault() -> None:
    """It is said as a connection straight from here would be."""
    port = free_port()
    with running(port, "microsocks", "-i", "127.0.0.1", "-p", str(port)):
        failed = await refused("socks", port)
    assert not failed.proxy and failed.outcome.state == "connect" and "refused" in failed.outcome.description


@pytest.mark.parametrize("protocol", ["socks", "http"])
async def test_a_proxy_that_hangs_is_down(protocol: str) -> None:
    """It took the connection, and says nothing."""
    with contextlib.closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        failed = await refused(protocol, server.getsockname()[1], 0.05)
    assert failed.proxy and "is down: no answer in time" in failed.outcome.description


def test_a_rule_goes_before_the_configuration_and_forgets_what_failed() -> None:
    """Its way is another; taken away, that of the configuration holds again."""
    configured = ExternalMta(PUBLIC, "socks", "", "192.0.2.1", 1080)
    told: list[str] = []
    egress = Egress([configured], lambda: 0.0, lambda kind, text: told.append(text))
    egress.failed(PUBLIC, "it is down")
    assert egress.paused(f"{PUBLIC}/a.example") is not None and egress.troubles
    rule = ExternalMtaRule(public_ip=PUBLIC, local_ip="192.0.2.2")
    egress.ruled([rule.way])
    assert egress.way(PUBLIC) == rule.way and egress.paused(f"{PUBLIC}/a.example") is None and not egress.troubles
    egress.ruled([])
    assert egress.way(PUBLIC) == configured


@pytest.mark.parametrize(("values", "why"), [
    ({"protocol": "nat"}, "local_ip: is missing"), ({"protocol": "socks"}, "connect_ip: is missing"),
    ({"protocol": "http", "connect_ip": "192.0.2.1"}, "connect_port: is missing"),
    ({"local_ip": "192.0.2.1", "connect_ip": "192.0.2.1"}, "connect_ip: goes with socks"),
    ({"local_ip": "2001:db8::1"}, "local_ip: is of another family"), ({"protocol": "ftp"}, "Input should be"),
])  # fmt: skip
def test_a_way_is_whole(values: dict[str, object], why: str) -> None:
    """Or it is no rule, with what is missing."""
    with pytest.raises(ValueError, match=why):
        ExternalMtaRule.model_validate({"public_ip": PUBLIC, **values})
