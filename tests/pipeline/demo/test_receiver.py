"""The receivers of the simulated internet behave as their line in the table says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import aiosmtplib
import pytest

from pipeline.demo.internet import self_signed
from pipeline.demo.providers import PROVIDERS, Provider
from pipeline.demo.receiver import Receiver

MESSAGE = b"Subject: hello\r\n\r\n.a dot\r\n"


class Clock:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """A plain client: writes what it is told, reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def __call__(self, data: bytes = b"") -> str:
        """Send, and read one reply, all its lines."""
        self._writer.write(data)
        lines = []
        while line := (await self._reader.readline()).decode():
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    async def tell(self, data: bytes) -> None:
        """Send, and give the receiver a turn of the loop to read it."""
        self._writer.write(data)
        await self._writer.drain()
        for _ in range(100):
            await asyncio.sleep(0)

    async def ended(self) -> bool:
        return await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()


Open = Callable[..., Awaitable[tuple[Receiver, int]]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def receiver(clock: Clock) -> AsyncIterator[Open]:
    started: list[Receiver] = []

    async def begin(**behaviour: object) -> tuple[Receiver, int]:
        provider = Provider(name="a.example", **{"latency": 0.0, **behaviour})  # type: ignore[arg-type]
        receiver = Receiver(provider, "mx1.a.example", self_signed("a.example"), clock)
        started.append(receiver)
        return receiver, await receiver.start("127.0.0.1", 0)

    yield begin
    for one in started:
        await one.stop()


async def connect(port: int) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", port))


async def greeted(port: int) -> Peer:
    peer = await connect(port)
    assert (await peer()).startswith("220 mx1.a.example ")
    assert (await peer(b"EHLO me.test\r\n")).startswith("250-mx1.a.example ")
    return peer


async def send(port: int, rcpt: str = "b@a.example") -> tuple[int, str]:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as smtp:
        try:
            _, text = await smtp.sendmail("s@me.test", [rcpt], MESSAGE)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return error.recipients[0].code, error.recipients[0].message
        except aiosmtplib.SMTPResponseException as error:
            return error.code, error.message
    return 250, text


async def test_a_message_is_accepted(receiver: Open):
    """And the next one on the same connection."""
    host, port = await receiver()
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as smtp:
        for _ in range(2):
            errors, text = await smtp.sendmail("s@me.test", ["b@a.example"], MESSAGE)
            assert errors == {}
            assert text.startswith("2.0.0 Ok: queued as ")
    assert host.accepted == 2


async def test_commands_in_one_segment_are_answered_in_order(receiver: Open):
    """RFC 2920; the final dot may come with them, and may be all there is."""
    _, port = await receiver()
    peer = await greeted(port)
    assert await peer(b"MAIL FROM:<s@me.test>\r\nRCPT TO:<b@a.example>\r\nDATA\r\n.\r\nNOOP\r\n") == "250 2.1.0 Ok"
    assert [(await peer())[:3] for _ in range(4)] == ["250", "354", "250", "250"]
    peer.close()


async def test_the_final_dot_may_come_in_pieces(receiver: Open):
    """A boundary between segments is no part of the message."""
    host, port = await receiver()
    peer = await greeted(port)
    await peer(b"MAIL FROM:<>\r\n")
    await peer(b"RCPT TO:<b@a.example>\r\n")
    await peer(b"DATA\r\n")
    for piece in (b"a\r\n..\r\n" + b"x" * 70_000, b"\r", b"\n.", b"\r"):
        await peer.tell(piece)
    assert host.accepted == 0
    assert (await peer(b"\n")).startswith("250 ")
    peer.close()


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"BDAT 3\r\n", "500"), (b"DATA\r\n", "554"), (b"RCPT TO:<a@b>\r\n", "503"), (b"\xff\r\n", "500")],
)
async def test_what_is_out_of_order_is_refused(receiver: Open, line: bytes, code: str):
    """And the connection goes on."""
    _, port = await receiver()
    peer = await greeted(port)
    assert (await peer(line))[:3] == code
    assert (await peer(b"NOOP\r\n"))[:3] == "250"
    peer.close()


async def test_a_client_that_talks_nonsense_is_left(receiver: Open):
    """Each line gets its answer, the last one a farewell."""
    _, port = await receiver()
    peer = await greeted(port)
    assert (await peer(b"GET / HTTP/1.1\r\n" * 5))[:3] == "500"
    assert [(await peer())[:3] for _ in range(4)] == ["500", "500", "500", "502"]
    assert await peer.ended()


@pytest.mark.parametrize("octets", [10_000, 200_000])
async def test_a_line_that_is_too_long_is_bounded(receiver: Open, octets: int):
    """500 at its end, and the connection goes on."""
    _, port = await receiver()
    peer = await greeted(port)
    assert (await peer(b"x" * octets + b"\r\n"))[:3] == "500"
    assert (await peer(b"NOOP\r\n"))[:3] == "250"
    peer.close()


async def test_an_address_that_is_no_utf8_is_an_address(receiver: Open):
    """It is repeated with a mark in the place of each such octet."""
    _, port = await receiver(unknown=1.0)
    peer = await greeted(port)
    await peer(b"MAIL FROM:<\xff@me.test> RET=HDRS ENVID=x\r\n")
    reply = await peer(b"RCPT TO:<b\xff@a.example> NOTIFY=FAILURE\r\n")
    assert reply.startswith("550 5.1.1 <b?@a.example>: ")
    peer.close()


async def test_unknown_users_are_always_the_same(receiver: Open):
    """The share of the table, and the same recipient has the same fate."""
    _, port = await receiver(unknown=0.5)
    fates = {f"u{n}": [(await send(port, f"u{n}@a.example"))[0] for _ in range(2)] for n in range(20)}
    assert all(first == second for first, second in fates.values())
    assert {first for first, _ in fates.values()} == {250, 550}


async def test_a_full_mailbox_is_transient(receiver: Open):
    """452 4.2.2."""
    _, port = await receiver(full=1.0)
    code, text = await send(port)
    assert (code, text[:5]) == (452, "4.2.2")


async def test_spam_is_refused_after_the_message(receiver: Open):
    """554 5.7.1 to the final dot."""
    _, port = await receiver(spam=1.0)
    code, text = await send(port)
    assert (code, text[:5]) == (554, "5.7.1")


async def test_greylisting_lets_a_sender_in_that_comes_back(receiver: Open, clock: Clock):
    """After its time, for the same IP, sender and recipient."""
    _, port = await receiver(greylist=30.0)
    assert (await send(port))[0] == 450
    clock.now += 29
    assert (await send(port))[0] == 450
    clock.now += 1
    assert (await send(port))[0] == 250
    assert (await send(port, "another@a.example"))[0] == 450


async def test_a_flood_is_answered_with_421(receiver: Open, clock: Clock):
    """On the connection and for new ones, until the pause and the minute are over."""
    _, port = await receiver(flood=2, pause=30.0)
    assert [(await send(port))[0] for _ in range(2)] == [250, 250]
    code, text = await send(port)
    assert (code, "too many connections from your ip" in text) == (421, True)
    peer = await connect(port)
    assert (await peer())[:3] == "421"
    assert await peer.ended()
    clock.now += 60
    assert (await send(port))[0] == 250


async def test_too_many_connections_at_once_are_not_greeted(receiver: Open):
    """421; one that ends makes room."""
    _, port = await receiver(connections=1)
    first = await greeted(port)
    second = await connect(port)
    assert (await second())[:3] == "421"
    assert await second.ended()
    await first(b"QUIT\r\n")
    assert await first.ended()
    second.close()
    (await greeted(port)).close()


async def test_a_blocked_sender_is_turned_away(receiver: Open):
    """550 to MAIL FROM, with the client's address."""
    _, port = await receiver(blocked=True)
    code, text = await send(port)
    assert (code, "[127.0.0.1] blocked" in text) == (550, True)


async def test_a_silent_server_says_nothing(receiver: Open):
    """Not even a greeting; it keeps the connection until the client closes it."""
    host, port = await receiver(trouble="silent")
    peer = await connect(port)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer(b"EHLO me.test\r\n"), 0.1)
    assert host.open["127.0.0.1"] == 1
    peer.close()
    while host.open:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_server_that_hangs_up_does_not_answer_the_dot(receiver: Open):
    """The connection is closed instead."""
    _, port = await receiver(trouble="drops")
    peer = await greeted(port)
    for line in (b"MAIL FROM:<s@me.test>\r\n", b"RCPT TO:<b@a.example>\r\n", b"DATA\r\n"):
        await peer(line)
    assert await peer(b"x\r\n.\r\n") == ""
    peer.close()


async def test_a_slow_server_takes_its_time(receiver: Open):
    """The answer to the final dot comes later; nothing comes before."""
    _, port = await receiver(latency=0.2)
    peer = await greeted(port)
    for line in (b"MAIL FROM:<s@me.test>\r\n", b"RCPT TO:<b@a.example>\r\n", b"DATA\r\n"):
        await peer(line)
    reply = asyncio.ensure_future(peer(b"x\r\n.\r\n"))
    done, _ = await asyncio.wait([reply], timeout=0.05)
    assert not done
    assert (await reply).startswith("250 ")
    peer.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_starttls_is_offered_and_works(loop: str):
    """With a self-signed certificate; afterwards it is not offered again. On both event loops."""
    import uvloop

    async def dialogue() -> None:
        host = Receiver(Provider(name="a.example", tls="required"), "mx1.a.example", self_signed("a.example"))
        port = await host.start("127.0.0.1", 0)
        assert (await send(port))[0] == 530
        for _ in range(10):
            smtp = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=True, validate_certs=False)
            async with smtp:
                await smtp.ehlo()
                assert not smtp.supports_extension("starttls")
                errors, _ = await smtp.sendmail("s@me.test", ["b@a.example"], MESSAGE)
                assert errors == {}
        await host.stop()

    (uvloop.run if loop == "uvloop" else asyncio.run)(dialogue())


async def test_a_certificate_that_nobody_knows_does_not_verify(receiver: Open):
    """It is self-signed."""
    _, port = await receiver(tls="offered")
    smtp = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=True, tls_context=ssl.create_default_context())
    with pytest.raises((aiosmtplib.SMTPException, ssl.SSLError)):
        await smtp.connect()
    smtp.close()


async def test_a_broken_handshake_fails(receiver: Open):
    """STARTTLS is offered, and what follows is no TLS; without it mail is taken."""
    _, port = await receiver(tls="broken")
    smtp = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=True, validate_certs=False)
    with pytest.raises((aiosmtplib.SMTPException, OSError)):
        await smtp.connect()
    smtp.close()
    assert (await send(port))[0] == 250


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_every_answer_of_the_table_is_a_reply(provider: Provider):
    """Three digits; several lines have the same code and hyphens (RFC 5321 4.2.1)."""
    host = Receiver(provider, f"mx1.{provider.name}")
    for kind in provider.answers.__struct_fields__:
        *lines, last = host.say(kind, "127.0.0.1", f"user@{provider.name}").split("\r\n")
        assert last[:3].isdigit()
        assert last[3] == " "
        assert all(line[:4] == last[:3] + "-" for line in lines)
        assert "{" not in last
        assert max(map(len, [*lines, last])) <= 510
