"""Several workers: what goes over the link, their files as one queue, and the mail of those that are no more."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from reactivex.scheduler.eventloop import AsyncIOScheduler

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.events import Assigned, Connecting, Event, Notice, Parked, Settled, Taken, Unparked
from operators.deliveries.outcome import Next, Outcome, deferred, parked
from operators.lanes.floods import Floods, at_once
from operators.mail.message import Message
from pipeline.machine.machine import Machine
from pipeline.queues import adopt_orphans, open_files, open_queue, queue_file, worker_folder
from pipeline.queues.contract import Queue
from pipeline.queues.embedded.adopt import adopt
from pipeline.queues.listing import Filter
from pipeline.smtp.watch import Conversation, DialogueWatch, Line, Only
from pipeline.telemetry.telemetry import Telemetry
from pipeline.workers.crew import Crew
from pipeline.workers.dialogue import APART, HeadDialogue, WorkerDialogue
from pipeline.workers.head import HeadFloods
from pipeline.workers.link import WorkerLink, decode, encode
from pipeline.workers.mirror import MirroredLanes, MirroredSlots, Reports
from pipeline.workers.wire import Unpacking, packed
from settings import Settings, load
from settings.rules import Flood, Snapshot

COLUMNS = "queue, lane, due, expires, queued, body"


def over(unpacking: Unpacking, *events: Event) -> list[Event]:
    """The events as the head has them."""
    said = [decode(encode(packed(event))) for event in events]
    return [event for one in said if (event := unpacking.event(one)) is not None]


def delivery(number: int = 1, recalled: str | None = None) -> Delivery:
    """One on its way."""
    message = Message(recipient="you@example.com", tags=["news"], message_id=f"m{number}", mime="x" * 1000)
    lease = Lease(number, b"body", recalled=recalled)
    route = Route("mx.example.com", (Target("mx.example.com", "192.0.2.9"),))
    return Delivery(
        lease=lease, message=message, domain="example.com", ip="192.0.2.1", lane="192.0.2.1/mx.example.com", route=route
    )


def test_the_head_counts_what_its_workers_do() -> None:
    """Events lose their bodies on the way, and nothing that is shown."""
    one, ok = delivery(), Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, attempted=True)
    now = time.time()
    events = [
        Taken(time=now, delivery=one),
        Assigned(time=now, delivery=one),
        Connecting(time=now, lane=one.lane, ip=one.ip, remote_ip="192.0.2.9", host="mx"),
        Notice(time=now, kind="x", text="y", fields={"lane": "z"}),
        Settled(time=now, delivery=one, outcome=ok),
    ]
    found = over(Unpacking(), *events)
    assert [type(event) for event in found] == [type(event) for event in events]
    telemetry = Telemetry()
    for event in found:
        telemetry.count(event)
    totals = telemetry.totals()
    assert (totals["processed"], totals["delivered"], totals["connects"], totals["in_memory"]) == (1, 1, 1, 0)
    assert telemetry.snapshots("tag", ["news"])["news"]["delivered"] == 1
    settled = found[-1]
    assert isinstance(settled, Settled)
    assert (settled.delivery.message.message_id, settled.delivery.lease.body) == ("m1", b"")


def test_a_worker_that_ends_leaves_the_counters_in_order() -> None:
    """What it held is given back, what it had parked is taken out, and comes again with the next one."""
    unpacking, telemetry, now = Unpacking(), Telemetry(), time.time()
    held, away = delivery(1), delivery(2)
    said = over(
        unpacking,
        Parked(time=now, lane="l", count=5),
        Taken(time=now, delivery=held),
        Taken(time=now, delivery=away),
        Settled(time=now, delivery=away, outcome=parked("l", "full")),
        Unparked(time=now, lane="l", count=1),
    )
    assert unpacking.parked["l"] == 5
    left = [Unparked(time=now, lane="l", count=unpacking.parked["l"])]
    for event in (*said, *unpacking.given_back(now), *left):
        telemetry.count(event)
    totals = telemetry.totals()
    ends = ("delivered", "retried", "failed", "refused", "returned", "in_memory", "parked", "removed")
    assert totals["processed"] == sum(totals[name] for name in ends)
    assert (totals["in_memory"], totals["parked"]) == (0, 0)


async def test_messages_come_whole_and_in_order_and_an_end_is_told() -> None:
    """However the bytes are cut; one that is too large ends the link."""
    ours, theirs = socket.socketpair()
    heard: list[Any] = []
    gone = asyncio.Event()
    one = await WorkerLink.over(ours, heard.append, gone.set)
    other = await WorkerLink.over(theirs, lambda said: None, lambda: None)
    for number in range(500):
        other.say("event", number, "x" * (number * 10))
    other.close()
    await asyncio.wait_for(gone.wait(), 5)
    assert [said[1] for said in heard] == list(range(500))
    one.say("nobody hears")


def of(folder: Path, **more: object) -> Settings:
    """The configuration of an instance there."""
    return load([f"--data-dir={folder}", *(f"--{key}={value}" for key, value in more.items())], system_file=None)


async def put(queue: Queue, numbers: range) -> None:
    """Messages with these numbers."""
    safe: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    bodies = [("outbox", json.dumps({"recipient": f"u{number}@a.example"}).encode()) for number in numbers]
    queue.publish(bodies, safe.set_result)
    assert await safe is None


async def test_files_of_workers_are_one_queue(tmp_path: Path) -> None:
    """Listed page by page, each message once; read, changed and counted over all."""
    settings = of(tmp_path)
    for number in (1, 2, 3):
        worker_folder(tmp_path, number).mkdir()
    many = open_files(settings, [queue_file(tmp_path, number) for number in (1, 2, 3)])
    await many.start()
    for start in range(0, 90, 10):
        await put(many, range(start, start + 10))
    assert (await many.figures()).ready == 90
    seen: list[str] = []
    after: Any = (0, 0)
    while after is not None:
        page = await many.browse(Filter(queue="outbox"), after, 7)
        seen += [listed.recipient for listed in page.messages]
        after = page.after
    assert sorted(seen) == sorted(f"u{number}@a.example" for number in range(90))
    found = (await many.browse(Filter(queue="outbox", containing="u42@"), (0, 0), 50)).messages
    assert [listed.recipient for listed in found] == ["u42@a.example"]
    opened = await many.read(found[0].id)
    assert opened is not None
    assert b"u42@" in opened.body
    assert await many.change("delete", [found[0].id]) == 1
    assert await many.read(found[0].id) is None
    assert await many.purge() == 89
    await many.close()


async def test_mail_of_a_worker_that_is_no_more_is_taken_up_once(tmp_path: Path) -> None:
    """Also where it was killed between the two files."""
    settings = of(tmp_path)
    for number in (2, 3):
        worker_folder(tmp_path, number).mkdir()
        queue = open_queue(settings, alone=True, file=queue_file(tmp_path, number))
        await queue.start()
        await put(queue, range(number * 1000, number * 1000 + 700))
        await queue.close()
    first = open_queue(settings, alone=True)
    await first.start()
    await first.close()
    with sqlite3.connect(queue_file(tmp_path, 2)) as old, sqlite3.connect(queue_file(tmp_path, 1)) as new:
        rows = old.execute(f"SELECT id, {COLUMNS} FROM messages ORDER BY id LIMIT 300").fetchall()
        places = "?, ?, ?, ?, ?, ?"
        new.executemany(f"INSERT INTO messages({COLUMNS}) VALUES({places})", [row[1:] for row in rows])
        new.execute("CREATE TABLE adopted_segments(source TEXT, old INTEGER, new INTEGER, PRIMARY KEY(source, old))")
        new.execute("CREATE TABLE adopted(source TEXT PRIMARY KEY, upto INTEGER)")
        new.execute("INSERT INTO adopted VALUES('worker-2', ?)", (rows[-1][0],))
    assert adopt_orphans(tmp_path, 2) == 700
    assert not queue_file(tmp_path, 3).exists()
    assert adopt(queue_file(tmp_path, 2), queue_file(tmp_path, 1)) == 400
    with sqlite3.connect(queue_file(tmp_path, 1)) as new:
        bodies = [row[0] for row in new.execute("SELECT body FROM messages")]
        count = new.execute("SELECT sum(n) FROM counts").fetchone()[0]
    assert (len(bodies), len({*bodies}), count) == (1400, 1400, 1400)


@pytest.mark.parametrize(
    ("text", "ok"), [("1", True), ("64", True), ("auto", True), ("0", False), ("65", False), ("x", False)]
)
def test_workers_are_a_number_or_auto(text: str, ok: bool) -> None:
    """Anything else is one clear line."""
    from settings import ConfigurationErrors

    if ok:
        assert load([f"--workers={text}"], system_file=None).workers >= 1
    else:
        with pytest.raises(ConfigurationErrors, match=r"workers.*from 1 to 64, or auto"):
            load([f"--workers={text}"], system_file=None)


async def test_a_watcher_of_the_head_hears_each_worker() -> None:
    """Numbers of connections and bodies are the worker's own; one that comes later is told to watch, too."""
    said: list[Any] = []

    class Told:
        """What the head has of its workers."""

        line: Any = None
        body: Any = None

        def ask(self, number: int, *message: Any) -> None:
            said.append(message)

        def ask_no_more(self, number: int, *message: Any) -> None:
            said.append(message)

    told = Told()
    head = HeadDialogue(told, AsyncIOScheduler(asyncio.get_running_loop()))  # type: ignore[arg-type]
    got: list[Any] = []
    watching = head.watch(Only(domain="a.example"), 50).subscribe(got.append)
    line = Line(
        time=1.0,
        connection=7,
        direction="out",
        sender="client",
        text="EHLO",
        mta_ip="",
        remote_ip="",
        domain="",
        caught=3,
    )
    told.body(2, 3, b"body", 4)
    told.line(2, 1, msgspec.to_builtins(line))
    assert head.kept == [got[0].caught]  # so that the page offers to open it
    told.line(1, 1, {"time": 1.0, "count": 9})
    watching.dispose()
    told.line(1, 1, msgspec.to_builtins(line))
    assert [type(one).__name__ for one in got] == ["Line", "SkippedLines"]
    assert (got[0].connection, got[0].caught) == (2 * APART + 7, 2 * APART + 3)
    assert said[0][2]["domain"] == "a.example"
    assert said[1] == ("leave", 1)


async def test_a_worker_sends_the_bodies_of_the_lines_that_it_tells() -> None:
    """Each once it is kept, which is when its line was told."""
    said: list[tuple[Any, ...]] = []

    class Carrier:
        """What a worker has of its machine."""

        dialogue = DialogueWatch((), AsyncIOScheduler(asyncio.get_running_loop()))

    worker = WorkerDialogue(cast(Machine, Carrier()), lambda *words: said.append(words))
    worker.watch(1, {}, 50)
    Carrier.dialogue.body(Conversation("out", "192.0.2.1", "198.51.100.1"), b"Subject: x")
    await asyncio.sleep(0)
    assert [words[0] for words in said] == ["line", "body"]
    assert said[1][2:] == (b"Subject: x", 10)
    worker.leave(1)


def test_the_lanes_of_all_workers_are_added_up() -> None:
    """What waits, what is under way, and the reason that ends first."""
    reports = Reports()
    row = ["127.0.0.1/mx", "127.0.0.1", "mx", ["a.example"], 3, 2, 5, 3, "slow", 50.0, 2, 1]
    other = [*row[:3], ["b.example"], 4, 1, 7, 1, "rate", 20.0, 1, 0]
    reports.of = {1: {"lanes": [row]}, 2: {"lanes": [other]}}
    lane = MirroredLanes(reports, lambda *said: None).get("127.0.0.1/mx")
    assert lane is not None
    assert (len(lane.waiting), lane.in_flight, lane.window, lane.memory) == (7, 3, 12, 10)
    assert (list(lane.domains), lane.waits_for) == (["a.example", "b.example"], "rate")
    assert MirroredSlots(reports, 10, lambda *said: None).of("127.0.0.1/mx") == (3, 1)


class Told:
    """A crew that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def say(self, *words: Any) -> None:
        self.said.append(words)


def test_a_threshold_of_matches_is_that_of_all_workers() -> None:
    """The head counts, since each worker sees a part; a pattern of one match begins in the worker, at once."""
    rules = [
        Flood(id=number, name=f"p{number}", pattern=text, count=count, period=60, pause=60)
        for number, (text, count) in enumerate([("slow down", 3), ("go away", 1)], 1)
    ]
    snapshot, begun = Snapshot({"floods": rules}), []
    head = HeadFloods(cast(Crew, Told()), begun.append)
    worker = Floods(time.monotonic, begun.append, at_once)
    for text in ("450 slow down", "450 slow down", "450 slow down", "450 go away"):
        answer = deferred("rcptto", "error", text[4:], code=450)
        worker.look(delivery().ended(answer), snapshot)
        head.happened(Settled(time=time.time(), delivery=delivery(), outcome=answer), snapshot)
    assert [(flood.rule.id, flood.lane) for flood in begun] == [(number, delivery().lane) for number in (1, 2)]


def test_what_dry_rules_would_have_done_is_counted_over_the_death_of_a_worker() -> None:
    """Each worker says its own sum; a new one begins at 0."""
    reports = Reports()
    reports.put(1, {"dry": {7: 3}})
    reports.put(2, {"dry": {7: 1}})
    reports.put(1, {"dry": {7: 5}})
    del reports.of[1]
    reports.put(1, {"dry": {7: 2}})
    assert reports.dry == {7: 8}


def test_the_connections_of_all_workers_are_added_up() -> None:
    """Attempting, active and idle ones of each lane."""
    reports = Reports()
    for number, counts in enumerate([(1, 0, 2), (0, 3, 0)], 1):
        reports.put(number, {"dry": {}, "connections": {"a": counts}})
    assert MirroredSlots(reports, 10, lambda *words: None).states() == {"a": (1, 3, 2)}
