"""The whole of it for the console's views: a real machine with its console, mail from the simulated internet's senders.

Run as a program: `python live_stage.py <mailrace options>`; `STAGE_WORKERS=3` before the tests has three workers
carry the mail. Prints `ready` when the console answers. Its standard input
takes commands, a line each: `traffic` (mail flows), `mail <count> <domain>` (so many messages, prints `sent`),
`crowd <count>` (mail for so many domains has been seen, prints `seen`), `queue <json>` (publishes this message, prints
`queued`), `demo` (says that its data is fictional), `open` (prints how many pages are open), `watching` (how many
watch the dialogue and the events), `port` (of
intake), `audit` (the last change), `locals` (the local addresses), `routes` (all that is served, as JSON), `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import structlog

from gui.access.proxies import Proxies
from gui.api.door import Door
from gui.components.live import LiveUpdates
from gui.web.serve import Web
from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Assigned, Settled
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.commands.serve import announce, machine_of
from pipeline.demo import start
from pipeline.machine.machine import Machine
from pipeline.views.facade import Facade
from settings import load
from tests.support.source import Source


def crowd(machine: Machine, count: int) -> None:
    """Mail for many domains has been here; a hundred domains share each lane."""
    for number in range(count):
        domain, lane = f"d{number:05}.example", f"127.0.0.1/mx{number // 100}.example"
        delivery = Delivery(
            lease=Lease(id=-number, body=b""), message=Message(recipient=f"you@{domain}"), domain=domain, lane=lane
        )
        outcome = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, attempted=True)
        machine.report(Assigned(time=time.time(), delivery=delivery))
        machine.report(Settled(time=time.time(), delivery=delivery, outcome=outcome))


def routes(app: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Path and methods of all that an application serves, in whatever it is wrapped, and in what is mounted in it."""
    if isinstance(app, Proxies):
        yield from routes(app._app)
    if isinstance(app, Door):
        yield from routes(app._console)
        yield from routes(app._api)
    for route in getattr(app, "routes", []):
        path = prefix + getattr(route, "path", "")
        if included := getattr(route, "original_router", None):  # how FastAPI keeps a router that is included
            yield from routes(included, path + route.include_context.prefix)
        elif getattr(getattr(route, "app", None), "routes", None):
            yield from routes(route.app, path)
        else:
            yield path, sorted(getattr(route, "methods", None) or ["GET"])


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output has the answers
    workers = [f"--workers={count}"] if (count := os.environ.get("STAGE_WORKERS")) else []
    settings = load([*sys.argv[1:], *workers], None, None)
    internet = await start(settings)
    machine, web = await machine_of(internet.settings), Web(internet.settings)
    await machine.start()
    port = machine.intake.addresses[0][1] if machine.intake.addresses else machine.settings.smtp_port[0]
    facade = Facade(machine)
    announce(settings, await web.start(facade))
    facade.alerts.start()
    print("ready", flush=True)
    lines: asyncio.Queue[str] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline().strip()))
    traffic: asyncio.Task[None] | None = None
    while (line := await lines.get()) != "stop" and line:
        if line == "traffic":
            traffic = asyncio.create_task(internet.traffic(port))
        elif line.startswith("mail "):
            count, domain = line.split()[1:]
            await Source(port, int(count), sessions=1, domain=lambda _, to=domain: to).run()
            print("sent", flush=True)
        elif line == "demo":
            facade.fictional = True
            print("demo", flush=True)
        elif line == "port":
            print(port, flush=True)
        elif line == "watching":
            await asyncio.sleep(0.5)
            print(len(machine.dialogue._watchers), len(machine._events.observers), flush=True)
        elif line.startswith("crowd "):
            crowd(machine, int(line.split()[1]))
            print("seen", flush=True)
        elif line.startswith("queue "):
            published = asyncio.get_running_loop().create_future()
            machine.queue.publish([(settings.rabbitmq_outbox, line[6:].encode())], published.set_result)
            await published
            print("queued", flush=True)
        elif line == "audit":
            (last,) = await machine.rules.audit(1)
            print(last.who, last.origin, last.action, last.kind, flush=True)
        elif line == "locals":
            print([rule.pattern for rule in machine.rules.snapshot.locals], flush=True)
        elif line == "routes":
            print(json.dumps(list(routes(web._servers[-1][0].config.app))), flush=True)
        elif line == "open":
            await asyncio.sleep(0.5)
            print(f"open {len(LiveUpdates.open)}", flush=True)
    if traffic is not None:
        traffic.cancel()
        with contextlib.suppress(BaseException):
            await traffic
    await facade.alerts.close()
    await machine.stop()
    await web.stop()
    facade.close()
    await internet.stop()


if __name__ == "__main__":
    asyncio.run(main())
