"""Every row of the tables of messages on the queues, published and read by an AMQP client that is not Python.

All rows go out in one run, over a RabbitMQ node, the whole program and two receivers, the second one with TLS; plain
and gzip in turn. They run once for all workers of pytest-xdist. What is elsewhere: bodies that cannot be used in
`tests/test_bad_input.py`, `priority` where the queue has priorities in `tests/pipeline/queues/test_rabbitmq.py`,
`dns/error` in `tests/operators/test_routes.py`, each `state` and `result` of the dialogue in
`tests/pipeline/smtp/test_answers.py`.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import pathlib
import re
import ssl
import time
from collections import Counter, defaultdict
from typing import Any

import pytest
import trustme

from pipeline.queues.rabbitmq.delays import STEPS
from tests.support import node
from tests.support.broker import MISSING, installed, shared
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.publisher import depth
from tests.support.receiver import CLOSE, Receiver
from tests.support.rows import MIME, PLAIN_PORT, ROWS, SECURE_PORT, Absent, Row, is_like, seconds_from

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING)]

NO_MESSAGE = '["a@b.example"]'
NOTICE = "noted"  # local part that a notification goes to
PATIENCE = 60.0  # seconds for all rows to come to their ends
ANSWERS = {
    "refuse": "550 5.1.1 no such user", "defer": "451 4.2.0 not now", "hang up": CLOSE, "babble": "well, well",
}  # fmt: skip
Run = dict[str, Any]


class Choosy(Receiver):
    """A receiver whose answer to RCPT is named by the recipient."""

    def next(self, verb: str) -> Any:
        recipient = self.commands[-1][1] if self.commands else ""
        if verb != "RCPT":
            return super().next(verb)
        if ".once@" in recipient and [line for _, line in self.commands].count(recipient) == 1:
            return ANSWERS["defer"]
        named = (text for answer, text in ANSWERS.items() if f".{answer.replace(' ', '-')}@" in recipient)
        return next(named, super().next(verb))


def recipient_of(number: int) -> str:
    return f"row{number}.{ROWS[number].answer.replace(' ', '-')}@[127.0.0.1]"


def message_of(number: int, ports: dict[str, int]) -> dict[str, Any]:
    """A row's message, with its number as a custom property."""
    usual = {"recipient": recipient_of(number), "envelope": "me@sender.example", "mime": MIME, "row": number}
    message = {name: value for name, value in {**usual, **ROWS[number].message}.items() if value is not None}
    if (host := message.get("smarthost")) is not None:
        message["smarthost"] = {**host, "port": ports.get(host["port"], 1)}
    return message


def depths(address: str) -> dict[str, int]:
    """Messages by queue, of those that may be there."""
    names = {"outbox", *expected(), *(f"outbox.delay.{ttl}" for ttl in STEPS)} - {"waiting"}
    return asyncio.run(depth(address, *names))


def expected() -> Counter[str]:
    """Copies by queue, once everything has come to its end."""
    return Counter(refused=1) + Counter(queue for row in ROWS for queue in row.queues)


def ended(address: str) -> dict[str, int]:
    """Wait until each queue has what it should; returns the depths, whatever they are then."""
    end = time.monotonic() + PATIENCE
    while True:
        found = depths(address)
        waiting = sum(count for name, count in found.items() if name.startswith("outbox.delay."))
        if expected() - Counter({**found, "waiting": waiting}) == Counter() and not found["outbox"]:
            return found
        if time.monotonic() > end:
            return found
        time.sleep(0.1)


def carry_out(folder: pathlib.Path) -> Run:
    """Send all rows; returns the copies by queue, and what the receivers were told."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    plain = Choosy({"greeting": "220 plain.example ESMTP"})
    secure = Choosy({"greeting": "220 secure.example ESMTP"}, ("AUTH PLAIN", "8BITMIME"), tls=tls)
    address = shared().fresh()
    with Loop() as loop:
        for receiver in (plain, secure):
            loop.run(receiver.__aenter__())
        options = {"rabbitmq_address": address, "rabbitmq_refused": "refused", "delivery_port": plain.port}
        with Program(folder, dkim_check_dns="false", **options) as program:
            ports = {PLAIN_PORT: plain.port, SECURE_PORT: secure.port}
            messages = [{"body": message_of(number, ports), "gzip": bool(number % 2)} for number in range(len(ROWS))]
            node.publish(address, "outbox", [*messages, {"body": NO_MESSAGE, "gzip": True}])
            ended(address)
            assert program.stop() == 0, program.output[-3000:]
        came = node.read(address, {name: count for name, count in depths(address).items() if count})
        for receiver in (plain, secure):
            loop.run(receiver.__aexit__())
    mails = [
        {"mail": mail.mail, "rcpt": mail.rcpt, "data": mail.data.decode(), "peer": receiver.peers[mail.connection - 1]}
        for receiver in (plain, secure)
        for mail in receiver.messages
    ]
    commands = [line for receiver in (plain, secure) for _, line in receiver.commands]
    return {"queues": came, "mails": mails, "commands": commands, "log": log_of(folder)}


def log_of(folder: pathlib.Path) -> list[dict[str, Any]]:
    lines = (folder / "var" / "logs" / "send.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What came of all rows; whoever comes first sends them."""
    try:
        node.modules()
    except node.Missing as missing:
        pytest.skip(str(missing))
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):
        shared = shared.parent
    file = shared / "rows.json"
    with (shared / "rows.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            file.write_text(json.dumps(carry_out(tmp_path_factory.mktemp("rows"))))
        found: Run = json.loads(file.read_text())
    return found


def copies_of(run: Run, number: int) -> dict[str, list[dict[str, Any]]]:
    """A row's copies by queue; what waits for a time is in `waiting`."""
    copies = defaultdict(list)
    for queue, messages in run["queues"].items():
        for message in messages:
            if message["body"].get("row") == number:
                copies["waiting" if queue.startswith("outbox") else queue].append(message["body"])
    return copies


def mail_of(run: Run, number: int) -> dict[str, str]:
    [mail] = [mail for mail in run["mails"] if f"<{recipient_of(number)}>" in mail["rcpt"]]
    return dict(mail)


def check(found: dict[str, Any], wanted: Any) -> None:
    """Each property that is wanted is there as it is wanted, or absent."""
    for name, value in wanted.items():
        assert (name not in found) if value is Absent else is_like(found.get(name), value), (name, found)


def check_mail(row: Row, number: int, run: Run) -> None:
    """What the receiver was told, once."""
    mail = mail_of(run, number)
    address = re.escape(recipient_of(number))
    for name in ("mail", "rcpt", "data", "peer"):
        wanted = getattr(row, name).replace("{recipient}", address)
        assert re.match(wanted, mail[name], re.MULTILINE | re.DOTALL), mail[name]


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row.name for row in ROWS])
def test_a_row_of_the_tables(number: int, run: Run) -> None:
    """It goes where its outcome says, its custom properties with it, and the receiver gets what it asks for."""
    row, copies = ROWS[number], copies_of(run, number)
    if "own.dsn" in row.queues:
        assert len(run["queues"]["own.dsn"]) == 1
    counts = Counter({queue: len(bodies) for queue, bodies in copies.items()})
    assert counts == Counter(queue for queue in row.queues if queue != "own.dsn")
    first = copies[row.queues[0]][-1]
    check(first, row.copy)
    if row.entry or row.lacks:
        entry = first["results"][-1]
        check(entry, row.entry)
        assert not set(row.lacks) & entry.keys()
    if "success" in row.queues or "own.success" in row.queues:
        check_mail(row, number, run)


def body_of(run: Run, name: str, queue: str) -> dict[str, Any]:
    [number] = [number for number, row in enumerate(ROWS) if row.name == name]
    return copies_of(run, number)[queue][-1]


def test_the_client_reads_what_amqp_says_of_a_copy(run: Run) -> None:
    """Persistent JSON, and gzip only where that is configured."""
    properties = run["queues"]["results"][0]["properties"]
    assert (properties["contentType"], properties["deliveryMode"]) == ("application/json", 2)
    assert properties.get("contentEncoding") is None


def test_a_retry_waits_for_the_configured_time_and_has_its_deadline(run: Run) -> None:
    """retry-interval, up to 5 % later; max-delivertime after it came."""
    body = body_of(run, "retries: default", "waiting")
    tried = body["results"][-1]["time"]
    assert 600 <= seconds_from(tried, body["nextattempt"]["time"]) <= 632
    assert 86_370 <= seconds_from(tried, body["maxdelivertime"]) <= 86_401
    assert body["mime"] == MIME


def test_every_attempt_adds_its_entry(run: Run) -> None:
    """In order; the last one is in the failure."""
    copies = body_of(run, "retries", "failure")["results"]
    assert [entry["code"] for entry in copies] == [451, 451, 451]
    assert [entry["time"] for entry in copies] == sorted(entry["time"] for entry in copies)


def test_a_notification_goes_to_the_envelope_where_it_is_asked_for(run: Run) -> None:
    """From the null sender, over the outbox; with `queues.dsn` to that queue instead, and nobody else is told."""
    [notice] = [mail for mail in run["mails"] if f"<{NOTICE}@" in mail["rcpt"]]
    assert notice["mail"].startswith("MAIL FROM:<>")
    assert "Content-Type: message/delivery-status" in notice["data"]
    [own] = run["queues"]["own.dsn"]
    assert (own["body"]["recipient"], own["body"]["envelope"]) == ("me@sender.example", "")
    assert not [line for line in run["commands"] if line.startswith("RCPT TO:<me@sender.example>")]


def test_the_smarthost_is_given_the_name_and_password(run: Run) -> None:
    """RFC 4616."""
    assert "AUTH PLAIN " + base64.b64encode(b"\0joe\0secret").decode() in run["commands"]


def test_a_body_that_is_no_message_is_in_the_refused_queue(run: Run) -> None:
    """Where one is set; as it was before compression."""
    [refused] = run["queues"]["refused"]
    body = base64.b64encode(NO_MESSAGE.encode()).decode()
    assert refused["body"] == {"error": "body: not a JSON object but list", "body": body}


def test_tags_are_in_the_log(run: Run) -> None:
    """For the console, pauses and queries."""
    [number] = [number for number, row in enumerate(ROWS) if row.name == "tags"]
    assert [line["tags"] for line in run["log"] if line["recipient"] == recipient_of(number)] == [["a", "b"]]


def test_every_documented_property_is_here() -> None:
    """Each property of the documents' table names a row of OUTGOING or of RESULTS."""
    text = (pathlib.Path(__file__).parent.parent.parent / "docs" / "messages.md").read_text()
    table = text.partition("## Messages on the queues")[2].partition("\nWith the embedded queue")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.count("|") > 2]
    last = [line.split("|")[3] for line in table.splitlines() if line.startswith("| `results`")]
    named = {name for cell in (*first, *last) for name in re.findall(r"`([a-z-]+)`", cell)}
    tested = {word for row in ROWS for word in re.findall(r"[a-z-]+", row.name)}
    assert named - tested == {"mime-encoding"}  # `tests/test_bad_input.py`, and the intake's tests
