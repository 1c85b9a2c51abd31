"""S2, K13, K1. A receiver is passed over only for what it has done: not for an MTA IP's way to it, not for what this
machine has run out of, not for another port, and not for a fault of the program."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from operators.deliveries.delivery import Delivery, Target
from operators.deliveries.events import Fault
from operators.deliveries.outcome import Next
from pipeline.smtp.client import connect, connection, transport
from tests.support.receiver import Receiver
from tests.support.sender import Sender, to


def passed_over(sender: Sender, target: Target, ip: str = "") -> bool:
    return sender.slots.skipped(ip, target, sender.transport.clock()) is not None


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """None is left for another connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(socket.socket())
        yield
    finally:
        for one in taken:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_descriptor_the_message_is_put_off_and_no_receiver_is_blamed() -> None:
    """K13. It is no attempt, comes back soon, and stands as a fault until a connection is made."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        with no_descriptors():
            outcomes = [await sender.send() for _ in range(3)]
        for outcome in outcomes:
            assert (outcome.state, outcome.next, outcome.code) == ("process", Next.POSTPONE, None)
            assert outcome.until is not None and outcome.remote_ip is None
        assert not passed_over(sender, sender.targets[0]) and receiver.connections == 0
        [fault] = [event for event in sender.events if isinstance(event, Fault)]
        assert "Too many open files" in fault.detail
        assert ["3 deliveries" in line for line in sender.transport.troubles.lines] == [True]
        assert (await sender.send()).result == "accepted"
        assert sender.transport.troubles.lines == []


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENFILE, errno.ENOMEM, errno.EADDRNOTAVAIL])
async def test_whatever_this_machine_runs_out_of_is_no_fault_of_the_receiver(number: int, monkeypatch) -> None:
    """S2. The next host is not tried either: it would fare no better."""
    fail_with(number, monkeypatch)
    targets = (Target("a.test", "127.0.0.1", 25), Target("b.test", "127.0.0.5", 25))
    async with Sender(targets, ip="127.0.0.9") as sender:
        assert (await sender.send()).next is Next.POSTPONE
        assert not any(passed_over(sender, target, "127.0.0.9") for target in targets)


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENETDOWN])
async def test_no_way_from_here_is_no_fault_of_the_receiver(number: int, monkeypatch) -> None:
    """S2. It is retried by its times, and the receiver is not passed over."""
    fail_with(number, monkeypatch)
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("connect", "error", Next.RETRY)
        assert "no way from" in outcome.description and not passed_over(sender, sender.targets[0])


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of this machine: nobody can have it on order."""

    async def sock_connect(*_: object) -> None:
        raise OSError(number, "from the system")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)


async def test_a_loopback_ip_without_a_way_out_is_no_fault_of_the_receiver() -> None:
    """S2. `x-mq-ip: 127.0.0.9` for mail to the world: EINVAL, from the real system."""
    target = Target("far.test", "198.51.100.1")
    async with Sender((target,), ip="127.0.0.9", delivery_timeout_factor=0.05) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.next) == ("connect", Next.RETRY)
        assert not passed_over(sender, target, "") and not passed_over(sender, target, "127.0.0.8")


@pytest.mark.parametrize("ip", ["192.0.2.1", "127.x", "localhost", "127.0.0.1.example", "127.0.0.999"])
async def test_an_ip_that_cannot_be_bound_is_in_nobodys_way(ip: str) -> None:
    """S2. A message's own `ips`; and no name is asked DNS for."""
    async with Receiver() as receiver, Sender(to(receiver), ip=ip) as sender:
        outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("bind", "error", Next.RETRY)
        assert not passed_over(sender, sender.targets[0], ip)
        sender.ip = ""
        assert (await sender.send()).result == "accepted"


async def test_what_one_mta_ip_met_does_not_hold_another_up() -> None:
    """S2. A receiver, or a firewall, may refuse one of them."""
    receiver = Receiver({"greeting": ["421 4.7.0 not you"]})
    async with receiver, Sender(to(receiver), ip="127.0.0.9") as sender:
        assert (await sender.send()).code == 421
        assert passed_over(sender, sender.targets[0], "127.0.0.9")
        sender.ip = "127.0.0.8"
        assert (await sender.send()).result == "accepted"


async def test_a_dead_port_does_not_hold_up_the_other_ports_of_an_address() -> None:
    """S2. A message's smarthost on the receiver's address."""
    async with Receiver() as receiver:
        with socket.socket() as dead:
            dead.bind(("127.0.0.1", 0))
            nobody = Target("localhost", "127.0.0.1", dead.getsockname()[1])
            async with Sender((nobody,)) as sender:
                assert (await sender.send()).result == "error"
                assert passed_over(sender, nobody) and not passed_over(sender, to(receiver)[0])
                sender.targets = to(receiver)
                assert (await sender.send()).result == "accepted"


# -- faults of ours ----------------------------------------------------------------------------------------------------


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("ours")


class Told:
    """Whom faults are told."""

    def __init__(self, sender: Sender) -> None:
        self.told: list[tuple[str, str, str]] = []
        sender.transport.failed = self

    def __call__(self, stage: str, delivery: Delivery, error: Exception) -> None:
        self.told.append((stage, delivery.message.recipient, type(error).__name__))


@pytest.mark.parametrize(
    ("module", "name"), [(connect, "capabilities"), (connection, "commands"), (connection, "dot_stuff")]
)
async def test_a_fault_of_ours_ends_the_attempt_by_the_ordinary_rule(module: Any, name: str, monkeypatch) -> None:
    """K1. It is an attempt that is retried, told with its message; receiver and next message are unharmed."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        told = Told(sender)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            outcome = await sender.send()
        assert (outcome.state, outcome.result, outcome.next) == ("process", "error", Next.RETRY)
        assert told.told == [("deliver", "someone@example.com", "ZeroDivisionError")]
        assert not passed_over(sender, sender.targets[0])
        assert (await sender.send()).result == "accepted"


async def test_a_fault_while_the_deadlines_are_looked_at_stops_no_clock(monkeypatch) -> None:
    """K1. Else nothing would time out any more."""
    monkeypatch.setattr(transport, "TICK", 0.02)
    async with Receiver({"MAIL": "250 ok", "RCPT": [*["silence"] * 2]}) as receiver, Sender(to(receiver)) as sender:
        told = Told(sender)
        with monkeypatch.context() as patch:
            patch.setattr(connection.SmtpConnection, "_last_words", broken)
            sender.transport.factor = 0.001
            outcome = await sender.send()
        assert (outcome.state, outcome.next, len(told.told)) == ("process", Next.RETRY, 1)
        assert (await sender.send()).result == "timeout"
