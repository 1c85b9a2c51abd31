"""5,000 signed mails of odd shapes, as they look on the wire, verified by dkimpy and by libopendkim.

The keys are published by a real name server on loopback, and both verifiers take them from there.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator

import dkim
import dns.resolver
import pytest

from operators.mail.dkim import Key, signatures
from operators.mail.signing_keys import CANONICALIZATIONS, load
from operators.mail.signing_keys import record as record_of
from operators.mail.wire import chunks, normalise
from pipeline.demo.nameserver import NameServer
from settings.rules import key_pairs as keys
from tests.support.loop import Loop
from tests.support.opendkim import OpenDkim

pytestmark = pytest.mark.system  # libopendkim is a real peer, and comes from Debian

MAILS, PARTS = 5000, 10
PIECES = (
    b"word",
    b" ",
    b"  ",
    b"\t",
    b" \t ",
    b".",
    b"..",
    b"\xc3\xbc",
    b"=",
    b";",
    b"From ",
    b"x" * 200,
    b"\xff\xfe",
    b"-- ",
)
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" \r\n", b"\t\r\n")
NAMES = (b"Subject", b"To", b"Date", b"X-Extra", b"x-extra", b"Received", b"Reply-To", b"CC", b"List-Unsubscribe")


class Published:
    """Keys in DNS: one of each kind for each canonicalization."""

    def __init__(self, server: NameServer) -> None:
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers, self._resolver.port = [server.address], server.port
        self.keys: list[Key] = []
        for number, form in enumerate(CANONICALIZATIONS):
            for kind in ("rsa", "ed25519"):
                private = load(keys.generate(kind))  # type: ignore[arg-type]
                headers = frozenset([b"x-extra", b"received"])
                self.keys.append(Key("example.com", f"{kind}-{number}", private, headers, form))
                record = record_of(self.keys[-1])
                server.add(self.keys[-1].name, "TXT", f'"{record[:200]}" "{record[200:]}"')

    @functools.cache  # noqa: B019  # one question for each key is enough
    def record(self, name: str) -> bytes | None:
        """What the name server has."""
        answer = self._resolver.resolve(name.rstrip("."), "TXT")
        return b"".join(answer[0].strings)


@pytest.fixture(scope="module")
def published() -> Iterator[Published]:
    with Loop() as loop:
        server = NameServer()
        loop.run(server.start())
        yield Published(server)
        loop.run(server.stop())


def text(chance: random.Random, most: int) -> bytes:
    return b"".join(chance.choices(PIECES, k=chance.randrange(most)))


def field(chance: random.Random, name: bytes) -> bytes:
    """A header field: folded here and there, with spaces where they may be, or empty."""
    value = chance.choice((b" ", b"", b"\t ", b"  ")) + text(chance, 8)
    for _ in range(chance.randrange(3)):
        value += chance.choice((b"\r\n ", b"\r\n\t", b" \r\n  ")) + b"x" + text(chance, 4)
    return name + b":" + value + b"\r\n"


def mail(chance: random.Random) -> bytes:
    """A message that a queue could bring: with or without From, body, line ends, and what belongs in it."""
    fields = [field(chance, chance.choice(NAMES)) for _ in range(chance.randrange(8))]
    senders = chance.choices((0, 1, 2), (1, 8, 1))[0]
    fields += [chance.choice((b"From: a@example.com\r\n", b"FROM:  A  B\r\n <a@example.com> \r\n"))] * senders
    chance.shuffle(fields)
    lines = [text(chance, 6) + chance.choice(ENDS) for _ in range(chance.choice((0, 1, 3, 30)))]
    end = chance.choice((b"", b"\r\n\r\n\r\n", b"no end", b" ", b"\t\r\n \r\n"))
    return normalise(b"".join(fields) + b"\r\n" + b"".join(lines) + end)


def on_the_wire(source: bytes) -> bytes:
    """What a receiver finds: dots were doubled, and are single again."""
    lines = b"".join(chunks(source, 1000)).split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def by_dkimpy(record: Callable[[str], bytes | None], source: bytes, count: int) -> list[bool]:
    """Whether each signature holds, the first in the message first."""
    message = dkim.DKIM(source)
    try:
        return [
            message.verify(idx=index, dnsfunc=lambda name, timeout: record(name.decode())) for index in range(count)
        ]
    except dkim.ValidationError:
        return [False] * count


@pytest.mark.parametrize("part", range(PARTS))
def test_odd_mails_verify(published: Published, part: int) -> None:
    """Each with one to three keys, of both kinds, in all four canonicalizations."""
    verifier, chance = OpenDkim(published.record), random.Random(part)
    for number in range(MAILS // PARTS):
        source, signing = mail(chance), chance.sample(published.keys, chance.choice((1, 1, 2, 3)))
        sent = on_the_wire(signatures(source, signing, time.time()) + source)
        without_from = (
            b"\nfrom:" not in sent.partition(b"\r\n\r\n")[0].lower()
        )  # libopendkim will not look at such mail
        wanted = [] if without_from else [f"{key.selector}: ok" for key in signing]
        assert verifier.verify(sent) == wanted, (number, sent)
        assert by_dkimpy(published.record, sent, len(signing)) == [True] * len(signing), (number, sent)


def test_the_verifiers_see_a_change(published: Published) -> None:
    """A verifier that says yes to all would make the test above worthless."""
    source = b"From: a@example.com\r\nX-Extra: 1\r\n\r\nbody\r\n"
    key = published.keys[0]
    sent = signatures(source, [key], time.time()) + source
    assert OpenDkim(published.record).verify(sent) == [f"{key.selector}: ok"]
    for old, new in ((b"body", b"bode"), (b"X-Extra: 1", b"X-Extra: 2"), (b"a@", b"b@")):
        changed = sent.replace(old, new)
        assert OpenDkim(published.record).verify(changed) != [f"{key.selector}: ok"]
        assert by_dkimpy(published.record, changed, 1) == [False]
