"""The course of an hour: quiet, a disturbance, what was said, until it works again; and the settling of accounts."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.publisher import drain
from tests.system.hours.disturbances import Disturbance
from tests.system.hours.scene import Scene
from tests.system.hours.watch import Watch

PATIENCE = 150.0  # seconds until it works again
QUIET = (2.0, 5.0)  # seconds between two disturbances
SAYS = 20.0  # seconds until it must have said so
STALLED = 60.0  # seconds without an arrival, after which no more will come


@dataclass
class Happened:
    """A disturbance, once.

    Attributes:
        again: seconds until mail went on; None: it did not.
        meanwhile: it went on before the end of the disturbance.
        unready: `/readyz` answered 503; and what.
        said: what of the words was said, and where.
        wrong: why it is not as it must be.
    """

    name: str
    again: float | None = None
    meanwhile: bool = False
    unready: str = ""
    said: str = ""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Account:
    """Of all ids that were confirmed."""

    accepted: int
    delivered: int
    failed: int
    queued: int
    where: dict[str, int]
    lost: list[str]
    doubles: dict[str, int]
    unexplained: list[str]
    offered: dict[str, int]
    taken: dict[str, int]
    refusals: dict[str, int]
    exit: int | str
    tracebacks: int


def order(kinds: Sequence[type[Disturbance]], dice: random.Random) -> Iterator[type[Disturbance]]:
    """All of them by chance, then all again."""
    while True:
        turn = list(kinds)
        dice.shuffle(turn)
        yield from turn


def happen(scene: Scene, disturbance: Disturbance) -> Happened:
    """Do it, and see what comes of it."""
    happened = Happened(disturbance.name)
    halts = disturbance.halts(scene)
    with Watch(scene.program) as watch:
        unrest = scene.ledger.begin(disturbance.reason) if disturbance.reason else None
        disturbance.do(scene)
        if halts:
            time.sleep(disturbance.lasts)
        else:
            happened.again = scene.works_again(PATIENCE)
            happened.meanwhile = happened.again is not None
        _listen(watch, disturbance, halts and not disturbance.ends)
        disturbance.undo(scene)
        if unrest is not None:
            unrest.end = time.time()
        back = scene.works_again(PATIENCE)
        happened.again = happened.again if happened.meanwhile and back is not None else back
        if disturbance.says and not watch.heard(*disturbance.says):
            _listen(watch, disturbance, False)
    _judge(happened, watch, disturbance, scene, halts)
    return happened


def _listen(watch: Watch, disturbance: Disturbance, unready: bool) -> None:
    """Until it was said, for a while."""
    end = time.monotonic() + SAYS
    while time.monotonic() < end:
        said = not disturbance.says or disturbance.ends or watch.heard(*disturbance.says)
        if said and (watch.said.unready or not unready):
            return
        time.sleep(0.3)


def _judge(happened: Happened, watch: Watch, disturbance: Disturbance, scene: Scene, halts: bool) -> None:
    said = watch.read()
    happened.unready = "; ".join(sorted(said.unready))
    places = {"Overview": sorted(said.overview), "log": said.lines}
    for place, texts in places.items():
        for text in texts:
            if any(word.lower() in text.lower() for word in disturbance.says):
                happened.said = happened.said or f"{place}: {text.strip()[:160]}"
    if happened.again is None:
        happened.wrong.append(f"no mail went on within {PATIENCE:.0f} s of its end")
    if disturbance.says and not (happened.said or watch.heard(*disturbance.says)):
        happened.wrong.append(f"nobody said it (one of: {', '.join(disturbance.says)})")
    if halts and not disturbance.ends:
        if not said.unready:
            happened.wrong.append("/readyz said ok")
        if not happened.said.startswith("Overview"):
            happened.wrong.append("the Overview did not say it")
    if complaint := disturbance.complaint(scene):
        happened.wrong.append(complaint)


def settle(scene: Scene) -> Account:
    """Wait for what still comes, stop the program, and count."""
    ledger, last, since = scene.ledger, -1, time.monotonic()
    while _awaited(scene) and time.monotonic() - since < STALLED:
        arrived = len(ledger.delivered)
        if arrived != last:
            last, since = arrived, time.monotonic()
        time.sleep(0.3)
    time.sleep(2)
    try:
        code: int | str = scene.program.stop()
    except Exception as error:
        code = f"not ended: {error}"
        scene.program.kill()
    results, places = _left(scene)
    queued = places.keys()
    missing = ledger.missing()
    doubles = ledger.doubles()
    failed = missing & results
    return Account(
        accepted=len(ledger.accepted),
        delivered=len(ledger.accepted.keys() & ledger.delivered.keys()),
        failed=len(failed),
        queued=len(missing & queued - failed),
        where=collections.Counter(places[id] for id in missing & queued - failed),
        lost=sorted(missing - failed - queued),
        doubles={reason: sum(ids.values()) for reason, ids in doubles.items() if reason},
        unexplained=sorted(doubles.get("", ())),
        offered=dict(ledger.offered),
        taken=dict(ledger.taken),
        refusals=dict(ledger.refusals.most_common(12)),
        exit=code,
        tracebacks=scene.program.output.count("Traceback"),
    )


def _awaited(scene: Scene) -> bool:
    """What is for receivers that take it."""
    return bool(scene.ledger.missing() - scene.ledger.hopeless)


def _left(scene: Scene) -> tuple[set[str], dict[str, str]]:
    """The ids with a result, and in which other queue others still are."""
    results, queued = set[str](), dict[str, str]()
    for queue, body in _bodies(scene):
        try:
            id = json.loads(body)["recipient"].partition("@")[0]
        except (ValueError, KeyError, AttributeError, TypeError):
            continue  # an odd one
        if queue == "results":
            results.add(id)
        else:
            queued[id] = queue
    return results, queued


def _bodies(scene: Scene) -> Iterator[tuple[str, bytes]]:
    if scene.broker is None:
        with sqlite3.connect(scene.disk / "queue.db") as queue:
            yield from queue.execute("SELECT queue, body FROM messages")
        return
    for line in scene.broker.control("list_queues", "name", "messages", "--no-table-headers").splitlines():
        name, _, count = line.partition("\t")
        if count.strip() not in ("", "0"):
            yield from ((name, body) for body in asyncio.run(drain(scene.broker.address, name)))
