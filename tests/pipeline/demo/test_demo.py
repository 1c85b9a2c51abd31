"""The simulated internet as a whole, as the demo starts it."""

import asyncio
import email
import email.policy
import os
import re
import signal
import sys

import aiosmtplib
import psutil
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from operators.deliveries.delivery import Route
from operators.deliveries.routes import Found
from pipeline.demo import start
from pipeline.demo.internet import Internet
from pipeline.demo.providers import MTA_IPS, PROVIDERS, Provider
from pipeline.demo.traffic import SENDERS, MailWriter, pace, traffic
from pipeline.dns.resolver import Resolver
from settings import Settings, load


@pytest.fixture
def settings(tmp_path) -> Settings:
    return load(["--data-dir", str(tmp_path)], system_file=None)


async def find(resolver: Resolver, name: str) -> Found:
    future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
    resolver.lookup(name, future.set_result)
    return await future


async def accepts(found: Route, start_tls: bool) -> bool:
    """Whether the last of its hosts takes a message."""
    target = found.targets[-1]
    try:
        async with aiosmtplib.SMTP(
            hostname=target.address, port=target.port, start_tls=start_tls, validate_certs=False, timeout=5
        ) as smtp:
            await smtp.sendmail("s@me.test", ["grace@x.example"], b"Subject: x\r\n\r\nx\r\n")
    except (aiosmtplib.SMTPException, OSError):
        return False
    return True


@pytest.mark.slow
async def test_the_demo_starts_and_stops(settings: Settings):
    """Its process listens where the changed settings say, and is gone after `stop`."""
    demo = await start(settings)
    process = demo.process
    changed = demo.settings
    assert changed.smtp_default_ips == list(MTA_IPS)
    resolver = Resolver(dns_server=changed.dns_server, delivery_port=changed.delivery_port)
    found = await find(resolver, "fast.example")
    assert isinstance(found, Route)
    assert await accepts(found, start_tls=False)
    assert (await resolver.ask("1.0.0.127.in-addr.arpa", "PTR")).records == ("mta1.mailrace.test",)
    await demo.stop()
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


@pytest.mark.slow
async def test_the_internet_ends_with_whoever_started_it(settings: Settings):
    """Also when that one is killed: nothing is left behind."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import asyncio, sys\n"
        "from pipeline.demo import start\n"
        "from settings import load\n"
        "async def main():\n"
        "    demo = await start(load(['--data-dir', sys.argv[1]], system_file=None))\n"
        "    print(demo.process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n",
        str(settings.data_dir),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    psutil.Process(child).wait(10)


@pytest.mark.slow
async def test_every_domain_is_what_its_line_says():
    """Through real DNS and real connections: all of the table."""
    internet = Internet()
    await internet.start()
    nameserver = internet.nameserver
    resolver = Resolver(dns_server=[(nameserver.address, nameserver.port)], delivery_port=internet.port)
    seen: dict[str, set[str]] = {}
    for provider in PROVIDERS:
        for domain in provider.taken:
            found = await find(resolver, domain)
            seen.setdefault(provider.name, set()).add(_described(found))
            if isinstance(found, Route) and _takes_all(provider):
                assert await accepts(found, provider.tls == "required"), domain
    await resolver.close()
    await internet.stop()
    assert all(len(groups) == 1 for name, groups in seen.items()), seen
    assert seen["null-mx.example"] == seen["typo.example"] == {"dns error fail"}
    assert seen["broken-dns.example"] == {"dns error retry"}
    assert seen["alias.example"] == {"alias.example"}
    assert re.fullmatch(r"mx1\.bigmail\.example\+3~[0-9a-f]{4}", seen["bigmail.example"].pop())


def _described(found: Found) -> str:
    return found.group if isinstance(found, Route) else f"{found.state} {found.result} {found.next}"


def _takes_all(provider: Provider) -> bool:
    return (
        provider.trouble in ("", "halfdead")
        and not (provider.greylist or provider.blocked or provider.unknown or provider.full or provider.spam)
        and not provider.spells  # by the clock
        and provider.latency < 1
    )


async def test_a_refusing_host_refuses():
    """It has an address, and nobody listens there; a half dead provider's second host does."""
    internet = Internet(
        [Provider(name="r.example", trouble="refuses"), Provider(name="h.example", hosts=2, trouble="halfdead")]
    )
    await internet.start()
    assert list(internet.receivers) == ["127.10.2.2"]
    resolver = Resolver(
        dns_server=[(internet.nameserver.address, internet.nameserver.port)], delivery_port=internet.port
    )
    found = await find(resolver, "r.example")
    assert isinstance(found, Route)
    assert not await accepts(found, start_tls=False)
    await internet.stop()


def test_only_reserved_names_are_used():
    """RFC 2606: the demo can reach nobody, whatever goes wrong."""
    names = {domain for provider in PROVIDERS for domain in (provider.name, *provider.taken)}
    assert all(name.endswith(".example") for name in names)
    assert all(sender.domain.endswith(".test") for sender in SENDERS)
    assert len(names) >= 38


def test_mail_is_varied_and_well_formed():
    """Senders, recipients, tags, subjects and sizes; every line within RFC 5321's limits."""
    writer = MailWriter()
    mail = [writer.write() for _ in range(300)]
    parsed = [email.message_from_bytes(one.source, policy=email.policy.default) for one in mail]
    assert len({one.envelope for one in mail}) == len(SENDERS)
    assert len({one.recipient for one in mail}) > 250
    assert len({one.recipient.rpartition("@")[2] for one in mail}) > 25
    assert len({message["Subject"] for message in parsed}) > 50
    assert all(message["Message-ID"] and message["Date"] and message["x-mq-tag"] for message in parsed)
    assert max(len(line) for one in mail for line in one.source.split(b"\r\n")) <= 998
    assert b"\n" not in b"".join(one.source.replace(b"\r\n", b"") for one in mail)


def test_the_same_seed_writes_to_the_same_people():
    """So that a demo can be told about."""
    first, second = MailWriter(7), MailWriter(7)
    assert [first.write().recipient for _ in range(20)] == [second.write().recipient for _ in range(20)]


def test_traffic_has_busy_times():
    """Half as much again, and half as much, around its rate."""
    assert {round(pace(100, now)) for now in (0, 30, 60, 90)} == {100, 150, 50}


class Intake:
    """A real SMTP server that counts, and hangs up on one message."""

    def __init__(self) -> None:
        self.taken = 0
        self.enough = asyncio.Event()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.taken += 1
        if self.taken == 3:
            server.transport.abort()
        if self.taken == 30:
            self.enough.set()
        return "250 ok"


async def test_traffic_comes_by_real_smtp(monkeypatch: pytest.MonkeyPatch):
    """Until it is cancelled; a lost connection does not end it."""
    monkeypatch.setattr("pipeline.demo.traffic.COME_AGAIN", 0.01)
    intake = Intake()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(intake), "127.0.0.1", 0)
    task = asyncio.create_task(traffic("127.0.0.1", server.sockets[0].getsockname()[1], rate=1000))
    await asyncio.wait_for(intake.enough.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()
