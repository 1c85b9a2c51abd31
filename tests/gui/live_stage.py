"""The whole of it for the console's views: a real machine with its console, mail from the simulated internet's senders.

Run as a program: `python live_stage.py <mailrace options>`. Prints `ready` when the console answers. Its standard input
takes commands, a line each: `traffic` (mail flows), `mail <count> <domain>` (so many messages, prints `sent`), `open`
(prints how many pages are open), `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gui.components.live import Live
from gui.serve import Web, announce
from pipeline.demo import start
from pipeline.machine import Machine
from settings import load
from tests.support.source import Source


async def main() -> None:
    settings = load(sys.argv[1:], None, None)
    internet = await start(settings)
    machine, web = Machine(internet.settings), Web(internet.settings)
    await machine.start()
    announce(settings, await web.start(machine))
    print("ready", flush=True)
    lines: asyncio.Queue[str] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline().strip()))
    traffic: asyncio.Task[None] | None = None
    while (line := await lines.get()) != "stop" and line:
        if line == "traffic":
            traffic = asyncio.create_task(internet.traffic(machine.intake.addresses[0][1]))
        elif line.startswith("mail "):
            count, domain = line.split()[1:]
            await Source(machine.intake.addresses[0][1], int(count), sessions=1, domain=lambda _, to=domain: to).run()
            print("sent", flush=True)
        elif line == "open":
            await asyncio.sleep(0.5)
            print(f"open {len(Live.open)}", flush=True)
    if traffic is not None:
        traffic.cancel()
        with contextlib.suppress(BaseException):
            await traffic
    await machine.stop()
    await web.stop()
    await internet.stop()


if __name__ == "__main__":
    asyncio.run(main())
