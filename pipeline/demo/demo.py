"""Starts and stops the simulated internet's process, and the traffic.

Owns the child process, which ends with us, however we went. When it cannot start, the error says in one line why; when
it ends by itself, that is a fault that stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from pipeline.demo.furnished import furnish
from pipeline.demo.providers import MTA_IPS
from pipeline.demo.traffic import traffic
from pipeline.process.children import Child, ChildFailed, ChildKind
from pipeline.process.supervisor import supervisor
from settings import Settings, StartError
from settings.config.values import HostPort
from settings.store import RuleStore

INTERNET = ChildKind("simulated-internet", "pipeline.demo.internet")
START = 20.0  # seconds that it may take to start, and
STOP = 5.0  # to end by itself
RETRIES = (20, 40, 60, 120, 300)  # seconds; the default's ten minutes are long to look at


class Demo:
    """The simulated internet, running.

    Attributes:
        settings: those given, changed so that mail goes there and nowhere else.
        process: that of the simulated internet.
    """

    def __init__(self, settings: Settings, process: _Internet) -> None:
        self.settings = settings
        self.process = process

    async def traffic(self, smtp_port: int) -> None:
        """Send mail to intake on this port of loopback until cancelled."""
        await traffic("127.0.0.1", smtp_port)

    async def furnish(self, store: RuleStore) -> None:
        """Give it rules and a past, where it has none."""
        await furnish(self.settings, store)

    async def stop(self) -> None:
        """End the process and wait for its end."""
        await self.process.stop()


class _Internet:
    """Its process. Raises `ChildFailed`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.said: asyncio.Future[bytes] = loop.create_future()  # its first line, or why there is none
        self._gone: asyncio.Future[None] = loop.create_future()
        self._stopping = False
        self.returncode: int | None = None
        self._child = Child(INTERNET, [], self._told, self._ended)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._child.pid

    async def stop(self) -> None:
        """End it, and wait for its end."""
        self._stopping = True
        if not self._gone.done():
            self._child.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._gone), STOP)
        if not self._gone.done():
            self._child.kill()
            await self._gone

    def _told(self, line: bytes) -> None:
        if not self.said.done():
            self.said.set_result(line)

    def _ended(self, code: int, why: str) -> None:
        self.returncode = code
        self._gone.set_result(None)
        if not self.said.done():
            self.said.set_result(json.dumps({"error": f"its process {why}"}).encode())
        elif not self._stopping:
            supervisor().failed(INTERNET.part, ChildFailed(why), ended=True)


async def start(settings: Settings) -> Demo:
    """Start the simulated internet, before the machine.

    Raises:
        StartError: it does not start; one line says why.
    """
    try:
        process = _Internet()
    except ChildFailed as error:
        raise StartError(f"the simulated internet {error}") from None
    try:
        ports = _ports(await asyncio.wait_for(asyncio.shield(process.said), START))
    except TimeoutError:
        await process.stop()
        raise StartError(f"the simulated internet has not started within {START:.0f} s") from None
    except BaseException:
        await process.stop()
        raise
    changes = {
        "dns_server": [HostPort("127.0.0.1", ports["dns"])],
        "delivery_port": ports["port"],
        "delivery_sink": None,
        "smtp_sink_address": None,
        "smarthost": None,
        "paused": False,
        "rabbitmq_inbox": settings.rabbitmq_outbox,
        "smtp_default_ips": list(MTA_IPS),
        "retry_interval": list(RETRIES),
    }
    return Demo(settings.model_copy(update=changes), process)


def _ports(line: bytes) -> dict[str, int]:
    try:
        said = json.loads(line)
    except json.JSONDecodeError:
        said = {"error": "it says what nobody understands"}
    if "error" in said:
        raise StartError(f"the simulated internet does not start: {said['error']}")
    return dict(said)
