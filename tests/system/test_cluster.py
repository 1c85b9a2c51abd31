"""Three instances on one RabbitMQ and one PostgreSQL: found, switched between, told, lost, and trusted little.

`python -m tests.system.test_cluster` shows what takes minutes: limits that an instance gives back when it is found
gone, and a broker that is away for a minute.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.async_api import async_playwright

from tests.support.amqp import RawPublisher, properties
from tests.support.api import TOKEN, Api
from tests.support.broker import MISSING, Broker, installed
from tests.support.chromium import ARGUMENTS, CHROMIUM
from tests.support.loop import Loop
from tests.support.program import MAILRACE, Program
from tests.support.receiver import SILENCE, Receiver
from tests.support.servers import Postgres, serve
from tests.system.fuzz_cluster import attack
from tests.system.progress import Progress

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING)]
IPS = {"a": "127.0.0.11", "b": "127.0.0.12", "c": "127.0.0.13"}
OUTBOXES = {"a": "outbox-a", "b": "outbox-b", "c": "outbox-a"}  # two read the same one


class Fleet:
    """The broker, the receiver and the instances.

    Args:
        folder: for all of them.
        database: of their rules.
        options: for each, beside its own.
    """

    def __init__(self, folder: pathlib.Path, database: str, **options: object) -> None:
        self.broker, self._options = Broker().start(), options
        self.loop = Loop().__enter__()
        self.receiver = Receiver()
        self.loop.run(self.receiver.__aenter__())
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
            rabbitmq_outbox=OUTBOXES[name],
            rabbitmq_inbox=OUTBOXES[name],
            www_password="secret",
            api_token=TOKEN,
            database_address=database,
            delivery_sink=f"127.0.0.1:{self.receiver.port}",
            **{"smtp_default_ips": ip, **self._options},
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

    def faults(self, name: str) -> list[str]:
        """What an instance says is wrong."""
        return list(self.api(name).get("/status")["faults"])

    def records(self, recipient: str) -> list[dict[str, Any]]:
        """What the logs of all that live say of a recipient."""
        living = [name for name, program in self.programs.items() if program.process and program.process.poll() is None]
        found = (self.api(name).get(f"/logs?recipient={recipient}&limit=5")["records"] for name in living)
        return [record for records in found for record in records]

    def count(self, seconds: float) -> int:
        """Messages that come within so long."""
        before = len(self.receiver.messages)
        time.sleep(seconds)
        return len(self.receiver.messages) - before

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
    for server in serve(Postgres, "initdb"):
        running = Fleet(tmp_path_factory.mktemp("cluster"), server.fresh())
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
    until(lambda: bool(fleet.records("nowhere@example.com")))
    assert fleet.got("there@example.com") == [IPS["b"]]
    (record,) = fleet.records("nowhere@example.com")
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


def test_a_suppression_of_one_holds_in_the_others(fleet: Fleet) -> None:
    """As any rule: the others read it as soon as they are told."""
    fleet.api("a").create("suppressions", type="domain", value="gone.example")
    recipients = (f"n{number}@gone.example" for number in range(1000))

    def suppressed() -> bool:
        fleet.publish("outbox-b", recipient=(to := next(recipients)))
        until(lambda: bool(fleet.records(to)))
        return bool(fleet.records(to)[0]["state"] == "suppression")

    until(suppressed)


def test_the_figures_of_all_are_added_up(fleet: Fleet) -> None:
    """Whoever is asked, once: the others are asked at that moment."""
    before = fleet.api("c").get("/cluster")["figures"]["delivered"]
    for name in ("a", "b"):
        fleet.publish(f"outbox-{name}", recipient=f"sum-{name}@example.com")
    until(lambda: bool(fleet.got("sum-a@") and fleet.got("sum-b@")))
    until(lambda: fleet.api("c").get("/cluster")["figures"]["delivered"] >= before + 2)
    whole = fleet.api("c").get("/cluster")
    rows = [row["figures"] for row in whole["instances"]]
    assert whole["missing"] == []
    assert whole["figures"]["delivered"] == sum(row["delivered"] for row in rows)
    assert max(row["silent"] for row in whole["instances"]) < 3


async def test_one_switches_between_consoles_and_keeps_the_view(fleet: Fleet) -> None:
    """The same view, with the same filters, and no second login."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
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


def test_the_unsettled_mail_of_one_that_is_killed_is_taken_up(fleet: Fleet) -> None:
    """By another that reads the same outbox; and the others say who does not answer."""
    fleet.receiver.script = {".": [SILENCE]}
    fleet.publish("outbox-a", recipient="hung@example.com")
    until(lambda: not fleet.receiver.script["."])
    connection = next(number for number, line in fleet.receiver.commands if "hung@example.com" in line)
    victim = next(name for name, ip in IPS.items() if ip == fleet.receiver.peers[connection - 1])
    other = {"a": "c", "c": "a"}[victim]
    fleet.programs[victim].kill()
    until(lambda: [record["result"] for record in fleet.records("hung@example.com")] == ["accepted"])
    assert fleet.got("hung@example.com")[-1] == IPS[other]
    until(lambda: fleet.api("b").get("/cluster")["missing"] == [victim])


def test_without_its_broker_each_goes_on_and_comes_back(fleet: Fleet) -> None:
    """It says so in the status meanwhile; a rule that was changed by then is in force when it is back."""
    living = [name for name, program in fleet.programs.items() if program.process and program.process.poll() is None]
    fleet.broker.kill()
    until(lambda: all("cluster is not heard" in " ".join(fleet.faults(name)) for name in living))
    rule = fleet.api(living[0]).create("throttles", domain="meanwhile.example", domain_messages=60)
    fleet.broker.start()
    until(lambda: not any("cluster" in " ".join(fleet.faults(name)) for name in living), 60)
    until(lambda: rule["id"] in [one["id"] for one in fleet.api(living[1]).get("/throttles")])
    until(lambda: {one["id"] for one in fleet.api(living[1]).get("/cluster")["instances"]} >= {*living}, 60)


def test_hostile_words_are_counted_and_do_nothing(fleet: Fleet) -> None:
    """The same rules and queues as before; at full size: `python -m tests.system.fuzz --only cluster`."""
    tally = attack(fleet.programs["b"], fleet.broker.address, 300, 13, Progress())
    assert tally.wrong == []
    assert tally.refused >= tally.useless
    fleet.publish("outbox-b", recipient="after@example.com")
    until(lambda: bool(fleet.got("after@")))


def drill(folder: pathlib.Path, database: str, minute: float = 60.0) -> Iterator[str]:
    """What takes minutes: limits that are shared and given back, and a broker that is away; a line each."""
    fleet = Fleet(folder, database, smtp_default_ips="127.0.0.14")
    try:
        fleet.api("a").create("throttles", domain="rate.example", domain_messages=60)
        for queue in ("outbox-a", "outbox-b"):
            for number in range(400):
                fleet.publish(queue, recipient=f"{number}@rate.example")
        for who, seconds in (("three", minute), ("three", minute)):
            yield f"{who} instances share 60 a minute: {fleet.count(seconds)} in {seconds:.0f} s"
        fleet.programs["c"].kill()
        begin = time.monotonic()
        yield f"one is killed: {fleet.count(minute)} in {minute:.0f} s"
        until(lambda: "c" not in [row["id"] for row in fleet.api("a").get("/cluster")["instances"]], 150)
        yield f"it is found gone after {time.monotonic() - begin:.0f} s"
        yield f"its share is the others': {fleet.count(minute)} in {minute:.0f} s"
        fleet.broker.kill()
        took = until(lambda: all("cluster is not heard" in " ".join(fleet.faults(name)) for name in "ab"), 60)
        yield f"the broker is killed: both say so after {took:.1f} s"
        time.sleep(minute)
        ready = [fleet.api(name).client.get("/status").status_code for name in "ab"]
        fleet.broker.start()
        took = until(lambda: not any(fleet.faults(name) for name in "ab"), 120)
        yield f"a minute later (consoles answer {ready}) it is there again: all is well after {took:.1f} s"
    finally:
        fleet.close()


if __name__ == "__main__":
    for server in serve(Postgres, "initdb"):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            for line in drill(pathlib.Path(name), server.fresh()):
                print(line, flush=True)
