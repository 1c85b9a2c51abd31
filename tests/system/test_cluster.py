"""Three instances on one RabbitMQ and one rules database: found, switched between, told, and trusted little."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.async_api import async_playwright

from tests.support.amqp import RawPublisher, properties
from tests.support.api import TOKEN, Api
from tests.support.broker import MISSING, Broker, installed
from tests.support.loop import Loop
from tests.support.program import MAILRACE, Program
from tests.support.receiver import Receiver

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING)]
IPS = {"a": "127.0.0.11", "b": "127.0.0.12", "c": "127.0.0.13"}
CHROMIUM = "/usr/bin/chromium"


class Fleet:
    """The broker, the receiver and the instances."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.broker = Broker().start()
        self.loop = Loop().__enter__()
        self.receiver = Receiver()
        self.loop.run(self.receiver.__aenter__())
        database = f"sqlite:///{folder}/rules.db"
        self.programs = {name: self._program(folder / name, name, ip, database) for name, ip in IPS.items()}
        with ThreadPoolExecutor() as together:
            list(together.map(Program.start, self.programs.values()))
        until(lambda: all(len(self.api(name).get("/cluster")["instances"]) == 3 for name in IPS))

    def _program(self, folder: pathlib.Path, name: str, ip: str, database: str) -> Program:
        folder.mkdir()
        return Program(
            folder,
            rabbitmq_address=self.broker.address,
            server_id=name,
            rabbitmq_outbox=f"outbox-{name}",
            rabbitmq_inbox=f"outbox-{name}",
            smtp_default_ips=ip,
            www_password="secret",
            api_token=TOKEN,
            database_address=database,
            delivery_sink=f"127.0.0.1:{self.receiver.port}",
        )

    def api(self, name: str) -> Api:
        """One instance's."""
        return Api(self.programs[name])

    def url(self, name: str) -> str:
        """One instance's console."""
        return f"http://127.0.0.1:{self.programs[name].www_port}"

    def publish(self, queue: str, **message: object) -> None:
        """Put a message into a queue."""
        body = {"envelope": "from@sender.example", "mime": "Subject: x\r\n\r\nx\r\n", **message}
        with RawPublisher(self.broker.address) as publisher:
            publisher.publish(queue.encode(), properties(), json.dumps(body).encode())

    def got(self, recipient: str) -> list[str]:
        """From which addresses a recipient's mail has come."""
        mails = [mail for mail in self.receiver.messages if recipient in mail.rcpt]
        return [self.receiver.peers[mail.connection - 1] for mail in mails]

    def close(self) -> None:
        """End all of it."""
        for program in self.programs.values():
            if program.process is not None and program.process.poll() is None:
                program.kill()
        self.loop.run(self.receiver.__aexit__())
        self.loop.__exit__()
        self.broker.stop()


def until(holds: Callable[[], bool], patience: float = 20.0) -> float:
    """Wait until something is so; how many seconds it took."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < patience
        time.sleep(0.05)
    return time.monotonic() - begin


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three instances."""
    running = Fleet(tmp_path_factory.mktemp("cluster"))
    yield running
    running.close()


def test_the_command_lists_who_answers(fleet: Fleet) -> None:
    """As JSON and as a table; exit 0 where somebody did."""
    command = [*MAILRACE, "cluster", f"--rabbitmq-address={fleet.broker.address}"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    assert {one["id"]: one["ips"] for one in json.loads(done.stdout)} == {name: [ip] for name, ip in IPS.items()}
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in table.splitlines()] == ["instance", "a", "b", "c"]


def test_a_message_goes_to_the_instance_that_has_its_ip_once(fleet: Fleet) -> None:
    """It leaves from there; where nobody has it, it ends in `bind/error`."""
    fleet.publish("outbox-a", recipient="there@example.com", ips=[IPS["b"]])
    fleet.publish("outbox-a", recipient="nowhere@example.com", ips=["198.51.100.7"])
    until(lambda: bool(fleet.got("there@example.com")))
    until(lambda: bool(fleet.api("a").get("/logs?recipient=nowhere@example.com&limit=5")["records"]))
    assert fleet.got("there@example.com") == [IPS["b"]]
    (record,) = fleet.api("a").get("/logs?recipient=nowhere@example.com&limit=5")["records"]
    assert (record["state"], record["result"]) == ("bind", "error")


def test_a_rule_and_a_pause_of_the_cluster_are_everywhere_at_once(fleet: Fleet) -> None:
    """A pause of one instance is not."""
    throttle = fleet.api("a").create("throttles", domain="rule.example", domain_messages=60)
    until(lambda: any(one["id"] == throttle["id"] for one in fleet.api("c").get("/throttles")))
    for cluster in (False, True):
        pause = fleet.api("a").create("pauses", domain="pause.example", cluster=cluster)
        time.sleep(0)  # the next look is another request
        if cluster:
            until(lambda: pause["id"] in [one["id"] for one in fleet.api("b").get("/pauses")])  # noqa: B023
        fleet.api("a").delete("pauses", pause["id"])
    until(lambda: fleet.api("b").get("/pauses") == [])


def test_the_figures_of_all_are_added_up(fleet: Fleet) -> None:
    """And each instance stands in the metrics."""
    before = fleet.api("c").get("/cluster")["figures"]["delivered"]
    for name in ("a", "b"):
        fleet.publish(f"outbox-{name}", recipient=f"sum-{name}@example.com")
    until(lambda: bool(fleet.got("sum-a@") and fleet.got("sum-b@")))
    until(lambda: fleet.api("c").get("/cluster")["figures"]["delivered"] >= before + 2)
    assert fleet.api("c").get("/cluster")["missing"] == []


async def test_one_switches_between_consoles_and_keeps_the_view(fleet: Fleet) -> None:
    """The same view, with the same filters, and no second login."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        await page.goto(f"{fleet.url('a')}/login?redirect_to=%2Fdomains")
        await page.fill("#password", "secret")
        await page.click("button[type=submit]")
        await page.fill("input[type=search]", "example")
        await page.wait_for_url("**/domains?search=example")
        await page.click(".instances summary")
        assert await page.locator(".instances a").all_inner_texts() == ["b\nRunning", "c\nRunning"]
        await page.click("a[data-instance=b]")
        await page.wait_for_url(f"{fleet.url('b')}/domains?search=example")
        assert await page.input_value("input[type=search]") == "example"
        await browser.close()


def hostile(number: int, chance: random.Random) -> bytes:
    """What somebody may say who has no business here."""
    announce = {"id": f"x{number}", "token": "t", "ips": ["127.0.0.11"], "outbox": "outbox-a"}
    said: list[object] = [
        {"rules": [{"kind": "pauses"}]},
        {"exec": "rm -rf /", "run": ["sh"]},
        {"purge": "outbox-a"},
        {"announce": {**announce, "id": "<script>alert(1)</script>"}},
        {"announce": {**announce, "url": "javascript:alert(1)"}},
        {"announce": {**announce, "ips": ["not an ip"]}},
        {"announce": {**announce, "ips": ["127.0.0.11"] * 1000}},
        {"announce": {**announce, "workers": -1}},
        {"announce": {**announce, "figures": {"delivered": "many"}}},
        {"announce": {**announce, "by_domain": {"\u202e\x00": {}}}},
        {"goodbye": {"id": "b", "token": "guessed"}},
        [[[[]]]],
        "x" * 100_000,
        None,
    ]
    if number % 20 == 0:
        return chance.randbytes(300)
    if number % 21 == 0:
        return b"[" * 50_000
    return json.dumps(said[number % len(said)]).encode()


def test_hostile_messages_are_counted_and_do_nothing(fleet: Fleet) -> None:
    """5,000 of them: the same instances, rules and queues as before."""
    chance = random.Random(13)
    before = fleet.api("a").get("/cluster")
    with RawPublisher(fleet.broker.address) as publisher:
        for number in range(5000):
            publisher.publish(b"", properties(), hostile(number, chance), exchange=b"cluster")
    until(lambda: fleet.api("a").get("/cluster")["refused"] > before["refused"] + 500)
    fleet.publish("outbox-a", recipient="after@example.com")
    until(lambda: bool(fleet.got("after@")))
    after = fleet.api("a").get("/cluster")
    assert [one["id"] for one in after["instances"]] == [one["id"] for one in before["instances"]]
    assert fleet.api("a").get("/pauses") == []


def test_without_its_broker_each_goes_on_and_comes_back(fleet: Fleet) -> None:
    """It says so in the status meanwhile."""
    fleet.broker.kill()
    until(lambda: any("cluster is not heard" in fault for fault in fleet.api("b").get("/status")["faults"]))
    fleet.broker.start()
    until(lambda: not any("cluster" in fault for fault in fleet.api("b").get("/status")["faults"]), 60)
    with contextlib.suppress(asyncio.CancelledError):
        until(lambda: len(fleet.api("b").get("/cluster")["instances"]) == 3, 60)
