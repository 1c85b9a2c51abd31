"""Hostile words on the cluster's exchange, drawn from a seed: what somebody may say who can publish there, and lies.

    python -m tests.system.fuzz --only cluster

None of them changes a rule, runs something, moves mail or fills memory; what is of no use is refused and counted, and
what has the form of an announcement makes at most a name in a list that ends at 100. Good mail among them is delivered.
`cases` draws the words; `attack` has an instance hear them; `run` starts one for it.
"""

from __future__ import annotations

import json
import pathlib
import random
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from tests.support.amqp import Reconnecting, properties, reconnecting
from tests.support.api import TOKEN, Api
from tests.support.broker import shared
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.publisher import queue_message
from tests.system.fuzz_amqp import drawn_header
from tests.system.progress import Progress

PART = 250  # words that are published before the instance has heard them: the broker keeps 1,000
PATIENCE = 30.0  # seconds
GOOD = 500  # each so manieth word a good message is sent
TEXTS = (
    "<script>alert(1)</script>", "\x1b[2J\x1b]0;owned\x07", "../../etc/passwd", "a\r\nSet-Cookie: x=1", "\u202eb", "\0",
    "x" * 300, "{{7*7}}", "'; DROP TABLE pauses; --", "%0d%0aLocation:%20https://evil.example", "",
)  # fmt: skip
URLS = (
    "javascript:alert(1)", "JaVaScRiPt://x/%0aalert(1)", "data:text/html,<script>1</script>", "//evil.example",
    "https://good@evil.example", "https://evil.example/\\@good", "https://x/\nLocation: https://evil.example",
    "http://x/?to=https://evil.example", "ftp://evil.example", "https://", "https:/evil.example", " https://x",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = ("1", "NaN", -1, 10**400, 1.5, True, None, [], {}, "١")
ODD = (
    b"", b"null", b"[]", b'"hello"', b"0", b"NaN", b'{"hello": NaN}', b"\xff\xfe{\x00", b"[" * 50_000,
    b'{"a":' * 30_000,
    b'{"announce": {"id": "x", "token": "t", "load": NaN}}',
    b'{"announce": {"id": "x", "token": "t", "load": 1e999}}',
    b'{"hello": "true"}', b'{"reload": 1}', b'{"reload": "yes"}', b'{"goodbye": true}', b"x" * 70_000,
    b" " * 200_000,
    b'{"rules": [{"kind": "pauses"}]}', b'{"pause": {"domain": "*"}}', b'{"purge": "outbox"}', b'{"exec": ["sh"]}',
    b'{"handover": {"queue": "outbox", "body": "x"}}', b'{"config": {"www-password": ""}}', b"<hello/>", b"hello: true",
)  # fmt: skip


class Word(NamedTuple):
    """One word, as it is published; `useless`: it must be refused, and counted."""

    header: bytes
    body: bytes
    useless: bool


class ClusterTally(NamedTuple):
    """What became of them.

    Attributes:
        said, useless: words that the broker took, and how many of them were of no use.
        refused: that the instance has counted.
        wrong: what should not have happened, a line each.
        memory: resident bytes after a fifth, and in the end.
        tracebacks: in the program's log.
    """

    said: int
    useless: int
    refused: int
    wrong: list[str]
    memory: tuple[int, int]
    tracebacks: int


def cases(count: int, seed: int, known: dict[str, Any]) -> Iterator[Word]:
    """So many words; the same ones for the same seed. `known`: the instance's own announcement, as all may hear it."""
    chance = random.Random(seed)
    for number in range(count):
        header = drawn_header(chance) if chance.random() < 0.3 else properties()
        kind = chance.random()
        if kind < 0.3:
            yield Word(header, chance.choice(ODD), useless=True)
        elif kind < 0.6:
            yield Word(header, encoded(announce=_misshapen(chance, number)), useless=True)
        elif kind < 0.7:
            goodbye = {"id": known["id"], "token": chance.choice((known["token"], "guessed"))}
            yield Word(header, encoded(goodbye=goodbye), useless=True)
        elif kind < 0.75:
            yield Word(header, encoded(goodbye={"id": f"x{number}", "token": "t"}), useless=True)
        elif kind < 0.85:
            lie = {"id": f"lie{number}", "token": "t", "url": "https://evil.example", "outbox": "outbox"}
            yield Word(header, encoded(announce=lie), useless=False)
        elif kind < 0.9:
            lie = {**known, "token": "other", "url": "https://evil.example"}
            yield Word(header, encoded(announce=lie), useless=True)
        else:
            said = chance.choice(({"hello": True}, {"reload": True}, {"announce": known}))
            yield Word(header, encoded(**said), useless=False)


def encoded(**said: Any) -> bytes:
    """One word as JSON."""
    return json.dumps(said).encode(errors="surrogatepass")


def _misshapen(chance: random.Random, number: int) -> dict[str, Any]:
    """An announcement with one thing that none has."""
    text, odd = chance.choice(TEXTS[:-1]), chance.choice(NUMBERS[:5])
    wrong: dict[str, Any] = chance.choice(
        (
            {"id": chance.choice(TEXTS)}, {"token": chance.choice(TEXTS[:6])}, {"url": chance.choice(URLS)},
            {"ips": [text]}, {"ips": ["192.0.2.1"] * 1000}, {"ips": "192.0.2.1"}, {"workers": odd}, {"workers": 10**6},
            {"load": chance.choice(("1", "NaN", -1, 1e99))}, {"figures": {"delivered": odd}},
            {"figures": {text: 1}}, {"figures": {f"f{n}": n for n in range(50)}}, {"by_ip": {text: {}}},
            {"by_domain": {"x" * 256: {}}}, {"by_domain": {str(n): {} for n in range(101)}},
            {"state": chance.choice(TEXTS[1:2] + TEXTS[3:7])}, {"version": "\x1b[31m"}, {"outbox": "a\0b"},
            {"level": text}, {"clock": chance.choice(("now", -1, 1e300))},
        )
    )  # fmt: skip
    return {"id": f"m{number}", "token": "t", **wrong}


def attack(program: Program, address: str, count: int, seed: int, progress: Progress) -> ClusterTally:
    """Say it all to the exchange that an instance listens to, while mail flows; what came of it."""
    api = Api(program)
    before, rules = api.get("/cluster"), api.get("/rules/export")
    own = next(row for row in before["instances"] if row["own"])
    wrong: list[str] = []
    said = useless = early = 0
    with reconnecting(address) as publisher:
        known = _overheard(program, own["id"])
        for number, word in enumerate(cases(count, seed, known)):
            if not publisher.publish(b"", word.header, word.body, exchange=b"cluster"):
                said, useless = said + 1, useless + word.useless
            if number % PART == PART - 1:
                progress(f"said: {number} of {count}")
                if not _heard(api, before["refused"] + useless):
                    wrong.append(f"after {number} words fewer than {useless} were refused")
            if number == count // 5:
                early = program.resident()
            if number % GOOD == GOOD - 1:
                _publish_good(publisher, number)
        _heard(api, before["refused"] + useless)
    after = api.get("/cluster")
    wrong += list(_effects(api, rules, after, own))
    return ClusterTally(
        said, useless, after["refused"] - before["refused"], wrong, (early, program.resident()),
        program.output.count("Traceback"),
    )  # fmt: skip


def _effects(api: Api, rules: Any, after: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    """What should not be so."""
    now = api.get("/rules/export")
    if {**now, "exported": None} != {**rules, "exported": None}:
        yield "a rule has changed"
    if len(after["instances"]) > 101:
        yield f"{len(after['instances'])} instances are remembered"
    if not any(row["own"] and row["url"] == own["url"] for row in after["instances"]):
        yield "the instance itself is another one"
    for row in after["instances"]:
        if not row["own"] and not row["id"].startswith("lie") and row["url"] == "https://evil.example":
            yield f"{row['id']} has an address that it did not announce"
        if row["url"] and not row["url"].startswith(("http://", "https://")):
            yield f"an address of a console that is none: {row['url']!r}"


def _heard(api: Api, refused: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if api.get("/cluster")["refused"] >= refused:
            return True
        time.sleep(0.1)
    return False


def _overheard(program: Program, id: str) -> dict[str, Any]:
    """What the instance says of itself, its token with it."""
    import subprocess

    from tests.support.program import MAILRACE

    addresses = [f"--{key.replace('_', '-')}={program.options[key]}" for key in ("rabbitmq_address",)]
    done = subprocess.run([*MAILRACE, "cluster", "--format=json", *addresses], capture_output=True, check=True)
    return next(one for one in json.loads(done.stdout) if one["id"] == id)


def _publish_good(publisher: Reconnecting, number: int) -> None:
    publisher.publish(b"outbox", properties(), queue_message(number, size=200))


def run(folder: pathlib.Path, count: int, seed: int, progress: Progress | None = None) -> ClusterTally:
    """Go through them, with an instance and a broker of its own."""
    address = shared().fresh()
    with (
        Mailbox() as mailbox,
        Program(
            folder,
            rabbitmq_address=address,
            server_id="m",
            www_password="secret",
            api_token=TOKEN,
            delivery_sink=f"127.0.0.1:{mailbox.port}",
        ) as program,
    ):
        Api(program).create("throttles", domain="kept.example", domain_messages=60)
        tally = attack(program, address, count, seed, progress or Progress())
        end = time.monotonic() + PATIENCE
        while len(mailbox.accepted) < count // GOOD and time.monotonic() < end:
            time.sleep(0.1)
        if len(mailbox.accepted) < count // GOOD:
            tally.wrong.append(f"only {len(mailbox.accepted)} of {count // GOOD} good messages were delivered")
        tally.wrong.extend(_redirects(program))
        assert program.stop() == 0, program.output[-2000:]
        return tally


def _redirects(program: Program) -> Iterator[str]:
    """A link on another site that leads through the instance switch must not lead to where a stranger has said."""
    with httpx.Client(base_url=f"http://127.0.0.1:{program.www_port}") as client:
        client.post("/login", data={"password": "secret"}, headers={"Origin": str(client.base_url)})
        lies = [row["id"] for row in Api(program).get("/cluster")["instances"] if not row["own"]]
        for to in ("/", "//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
            for id in (*lies[:1], "nobody", "..", "%2e%2e", "m"):
                answer = client.get(f"/instances/{id}", params={"to": to}, headers={"Sec-Fetch-Site": "cross-site"})
                where = answer.headers.get("location", "/")
                if not where.startswith("/") or where.startswith(("//", "/\\")):
                    yield f"/instances/{id}?to={to} leads to {where}"
