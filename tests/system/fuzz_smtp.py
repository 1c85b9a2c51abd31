"""Odd SMTP dialogues, thousands of them, drawn from a seed, beside a reader of its own that says what they mean.

    python -m tests.system.fuzz --only smtp

Two programs take them: one that lets anybody send, one where mail needs a login. `reading` takes the octets that were
sent and the replies that came, and says which message each 250 was for. Each of these must reach the receiver once,
with the body that was meant, or end with a line in the delivery log; nothing else may: no text of one message is ever
a second one. No traceback, no fault, no dialogue without an end, and no memory that is kept.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import pathlib
import re
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import trustme

from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.system.fuzz_rest import grew
from tests.system.progress import Progress
from tests.system.smtp_dialogues import SECRET, DrawnDialogues, FuzzedDialogue
from tests.system.smtp_reading import MeantMessage, meant

LONGEST = 60.0  # seconds of one dialogue
TOGETHER = 60
PARTS = 5
SETTLED = 60.0  # seconds in which mail that was taken must be delivered or end
_ID = re.compile(rb"\sid ([^\s;]+)")


class DialogueOutcome(NamedTuple):
    """What came of one: its number, what its messages meant, whether the connection was cut before all replies came."""

    number: int
    messages: list[MeantMessage]
    cut: bool
    wrong: str = ""


class DialogueClient:
    """Holds dialogues with a program.

    Args:
        port: of its SMTP server.
        trust: of its certificate.
    """

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self._port, self._trust = port, trust

    async def hold(self, number: int, dialogue: FuzzedDialogue) -> DialogueOutcome:
        """One, from its own address on loopback, so that no one is kept waiting for another's wrong logins."""
        address = f"127.{9 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
        try:
            async with asyncio.timeout(LONGEST):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
                with contextlib.closing(writer):
                    return await self._hold(number, dialogue, reader, writer)
        except TimeoutError:
            return DialogueOutcome(number, [], True, f"no end in {LONGEST:.0f} s: {dialogue!r:.500}")

    async def _hold(
        self, number: int, dialogue: FuzzedDialogue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> DialogueOutcome:
        if dialogue.secret is None:
            return await self._said(number, dialogue.chunks, reader, writer, greeted=True)
        try:
            for chunk in (b"", *dialogue.chunks):
                writer.write(chunk)
                await _reply(reader)
            await writer.start_tls(self._trust, server_hostname="localhost")
        except (OSError, asyncio.IncompleteReadError):
            return DialogueOutcome(number, [], False)
        chunks = [*dialogue.secret, b"\r\n.\r\nQUIT\r\n"]  # TLS knows no half-closed connection
        return await self._said(number, chunks, reader, writer, greeted=False)

    async def _said(
        self,
        number: int,
        chunks: list[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        greeted: bool,
    ) -> DialogueOutcome:
        replies = asyncio.ensure_future(_all(reader))
        cut = False
        try:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            cut = True
        said, ended = await replies
        try:
            messages = meant(b"".join(chunks), said, greeted)
        except ValueError as error:
            return DialogueOutcome(number, [], True, f"{error}: {b''.join(chunks)!r:.700} {said!r:.700}")
        return DialogueOutcome(number, messages, cut or not ended)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[3:4] != b"-":
            return line


async def _all(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """All that came, and whether the connection came to an end of its own."""
    said = bytearray()
    try:
        while octets := await reader.read(65536):
            said += octets
    except OSError:
        return bytes(said), False
    return bytes(said), True


class SmtpTally(msgspec.Struct):
    """What became of them.

    Attributes:
        dialogues: that were held.
        taken: messages that were answered 250, one for each recipient; of them `delivered` and `ended` in the log.
        refused: dialogues without a message that was taken.
        unsure: deliveries of dialogues that were cut before their replies came.
        wrong: a line for each thing that may not be.
        tracebacks: in the programs' logs.
        memory: resident bytes of both programs after a fifth, and in the end; `curve`: megabytes after each fifth.
    """

    dialogues: int = 0
    taken: int = 0
    delivered: int = 0
    ended: int = 0
    refused: int = 0
    unsure: int = 0
    wrong: list[str] = []
    tracebacks: int = 0
    memory: tuple[int, int] = (0, 0)
    curve: list[int] = []

    @property
    def failed(self) -> bool:
        """Whether any of it may not be."""
        return bool(self.wrong or self.tracebacks or grew(*self.memory))


@contextlib.contextmanager
def programs(folder: pathlib.Path, port: int) -> Iterator[tuple[list[Program], ssl.SSLContext]]:
    """One that lets anybody send, and one where mail needs a login."""
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    common = {
        "smtp_certificate": folder / "both.pem", "smtp_privatekey": folder / "both.pem", "smtp_maxsize": "1MB",
        "smtp_timeout": "20s", "delivery_sink": f"127.0.0.1:{port}", "rabbitmq_qos": 200, "long_lines": "pass",
    }  # fmt: skip
    (folder / "open").mkdir()
    (folder / "guarded").mkdir()
    guarded = {"smtp_auth": f"hardcoded://joe:{SECRET}"}
    with Program(folder / "open", **common) as one, Program(folder / "guarded", **common, **guarded) as other:
        yield [one, other], trust


def run(folder: pathlib.Path, count: int, seed: int, progress: Progress | None = None) -> SmtpTally:
    """Hold so many dialogues, and see what became of their messages."""
    progress = progress or Progress()
    with Mailbox(keep=True) as mailbox, programs(folder, mailbox.port) as (both, trust):
        clients, drawn = [DialogueClient(program.smtp_port, trust) for program in both], DrawnDialogues(seed)
        outcomes, curve = [], []
        for part in range(PARTS):
            numbers = range(count * part // PARTS, count * (part + 1) // PARTS)
            outcomes += asyncio.run(_hold(clients, drawn, numbers, progress))
            curve.append(sum(program.resident() for program in both))
        progress("waiting for what was taken")
        tally = SmtpTally(dialogues=len(outcomes), wrong=[outcome.wrong for outcome in outcomes if outcome.wrong])
        _wait(mailbox, both, sum(len(message.ids) for outcome in outcomes for message in outcome.messages))
        tally.curve = [octets // 10**6 for octets in curve]
        tally.memory = curve[0], sum(program.resident() for program in both)
        progress("stopping, and accounting for what was taken")
        stopped = [program.stop() for program in both]
        _account(tally, outcomes, mailbox, _ended(both))
        tally.tracebacks = sum(program.output.count("Traceback") for program in both)
        if any(stopped) or any(SECRET in program.output for program in both):
            tally.wrong.append(f"the programs ended with {stopped}, or their logs hold a password")
        return tally


async def _hold(
    clients: list[DialogueClient], drawn: DrawnDialogues, numbers: range, progress: Progress
) -> list[DialogueOutcome]:
    left, outcomes = iter(numbers), []

    async def some() -> None:
        for number in left:
            progress(f"dialogue {number}")
            guarded = number % 3 == 0
            outcomes.append(await clients[guarded].hold(number, drawn.draw(number, guarded)))

    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    return outcomes


def _wait(mailbox: Mailbox, both: list[Program], wanted: int) -> None:
    """Until so many are delivered or ended, and nothing changes any more."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < SETTLED:
        if mailbox.total != last:
            last, since = mailbox.total, time.monotonic()
        if mailbox.total >= wanted and time.monotonic() - since > 1:
            return
        if time.monotonic() - since > 3 and mailbox.total + len(_ended(both)) >= wanted:
            return
        time.sleep(0.2)


def _ended(both: list[Program]) -> set[str]:
    """The ids of messages that ended without being delivered, by the delivery log."""
    found = set()
    for program in both:
        for file in (program.folder / "var" / "logs").glob("send*"):
            for line in file.read_bytes().splitlines() if file.suffix != ".parquet" else ():
                record = msgspec.json.decode(line)
                if record.get("next") in ("fail", "refuse"):
                    found.add(record.get("message_id", ""))
    return found


def _account(tally: SmtpTally, outcomes: list[DialogueOutcome], mailbox: Mailbox, ended: set[str]) -> None:
    """Each message that was answered 250 against what the receiver has."""
    came: dict[str, list[bytes]] = collections.defaultdict(list)
    for message in mailbox.messages:
        found = _ID.search(message[:2000])
        came[found[1].decode() if found else "no id"].append(message)
    unsure = {f"{outcome.number}." for outcome in outcomes if outcome.cut}
    for outcome in outcomes:
        tally.refused += not outcome.messages
        for message in outcome.messages:
            tally.taken += len(message.ids)
            tally.ended += (gone := sum(one in ended for one in message.ids))
            here = came.pop(message.transaction, [])
            tally.delivered += len(here)
            if len(here) + gone != len(message.ids):
                tally.wrong.append(f"{outcome.number}: {message.ids} came {len(here)} times, {gone} ended")
            if any(not message.is_in(one) for one in here):
                tally.wrong.append(f"{outcome.number}: another body: {message.content!r:.300} {here[0]!r:.500}")
    for transaction, messages in came.items():
        named = re.search(rb"^X-Number: (\d+\.)", messages[0], re.MULTILINE)
        if named and named[1].decode() in unsure:
            tally.unsure += len(messages)
        else:
            tally.wrong.append(f"{transaction}: nobody was told of it: {messages[0]!r:.500}")
