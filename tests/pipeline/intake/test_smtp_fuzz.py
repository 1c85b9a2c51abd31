"""Whatever a client sends: it is answered or the connection closed, nothing raises, nothing hangs."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.deliveries.events import Fault
from tests.pipeline.intake.harness import House

WORDS = [
    b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@b.example>", b"MAIL FROM:<>", b"RCPT TO:<a@b.example>", b"DATA\r\n",
    b"RSET\r\n", b"NOOP", b"QUIT\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n", b"AUTH LOGIN x", b"VRFY a\r\n", b"HELP\r\n",
    b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b"<", b">", b'"', b"\\", b"@", b":", b"=",
    b" SIZE=1", b" SMTPUTF8", b" BODY=8BITMIME", b" NOTIFY=NEVER", b" ORCPT=rfc822;a", b"x-mq-ip: 1.2.3.4\r\n",
    b"x-mq-", b"Received: x\r\n", b"\xff", b"\xc3\xa9", b"A" * 5000, b"B" * 70_000,
]  # fmt: skip

anything = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=30)), max_size=40).map(b"".join)
ANSWER = re.compile(rb"(?:[2-5]\d\d[ -][^\r\n]*\r\n|334 [^\r\n]*\r\n)*")


async def attack(octets: bytes, cuts: int) -> tuple[bytes, list[Fault], list[dict[str, object]]]:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        await house.open(smtp_timeout="2s")
        caller = await house.call(greet=False)
        size = max(1, len(octets) // cuts)
        try:
            for start in range(0, len(octets), size):
                caller.send(octets[start : start + size])
                await asyncio.sleep(0)
            caller.writer.write_eof()
            answers = await caller.rest()
        except OSError:  # closed on us in between
            answers = b""
        await house.close()
        assert house.intake.shared.room.used == 0
        assert house.intake.connections == 0
        return answers, house.told(Fault), problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything, st.booleans(), st.integers(1, 5))
def test_any_octets_are_answered_or_the_connection_closed(octets: bytes, greeted: bool, cuts: int) -> None:
    """Answers are SMTP replies; no fault, no exception that nobody caught."""
    answers, faults, problems = asyncio.run(attack(b"EHLO x\r\n" * greeted + octets, cuts))
    assert ANSWER.fullmatch(answers), answers
    assert not faults
    assert not problems
