"""The messages of the corpus in tests/data/mailerq, over a real RabbitMQ, in one run of the program."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import aiormq
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pamqp import commands

from tests.support import broker
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.publisher import drain
from tests.support.receiver import Receiver

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not broker.installed(), reason=broker.MISSING),
    pytest.mark.xdist_group("mailerq"),
]
FOLDER = pathlib.Path(__file__).parent.parent / "data" / "mailerq"
QUEUES = ("results", "success", "failure", "retry", "refused", "name-of-results-queue", "name-of-success-queue")
GIVEN_UP = {  # what cannot be done is given up, with the state of the step that it needed
    "m05-mime-attachment-url": ("responsive", "error"),
    "m06-key-without-mime": ("storage", "error"),
    "m07-no-mime": ("process", "invalid"),
    "m12-ips-unbound": ("bind", "error"),
    "m13-ips-empty": ("bind", "error"),
    "m15-pool": ("bind", "error"),
    "m18-maxdelivertime-past": ("process", "timeout"),
}
OTHERS = {  # without a result, with TLS that the receiver has not, or as it is no JSON
    "m31-queues-null", "m32-smarthost", "m33-smarthost-string-port", "m40-security-required",
    "m41-security-verified", "m61-raw-trailing-comma",
}  # fmt: skip
NAMES = [path.stem for path in sorted(FOLDER.glob("m*.json"))]
Seen = tuple[dict[str, list[dict[str, Any]]], Receiver, Receiver, dict[str, Any]]


def numbered(value: Any, port: int, key: str) -> Any:
    """A body with its placeholders filled in."""
    if isinstance(value, dict):
        return {name: numbered(one, port, key) for name, one in value.items()}
    if isinstance(value, list):
        return [numbered(one, port, key) for one in value]
    return {"SMART": port, "DKIM_KEY_PEM": key}.get(value, value) if isinstance(value, str) else value


def body_of(name: str, port: int, key: str) -> tuple[bytes, bool]:
    """(what is published, whether it is compressed); each message has a recipient of its own."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    if isinstance(stored["body"], str):
        return stored["body"].encode(), False
    body = numbered(stored["body"], port, key) | {"recipient": f"{name}@a.example"}
    if body.get("mime") == "...":
        body["mime"] = "Subject: x\r\n\r\nx\r\n"
    if isinstance(body.get("smarthost"), dict):
        body["security"] = "off"  # a password in clear, on loopback
        if "string" in name:
            body["smarthost"]["port"] = str(port)
    octets = json.dumps(body).encode()
    return (gzip.compress(octets), True) if stored["gzip"] else (octets, False)


async def publish(address: str, bodies: list[tuple[bytes, bool]]) -> None:
    """All of them, to the outbox."""
    connection = await aiormq.connect(address)
    channel = await connection.channel()
    for body, zipped in bodies:
        properties = commands.Basic.Properties(content_encoding="gzip" if zipped else None)
        await channel.basic_publish(body, routing_key="outbox", properties=properties)
    await connection.close()


def recipient(result: dict[str, Any]) -> str:
    """The name of the message that a result is of."""
    return str(result.get("recipient", "")).partition("@")[0]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """What came of the corpus: the results in each queue, the receiver, the smarthost, and the last results by name."""
    folder = tmp_path_factory.mktemp("mailerq")
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with contextlib.ExitStack() as stack:
        address, loop = broker.shared().fresh(), stack.enter_context(Loop())
        world, smart = (
            Receiver(),
            Receiver(extensions=("AUTH PLAIN LOGIN", "8BITMIME"), script={"AUTH": "235 2.7.0 Ok"}),
        )
        for receiver in (world, smart):
            loop.run(receiver.__aenter__())
        options = {"rabbitmq_address": address, "rabbitmq_refused": "refused", "dkim_check_dns": "false"}
        # the mail's domain is the world by a rule of DNS that needs none: its smarthost in the configuration
        options |= {"smarthost": "127.0.0.1", "smarthost_port": world.port}
        stack.enter_context(Program(folder, **options))
        for queue in ("name-of-results-queue", "name-of-success-queue"):
            asyncio.run(declare(address, queue))
        asyncio.run(publish(address, [body_of(name, smart.port, pem.decode()) for name in NAMES]))
        found: dict[str, list[dict[str, Any]]] = {queue: [] for queue in QUEUES}
        results: dict[str, Any] = {}
        end = time.monotonic() + 90
        while time.monotonic() < end and (len(results) < len(NAMES) - 2 or not found["refused"]):
            for queue in QUEUES:
                with contextlib.suppress(aiormq.exceptions.ChannelNotFoundEntity):
                    found[queue] += [json.loads(one) for one in asyncio.run(drain(address, queue))]
            results = {
                recipient(one): one["results"][-1] for many in found.values() for one in many if "results" in one
            }
            time.sleep(0.2)
        yield found, world, smart, results


async def declare(address: str, queue: str) -> None:
    """A queue that a message names."""
    connection = await aiormq.connect(address)
    await (await connection.channel()).queue_declare(queue, durable=True)
    await connection.close()


def mail(receiver: Receiver, name: str) -> list[bytes]:
    """What a receiver got of a message."""
    return [one.data for one in list(receiver.messages) if f"<{name}@" in one.rcpt]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GIVEN_UP and name not in OTHERS])
def test_a_message_of_the_corpus_is_delivered(seen: Seen, name: str) -> None:
    """K8. With its text, and a result that says so."""
    _, world, _, results = seen
    assert (results[name]["state"], results[name]["result"]) == ("message", "accepted"), results[name]
    assert len(mail(world, name)) == 1


@pytest.mark.parametrize(("name", "what"), GIVEN_UP.items())
def test_what_is_not_done_is_given_up_and_never_sent(seen: Seen, name: str, what: tuple[str, str]) -> None:
    """K8. No empty mail, no placeholder, no other address: a failure with its state, in results and failure."""
    found, world, smart, results = seen
    assert (results[name]["state"], results[name]["result"]) == what, results[name]
    assert [queue for queue in QUEUES if name in map(recipient, found[queue])] == ["results", "failure"]
    assert mail(world, name) == mail(smart, name) == []


@pytest.mark.parametrize("name", ["m32-smarthost", "m33-smarthost-string-port"])
def test_a_message_goes_to_its_own_smarthost(seen: Seen, name: str) -> None:
    """K8. Logged in, also where its port is a text, and not to the configured one."""
    _, world, smart, results = seen
    assert results[name]["result"] == "accepted"
    assert len(mail(smart, name)) == 1 and mail(world, name) == []
    assert any(line.startswith("AUTH") for _, line in smart.commands)


def test_results_go_where_the_message_says(seen: Seen) -> None:
    """K8. A name overrides, null turns off; what is no JSON is refused."""
    found, world, _, results = seen
    queues = [queue for queue in QUEUES if "m30-queues" in map(recipient, found[queue])]
    assert queues == ["name-of-results-queue", "name-of-success-queue"]
    assert len(mail(world, "m31-queues-null")) == 1 and "m31-queues-null" not in results
    assert len(found["refused"]) == 1


def test_headers_are_changed_as_asked(seen: Seen) -> None:
    """K8. `add` is `append`; `content` as a text is the HTML version."""
    _, world, _, _ = seen
    assert b"x-added: 1\r\n" in mail(world, "m35-headers-add")[0].lower()
    assert b"<html><body>x</body></html>" in mail(world, "m55-responsive-html-content")[0]


def test_mail_is_made_personal(seen: Seen) -> None:
    """Variables are replaced in From, To, subject and text; style sheets become attributes."""
    _, world, _, _ = seen
    assert b"Subject: Message from Emiel\r\n" in mail(world, "m10-data")[0]
    letter = mail(world, "m53-personalization")[0]
    assert b"From: The team <info@example.org>\r\n" in letter and b"To: John Doe <m53-" in letter
    assert b"Subject: Hello John Doe!\r\n" in letter and b"Hi John Doe, your age is 33." in letter
    for name, count in (("m26-dkim-arc", 2), ("m21-dkim", 0)):
        sealed = mail(world, name)[0]
        assert (sealed.count(b"ARC-Seal:"), sealed.count(b"DKIM-Signature:")) == (count, 1)
    assert b"; r=y" in mail(world, "m25-dkim-report")[0]
    blocks = mail(world, "m04-mime-content-blocks")[0]
    assert (b"<p>x</p>" in blocks and b'href=3D"http://127.0.0.1/"' in blocks) or b'href="http://127.0.0.1/"' in blocks
    assert b"style=" in mail(world, "m20-inlinecss")[0] and b"<style" not in mail(world, "m20-inlinecss")[0]
