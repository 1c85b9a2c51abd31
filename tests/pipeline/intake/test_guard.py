"""Guessing: wrong logins cost who gives them, right ones nothing (S3)."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import argon2
import pytest

from operators.deliveries.events import Fault, Rejected
from pipeline.smtp.server.access.guard import Guard, TooManyLogins
from tests.pipeline.intake.harness import House
from tests.pipeline.intake.test_smtp_auth import plain, secured
from tests.support.waiting import comes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def give(guard: Guard, ip: str, user: str, password: str, right: bool | None) -> None:
    async with guard.attempt(ip, user, password) as attempt:
        attempt.right = right


async def guess(guard: Guard, count: int, ip: str = "192.0.2.1", user: str = "joe") -> None:
    for number in range(count):
        await give(guard, ip, user, f"guess {number}", right=False)


async def test_each_wrong_answer_is_told_later() -> None:
    """S3: twice as late each time, up to a bound; by address and by user, whichever is more."""
    guard, delays = Guard(most=100, step=0.5, clock=Clock()), []
    for number in range(7):
        await guess(guard, 1, ip=f"192.0.2.{number}")
        delays.append(guard.delay("198.51.100.1", "joe"))
    assert delays == [0.5, 1, 2, 4, 8, 8, 8]
    assert guard.delay("192.0.2.1", "ann") == 0.5
    assert guard.delay("198.51.100.1", "ann") == 0


async def test_who_has_used_up_the_tries_waits_until_one_is_back() -> None:
    """S3: ten at once, then one in `refill` seconds; another address is not concerned."""
    clock = Clock()
    guard = Guard(most=10, refill=6.0, patience=0.01, clock=clock)
    await guess(guard, 10)
    with pytest.raises(TooManyLogins):
        await guess(guard, 1)
    await guess(guard, 1, ip="192.0.2.2")
    clock.now += 6
    await guess(guard, 1)
    with pytest.raises(TooManyLogins):
        await guess(guard, 1)


async def test_many_guesses_at_once_gain_nothing() -> None:
    """S3: what is being checked counts, until it is known."""
    guard, open_, checked = Guard(most=10, patience=0.05, clock=Clock()), asyncio.Event(), 0

    async def one(number: int) -> None:
        nonlocal checked
        async with guard.attempt("192.0.2.1", "joe", str(number)) as attempt:
            checked += 1
            await open_.wait()
            attempt.right = False

    tasks = [asyncio.create_task(one(number)) for number in range(50)]
    await comes(lambda: sum(task.done() for task in tasks) == 40)  # they waited in vain
    open_.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert checked == 10
    assert sum(isinstance(result, TooManyLogins) for result in results) == 40


async def test_a_hundred_right_logins_at_once_all_get_in() -> None:
    """S3: those that wait are called up as soon as one before them was right."""
    guard = Guard(most=10, patience=20, clock=Clock())

    async def one(number: int) -> None:
        async with guard.attempt("192.0.2.1", "joe", "secret") as attempt:
            await asyncio.sleep(0)
            attempt.right = True

    await asyncio.gather(*[one(number) for number in range(100)])
    assert guard.delay("192.0.2.1", "joe") == 0


async def test_a_login_that_was_right_before_never_waits() -> None:
    """S3: whatever others of its address do; another password of that user is a guess like any other."""
    guard = Guard(most=10, patience=0.01, clock=Clock())
    await give(guard, "192.0.2.1", "joe", "secret", right=True)
    await guess(guard, 10)
    for _ in range(20):
        await give(guard, "192.0.2.1", "joe", "secret", right=True)
    with pytest.raises(TooManyLogins):
        await give(guard, "192.0.2.1", "joe", "other", right=True)


async def test_ones_own_right_logins_do_not_make_up_for_guesses() -> None:
    """S3: else who has an account guesses those of others for ever."""
    guard = Guard(most=10, patience=0.01, clock=Clock())
    with pytest.raises(TooManyLogins):
        for _ in range(11):
            await give(guard, "192.0.2.1", "mine", "mine", right=True)
            await guess(guard, 1, user="victim")


async def test_a_password_that_was_changed_is_a_guess_from_then_on() -> None:
    """S3: right once is not right for ever."""
    guard = Guard(most=3, patience=0.01, clock=Clock())
    await give(guard, "192.0.2.1", "joe", "old", right=True)
    for _ in range(3):
        await give(guard, "192.0.2.1", "joe", "old", right=False)
    with pytest.raises(TooManyLogins):
        await give(guard, "192.0.2.1", "joe", "old", right=False)


async def test_what_could_not_be_checked_costs_nothing() -> None:
    """S3: a fault of ours is no guess; nor is a client that went away before."""
    guard = Guard(most=3, patience=0.01, clock=Clock())
    for _ in range(10):
        await give(guard, "192.0.2.1", "joe", "secret", right=None)
    assert guard.delay("192.0.2.1", "joe") == 0


async def test_ipv6_clients_count_by_64() -> None:
    """S3: one customer has at least that many addresses."""
    guard = Guard(most=1, patience=0.01, clock=Clock())
    await guess(guard, 1, ip="2001:db8::1")
    with pytest.raises(TooManyLogins):
        await guess(guard, 1, ip="2001:db8::2")
    await guess(guard, 1, ip="2001:db8:0:1::1")


async def test_the_tables_are_bounded() -> None:
    """S3: the longest quiet address is forgotten."""
    guard = Guard(most=1, size=100, patience=0.01, clock=Clock())
    for number in range(1000):
        await guess(guard, 1, ip=f"192.0.{number // 250}.{number % 250}", user=str(number))
    assert len(guard) == 100
    with pytest.raises(TooManyLogins):
        await guess(guard, 1, ip="192.0.3.249")


# -- over the wire


async def test_right_logins_come_in_beside_wrong_ones(house: House, certificate: Path, trusted: ssl.SSLContext) -> None:
    """S3: of the same address; also the first time, as long as tries are left."""
    caller = await secured(house, certificate, trusted)
    assert (await caller.say(plain("joe", "secret"))).startswith("235")
    wrong = await house.call(port=1, tls=trusted)
    await wrong.says(*[plain("ann", f"guess {number}") for number in range(10)])
    wrong.send(plain("ann", "guess").encode() + b"\r\n")  # waits in line
    for _ in range(5):
        again = await house.call(port=1, tls=trusted)
        assert (await again.say(plain("joe", "secret"))).startswith("235")
    assert [event.code for event in house.told(Rejected)] == [535] * 10


async def test_thirty_right_logins_at_once_all_get_in(
    house: House, certificate: Path, trusted: ssl.SSLContext, tmp_path: Path
) -> None:
    """S3: a costly hash makes them wait for each other, and turns none away."""
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("secret")
    passwords = tmp_path / "passwords"
    passwords.write_text("".join(f"user{number}:{hashed}\n" for number in range(30)))
    await house.open(smtp_certificate=certificate, smtp_secure_port=0, smtp_auth=f"file://{passwords}")

    async def one(number: int) -> str:
        caller = await house.call(port=1, tls=trusted)
        return await caller.say(plain(f"user{number}", "secret"))

    assert {reply[:3] for reply in await asyncio.gather(*[one(number) for number in range(30)])} == {"235"}


@pytest.mark.parametrize(
    "last", [b"AUTH LOGIN\r\n", b"AUTH LOGIN\r\nam9l\r\n", b"AUTH PLAIN\r\n", b"AUTH PLAIN AGpvZQB4\r\n"]
)
async def test_a_login_that_is_broken_off_leaves_nothing(
    house: House, certificate: Path, trusted: ssl.SSLContext, capfd: pytest.CaptureFixture[str], last: bytes
) -> None:
    """S3: no traceback, no fault, no wrong answer; 200 of them wrote a megabyte."""
    intake = (await secured(house, certificate, trusted)) and house.intake
    for _ in range(20):
        caller = await house.call(port=1, tls=trusted)
        caller.send(last)
        await caller.writer.drain()
        caller.writer.transport.abort()
    await house.until(lambda: intake.connections == 1)
    assert not house.told(Fault)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::1"])
async def test_nothing_is_kept_of_an_address_with_right_logins_alone(ip: str) -> None:
    """S3: 24,000 addresses with right logins are none to be remembered; one with a wrong one is."""
    guard = Guard(clock=Clock())
    await give(guard, ip, "joe", "secret", right=True)
    await give(guard, ip, "ann", "unknown", right=None)
    assert len(guard) == 0
    await give(guard, ip, "joe", "wrong", right=False)
    assert len(guard) == 1


async def test_who_was_wrong_a_while_ago_waits_behind_others_of_its_kind() -> None:
    """S3: one guess now and then, or a right login between them, gets nobody into the line of who has not failed."""
    clock = Clock()
    guard = Guard(clock=clock)
    await guess(guard, 1)
    clock.now += 300
    await give(guard, "192.0.2.1", "ann", "secret", right=True)
    assert guard.suspects("192.0.2.1")
    assert not guard.suspects("192.0.2.2")
    clock.now += 301
    assert not guard.suspects("192.0.2.1")
