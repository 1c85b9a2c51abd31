"""Starts and stops the simulated internet's process, and the traffic.

Owns the child process. It ends with us: its standard input is a pipe that the system closes when we are gone,
however we went. When it cannot start, the error says in one line why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process

from pipeline.demo.providers import MTA_IPS
from pipeline.demo.traffic import traffic
from settings import Settings, StartError
from settings.values import HostPort

START = 20.0  # seconds that it may take to start, and
STOP = 5.0  # to end by itself
RETRIES = (20, 40, 60, 120, 300)  # seconds; the default's ten minutes are long to look at


class Demo:
    """The simulated internet, running.

    Attributes:
        settings: those given, changed so that mail goes there and nowhere else.
    """

    def __init__(self, settings: Settings, process: Process) -> None:
        self.settings = settings
        self._process = process

    async def traffic(self, smtp_port: int) -> None:
        """Send mail to intake on this port of loopback until cancelled."""
        await traffic("127.0.0.1", smtp_port)

    async def stop(self) -> None:
        """End the process and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def start(settings: Settings) -> Demo:
    """Start the simulated internet, before the machine.

    Raises:
        StartError: it does not start; one line says why.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.demo.internet", stdin=PIPE, stdout=PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        ports = await asyncio.wait_for(_first_line(process), START)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise StartError(f"the simulated internet has not started within {START:.0f} s") from None
        raise
    changes = {
        "dns_server": [HostPort("127.0.0.1", ports["dns"])],
        "delivery_port": ports["port"],
        "delivery_sink": None,
        "smtp_default_ips": list(MTA_IPS),
        "retry_interval": list(RETRIES),
    }
    return Demo(settings.model_copy(update=changes), process)


async def _first_line(process: Process) -> dict[str, int]:
    assert process.stdout is not None
    try:
        said = json.loads(await process.stdout.readline())
    except json.JSONDecodeError:
        said = {"error": "its process ended"}
    if "error" in said:
        raise StartError(f"the simulated internet does not start: {said['error']}")
    return dict(said)
