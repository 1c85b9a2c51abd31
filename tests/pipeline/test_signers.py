"""The processes that sign, for real: the same signatures as here, keys, processes that end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from operators.deliveries.events import Event, Fault
from operators.mail.dkim import Key, signatures
from operators.mail.signing_keys import load
from pipeline.process.children import ROOT, ChildKind
from pipeline.process.ring import ROOM, Inlet, Outlet
from pipeline.process.supervisor import supervisor
from pipeline.queues.embedded.segments import StoredContent
from pipeline.signing import pool as module
from pipeline.signing.pool import Signers, Unsigned
from pipeline.signing.worker import LENGTH, Signed, SigningJob, serve
from tests.support import keys
from tests.support.halted import halt
from tests.support.waiting import comes

pytestmark = pytest.mark.slow

NOW = 1_700_000_000.0
RSA = [load(pem) for pem in (keys.RSA, keys.OTHER, keys.THIRD)]
ED25519 = load(keys.ED25519)
SOURCE = b"From: a@example.com\r\nSubject: caf\xc3\xa9\r\n\r\nbody \r\n\r\n"


def key(number: int = 0, **more: object) -> Key:
    return Key("example.com", f"s{number}", RSA[number], **more)  # type: ignore[arg-type]


class Office:
    """Signers, and what they say."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.signers = Signers(self.events.append, lambda: NOW)

    def ask(self, source: bytes, *keys: Key) -> asyncio.Future[bytes | Exception]:
        answer: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
        self.signers.sign(source, None, keys, NOW, answer.set_result)
        return answer

    @staticmethod
    def processes() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if "pipeline.signing.worker" in child.cmdline()]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    yield office
    await office.signers.close()
    assert not office.processes()


def here(source: bytes, *keys: Key) -> bytes:
    return signatures(source, keys, NOW)


async def test_it_signs_as_we_would_here(office: Office) -> None:
    """Byte for byte: RSA with PKCS #1 v1.5 (RFC 8301) and Ed25519 are deterministic."""
    full = key(1, headers=frozenset({b"x-id"}), canonicalization="simple/relaxed")
    ed25519 = Key("example.com", "ed", ED25519)
    assert await office.ask(SOURCE, key(), full, ed25519) == here(SOURCE, key(), full, ed25519)


async def test_a_content_that_is_apart_is_signed_where_it_lies(office: Office, tmp_path: Path) -> None:
    """Only the header goes to the process, which reads the rest; what is gone cannot be signed."""
    content = b"body \r\n" * 50_000
    (tmp_path / "segment").write_bytes(b"other" + content + b"other")
    head = SOURCE[: SOURCE.index(b"\r\n\r\n") + 4]
    for name, expected in (("segment", here(head + content, key())), ("gone", None)):
        stored = StoredContent(str(tmp_path / name), 1, 5, len(content), ascii=True, dots=False)
        answer: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
        office.signers.sign(head, stored, [key()], NOW, answer.set_result)
        said = await answer
        assert said == expected or (expected is None and isinstance(said, Unsigned))


async def test_each_gets_its_own_signature(office: Office) -> None:
    """However many are asked for at once, short and long."""
    mails = [b"From: a@example.com\r\n\r\n" + bytes([65 + number % 26]) * number**3 for number in range(60)]
    answers = await asyncio.gather(*(office.ask(mail, key(number % 3)) for number, mail in enumerate(mails)))
    assert answers == [here(mail, key(number % 3)) for number, mail in enumerate(mails)]


async def test_more_than_the_ring_holds_waits_for_room(office: Office) -> None:
    """One message that is larger, and many that are so together."""
    mails = [
        b"From: a@example.com\r\n\r\n" + bytes([65 + number]) * size
        for number, size in enumerate((10, 3 * ROOM, 10, *[ROOM // 4] * 20))
    ]
    answers = await asyncio.gather(*(office.ask(mail, key()) for mail in mails))
    assert answers == [here(mail, key()) for mail in mails]


async def test_what_waits_for_room_is_signed_before_the_end(office: Office) -> None:
    """All that was asked for."""
    mail = b"From: a@example.com\r\n\r\n" + b"x" * 3 * ROOM
    before = [office.ask(mail, key()) for _ in range(3)]
    await office.signers.close()
    assert await asyncio.gather(*before) == [here(mail, key())] * 3


async def test_a_forgotten_key_is_told_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process keeps so many, the last ones used."""
    monkeypatch.setattr(module, "KEYS", 2)
    for number in (0, 1, 0, 2, 1, 0):
        assert await office.ask(SOURCE, key(number)) == here(SOURCE, key(number))


async def test_nothing_starts_before_there_is_something_to_sign(office: Office) -> None:
    """Who signs nothing has no process for it."""
    assert not office.processes()
    await office.ask(SOURCE, key())
    assert len(office.processes()) == office.signers.processes == 1


async def test_a_further_process_starts_where_the_first_has_much_to_do(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than there are cores for."""
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "AGAIN", 0.0)
    mails = [office.ask(SOURCE, key()) for _ in range(100)]
    assert set(await asyncio.gather(*mails)) == {here(SOURCE, key())}
    assert len(office.processes()) == 2


async def test_what_a_dead_process_had_is_answered_and_another_starts(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for ever, and it is said."""
    monkeypatch.setattr(module, "AGAIN", 0.0)
    await office.ask(SOURCE, key())
    (process,) = office.processes()
    halt(process)
    lost = office.ask(SOURCE, key())
    process.kill()
    assert isinstance(await lost, Unsigned)
    assert next(event for event in office.events if isinstance(event, Fault)).detail == "has ended with -9"
    assert await office.ask(SOURCE, key()) == here(SOURCE, key())


async def test_it_does_not_start_again_at_once(office: Office) -> None:
    """A process that cannot live costs a start a second, not one a message."""
    await office.ask(SOURCE, key())
    for process in office.processes():
        process.kill()
        process.wait(10)
    await comes(lambda: not office.signers.processes)
    assert isinstance(await office.ask(SOURCE, key()), Unsigned)


async def test_one_that_cannot_live_is_a_fault_that_stands(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """K5, K11: why it ended is said; each that signs nothing makes the pause before the next one longer."""
    monkeypatch.setattr(module, "SIGNER", ChildKind("signer", "no.such.module", outlives=True))
    monkeypatch.setattr(module, "AGAIN", 0.0)
    for _ in range(2):
        assert isinstance(await office.ask(SOURCE, key()), Unsigned)
    assert "ModuleNotFoundError: No module named 'no'" in supervisor().faults[0]
    assert supervisor().grave and supervisor().errors == {"signer": 2}


async def test_one_that_does_not_end_is_killed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """K11: a process that gets no processor does not hold up the end; what it had is answered."""
    monkeypatch.setattr(module, "LINGER", 0.05)
    await office.ask(SOURCE, key())
    halt(office.processes()[0])
    lost = office.ask(SOURCE, key())
    await office.signers.close()
    assert isinstance(await lost, Unsigned)


async def test_an_interrupt_is_not_for_it(office: Office) -> None:
    """Ctrl-C and SIGTERM to all: the program ends in order, and needs its signatures till then."""
    await office.ask(SOURCE, key())
    for number in (signal.SIGINT, signal.SIGTERM):
        office.processes()[0].send_signal(number)
    assert await office.ask(SOURCE, key()) == here(SOURCE, key())


async def test_after_the_end_nothing_is_signed(office: Office) -> None:
    """And what was asked before is."""
    before = office.ask(SOURCE, key())
    await office.signers.close()
    assert await before == here(SOURCE, key())
    assert isinstance(await office.ask(SOURCE, key()), Unsigned)


def answers(orders: Sequence[object]) -> list[Signed]:
    """What the program answers to these."""
    bodies = [msgspec.msgpack.encode(order) for order in orders]
    reads, writes = os.pipe()
    ring = Inlet()
    ring.put(b"".join(len(body).to_bytes(LENGTH, "big") + body for body in bodies))
    ring.end()
    serve(Outlet(*ring.files), writes)
    ring.discard()
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        found = []
        while head := file.read(LENGTH):
            found.append(msgspec.msgpack.decode(file.read(int.from_bytes(head, "big")), type=Signed))
        return found


def test_a_job_that_fails_is_answered_and_the_next_is_done() -> None:
    """By the exception's name: its text may quote what nobody should see."""
    first, second = answers([SigningJob(1, [7], NOW, SOURCE), SigningJob(2, [], NOW, SOURCE)])
    assert (first.id, first.error) == (1, "KeyError")
    assert second == Signed(2, b"")


def test_it_imports_little() -> None:
    """So that it starts in 0.1 s and takes 22 MB: the rules alone take 2 s and 50 MB more."""
    code = (
        "import sys, pipeline.signing.worker; print(*{'settings', 'pydantic', 'reactivex', 'asyncio'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True).stdout == b"\n"
