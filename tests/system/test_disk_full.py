"""The disk is full: mail goes on or intake says 452, by what can still be kept; it is said, and nothing is lost.

Each scenario runs as a program of its own, in a mount namespace with a small disk: see `tests.support.disk`.
`python -m tests.system.test_disk_full queue FOLDER --megabytes 500` is a larger size, for who may mount.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import pathlib
import smtplib
from collections.abc import Iterator

import httpx
import pytest

from tests.support.api import TOKEN, Api
from tests.support.disk import mount, run
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.source import Source
from tests.support.waiting import until

NO_ROOM = "452 4.3.1 Insufficient system storage"
SIZE = 16_000  # bytes of a mail


@pytest.mark.system
@pytest.mark.timeout(240)
def test_intake_says_452_on_a_full_disk_and_all_that_was_answered_250_arrives(tmp_path: pathlib.Path) -> None:
    """Filled by our own queue, then by others to the last byte: what is queued is tried, killed, and delivered."""
    print(run("tests.system.test_disk_full", "queue", tmp_path))


@pytest.mark.system
@pytest.mark.timeout(240)
def test_mail_goes_on_when_only_the_log_has_no_room(tmp_path: pathlib.Path) -> None:
    """On a disk of its own: the lines that are lost are counted and said; it is written again when there is room."""
    print(run("tests.system.test_disk_full", "log", tmp_path))


def queue(folder: pathlib.Path, megabytes: int) -> None:
    """The queue's disk is full."""
    disk = mount(folder / "var", megabytes)
    with Mailbox() as mailbox, started(folder, mailbox, retry_interval=1) as program:
        mailbox.defers = True
        filled = inject_until_refused(program)
        assert set(filled.refusals) == {NO_ROOM}
        said_everywhere(program, full=True)
        occupy(disk)
        after = mailbox.deferred
        until(lambda: mailbox.deferred > after + len(filled.confirmed), "attempts on a full disk")
        program.kill()
        occupy(disk)
        program.start()
        size = (disk / "queue.db").stat().st_size
        mailbox.defers = False
        wanted = {str(number) for number in filled.confirmed}
        until(lambda: wanted <= mailbox.accepted.keys(), "all that was answered 250")
        until(lambda: (disk / "queue.db").stat().st_size < size / 4, "the queue gives its room back to the disk")
        (disk / "others").unlink()
        until(lambda: not Api(program).get("/status")["faults"], "all is well again")
        said_everywhere(program, full=False)
        again = Source(program.smtp_port, 200, first=1_000_000)
        asyncio.run(again.run())
        assert len(again.confirmed) == 200
        assert program.stop() == 0
    lines = [line for line in program.output.splitlines() if "warning" in line or "error" in line]
    assert 2 <= sum("is full" in line for line in lines) <= 6, lines  # in each of its two lives
    assert any("has room again" in line for line in lines), lines
    assert len(lines) <= 30, lines  # of thousands of attempts
    print("\n".join(lines))
    print(f"answered 250: {len(filled.confirmed)}, lost 0, put off {mailbox.deferred} times")


def log(folder: pathlib.Path, megabytes: int) -> None:
    """The log's disk is full, the queue's is not."""
    disk = mount(folder / "logs", megabytes)
    send_log = disk / "send.jsonl"
    with Mailbox() as mailbox, started(folder, mailbox, send_log=send_log, received_log=disk / "in.jsonl") as program:
        occupy(disk)
        first = Source(program.smtp_port, 500)
        asyncio.run(first.run())
        assert len(first.confirmed) == 500
        until(lambda: len(mailbox.accepted) == 500, "mail goes on")
        assert "the delivery log is not written: No space left on device" in Api(program).get("/status")["faults"]
        assert httpx.get(f"http://127.0.0.1:{program.www_port}/readyz").status_code == 200
        (disk / "others").unlink()
        until(lambda: not Api(program).get("/status")["faults"], "the log can be written again, though no line comes")
        second = Source(program.smtp_port, 100, first=500)
        asyncio.run(second.run())
        until(lambda: len(mailbox.accepted) == 600, "mail goes on")
        assert program.stop() == 0
    logged = {json.loads(line)["recipient"] for line in send_log.read_text().splitlines()}
    assert {f"user{number}@a.example" for number in range(500, 600)} <= logged
    assert f"{send_log} is written again; {600 - len(logged)} lines were lost" in program.output
    print(f"{len(logged)} of 600 logged")


@contextlib.contextmanager
def started(folder: pathlib.Path, mailbox: Mailbox, **options: object) -> Iterator[Program]:
    """The program, with an API; what it said, where something fails."""
    program = Program(
        folder, delivery_sink=f"127.0.0.1:{mailbox.port}", api_token=TOKEN, www_password="secret", **options
    )
    with program:
        try:
            yield program
        except BaseException:
            print(program.output[-5000:])
            raise


def inject_until_refused(program: Program) -> Source:
    """A source that was answered 250 until there was no room, and stayed none."""
    source = Source(program.smtp_port, 1_000_000, size=SIZE)

    async def go() -> None:
        sending = asyncio.create_task(source.run())
        async with asyncio.timeout(60):
            confirmed = -1
            while not source.refusals or len(source.confirmed) > confirmed:
                confirmed = len(source.confirmed)
                await asyncio.sleep(1.0)
        source.total = 0
        await sending

    asyncio.run(go())
    assert len(source.confirmed) > 100
    return source


def occupy(disk: pathlib.Path) -> None:
    """Others take what is left, to the last byte."""
    with (disk / "others").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(100_000)):
            pass
    with (disk / "others").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x"):
            pass


def said_everywhere(program: Program, full: bool) -> None:
    """At MAIL, to balancers, by the API."""
    assert accepts(program) is not full
    ready = httpx.get(f"http://127.0.0.1:{program.www_port}/readyz")
    assert ready.status_code == (503 if full else 200), ready.text
    faults = Api(program).get("/status")["faults"]
    assert any("is full" in fault for fault in faults) is full, faults
    if full:
        mail = {"recipient": "a@a.example", "mime": "Subject: x\r\n\r\nx\r\n"}
        url = f"http://127.0.0.1:{program.www_port}/api/v1/messages"
        assert httpx.post(url, json=mail, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 507


def accepts(program: Program) -> bool:
    """Is a sender taken at MAIL?"""
    with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=30) as client:
        client.ehlo()
        code, text = client.mail("from@sender.example")
        assert code == 250 or f"{code} {text.decode()}" == NO_ROOM
        return code == 250


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=["queue", "log"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--megabytes", type=int)
    asked = parser.parse_args()
    if asked.scenario == "queue":
        queue(asked.folder, asked.megabytes or 56)
    else:
        log(asked.folder, asked.megabytes or 2)
