"""A stage for the console: the real server over a scripted source of real events.

Run as a program: `python stage.py <mailrace options>`. Prints `ready` when the console answers. Its standard input
takes commands, a line each: `flow` (traffic, with a past), `hostile` (a destination that sends HTML), `stop`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import structlog
from reactivex.subject import Subject

from gui.components.live import LiveUpdates
from gui.web.serve import Web
from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Assigned, Connecting, Event, Settled, Taken
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.commands.serve import announce
from pipeline.queues.contract import QueueFigures
from pipeline.queues.listing import Unbrowsable
from pipeline.telemetry.telemetry import Telemetry
from pipeline.views.facade import Facade
from settings import load
from settings.store import RuleStore

DOMAINS = {
    "gmail.com": (30, 0.01, 451, "4.7.28", "Our system has detected an unusual rate of unsolicited mail"),
    "outlook.com": (18, 0.02, 550, "5.7.1", "Service unavailable, Client host blocked using Spamhaus"),
    "yahoo.com": (10, 0.45, 421, "4.7.0", "[TSS04] Messages temporarily deferred due to user complaints"),
    "gmx.de": (6, 0.0, 250, "2.0.0", ""),
    "web.de": (5, 0.08, 452, "4.3.1", "Insufficient system storage"),
    "orange.fr": (4, 0.3, 451, "4.7.1", "Greylisted, please try again in 300 seconds"),
    "example.org": (2, 0.1, 550, "5.1.1", "<nobody@example.org>: Recipient address rejected: User unknown"),
    "a-company-with-a-very-long-domain-name.international.example": (1, 0.2, 554, "5.7.1", "Policy rejection " * 6),
}
DICE = random.Random(1)


async def no_figures() -> QueueFigures:
    """The queue answers."""
    return QueueFigures()


async def no_messages(*_: Any) -> None:
    """It lists none."""
    raise Unbrowsable


class Stage:
    """A machine whose events are made up, and all else is real."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.events: Subject[Event] = Subject()
        self.counted = self.events
        self.queue = SimpleNamespace(figures=no_figures, answers=no_figures, browse=no_messages, parked=dict, full=None)
        self.lanes = self.floods = SimpleNamespace(all=list, get=lambda name: None)
        self.slots = SimpleNamespace(states=dict, of=lambda lane: (0, 0))
        self.ips = SimpleNamespace(all=("192.0.2.10",), default=("192.0.2.10",), is_ours=bool)
        self.names = SimpleNamespace(ehlo=lambda ip: "mx1.example")
        self.rules = RuleStore("", Path(settings.data_dir))
        gauges = {
            "attempting": lambda: 3,
            "active": lambda: 18 + int(6 * math.sin(time.time() / 5)),
            "idle": lambda: 9,
            "waiting": lambda: 1284,
        }
        self.now: float | None = None
        self.health = SimpleNamespace(stopped=None, states=list, remarks=[], beside={}, discarded=0)
        self.cluster = None
        self.telemetry = Telemetry(self.time, gauges)
        self.telemetry.watch(self.events)
        self._ids = itertools.count()
        self._held: list[Delivery] = []

    def time(self) -> float:
        """The clock; the past is played before the traffic begins."""
        return self.now if self.now is not None else time.time()

    def message(self, domain: str, text: str | None = None) -> None:
        message = Message(recipient=f"you@{domain}", tags=DICE.choice((["newsletter"], ["receipts"], [])))
        lease = Lease(id=next(self._ids), body=b"")
        delivery = Delivery(lease=lease, message=message, domain=domain, ip=f"192.0.2.{DICE.randint(10, 13)}")
        delivery = delivery.but(lane=f"{delivery.ip}/{domain}")
        now = self.time()
        self.events.on_next(Taken(time=now, delivery=delivery))
        self.events.on_next(Assigned(time=now, delivery=delivery))
        self._held.append(delivery)
        if DICE.random() < 0.1:
            self.events.on_next(
                Connecting(time=now, lane=delivery.lane, ip=delivery.ip, remote_ip="198.51.100.1", host="mx")
            )
        if len(self._held) > 240:
            self._settle(self._held.pop(DICE.randrange(200)), text)

    def _settle(self, delivery: Delivery, text: str | None) -> None:
        _, share, code, status, answer = DOMAINS.get(delivery.domain, (1, 1.0, 550, "5.0.0", text or ""))
        rest: dict[str, Any] = {
            "attempted": True,
            "messages": DICE.randint(1, 9),
            "remote_ip": "198.51.100.1",
            "host": f"mx1.{delivery.domain}",
        }
        if DICE.random() >= share:
            outcome = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, **rest)
        elif text is None and DICE.random() < 0.12:
            outcome = Outcome(
                state="data", result="timeout", next=Next.RETRY, description="no answer for 300 s", **rest
            )
        else:
            next_ = Next.FAIL if code >= 500 else Next.RETRY
            outcome = Outcome(
                state="rcptto", result="error", next=next_, code=code, status=status, description=answer, **rest
            )
        self.events.on_next(Settled(time=self.time(), delivery=delivery, outcome=outcome))

    async def flow(self) -> None:
        """A past of two hours, then traffic."""
        names, weights = list(DOMAINS), [row[0] for row in DOMAINS.values()]
        started = time.time()
        for second in range(7200, 0, -1):
            self.now = started - second
            for _ in range(int(3 + 3 * math.sin(second / 400) + DICE.random() * 2 + (20 if second < 60 else 0))):
                self.message(DICE.choices(names, weights)[0])
        self.now = None
        while True:
            for _ in range(DICE.randint(1, 5)):
                self.message(DICE.choices(names, weights)[0])
            await asyncio.sleep(0.1)

    def hostile(self) -> None:
        """Everything from outside tries to be HTML."""
        bad = "<img src=x onerror=\"document.title='owned'\">"
        for _ in range(300):
            self.message(
                f"{bad}.example", f"{bad} {{{{ constructor }}}} </script><script>document.title='owned'</script>"
            )


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output has the answers
    settings = load(sys.argv[1:], None, None)
    stage = Stage(settings)
    await stage.rules.start()
    web = Web(settings)
    facade = Facade(stage)  # type: ignore[arg-type]
    announce(settings, await web.start(facade))
    print("ready", flush=True)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline().strip()))
    tasks = []
    while (line := await lines.get()) != "stop" and line:
        if line == "flow":
            tasks.append(asyncio.create_task(stage.flow()))
        elif line == "hostile":
            stage.hostile()
        elif line == "open":
            await asyncio.sleep(0.5)
            print(f"open {len(LiveUpdates.open)}", flush=True)
    for task in tasks:
        task.cancel()
    await web.stop()
    facade.close()
    await stage.rules.close()


if __name__ == "__main__":
    asyncio.run(main())
