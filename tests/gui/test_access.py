"""The password, the sessions, and the tries that failed."""

from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path

import argon2
import pytest

from gui.access.access import LIFETIME, Access, Ended, open_access
from gui.access.tries import (
    ALLOWANCE,
    BLOCKED,
    FREE_TRIES,
    LATER,
    MOST_TRIES,
    REFILL,
    REMEMBER,
    Guesses,
    Tries,
    network,
)
from pipeline.process.hashing import HashingLane
from settings import StartError, load


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_wrong_tokens_are_told_to_wait_longer_and_longer() -> None:
    """Three are free, then 1, 2, 4... s, and after ten a quarter of an hour."""
    clock = Clock()
    tries = Tries(clock)
    waits = []
    for _ in range(MOST_TRIES):
        tries.failed("192.0.2.1")
        waits.append(tries.wait("192.0.2.1"))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, BLOCKED]
    assert waits[: FREE_TRIES - 1] == [0, 0]
    clock.now += BLOCKED
    assert tries.wait("192.0.2.1") == 0


def test_a_block_is_for_one_client_and_ends_with_success() -> None:
    """An attacker does not lock the operator out."""
    tries = Tries(Clock())
    for _ in range(MOST_TRIES):
        tries.failed("192.0.2.1")
    assert tries.wait("192.0.2.2") == 0
    tries.succeeded("192.0.2.1")
    assert tries.wait("192.0.2.1") == 0


def test_wrong_passwords_of_a_client_are_bounded_and_come_back() -> None:
    """One more each REFILL seconds; the answers to wrong ones come later and later (S3)."""
    clock = Clock()
    guesses = Guesses(clock)
    later = [guesses.failed("192.0.2.1", str(number)) for number in range(ALLOWANCE)]
    assert later[:3] == [0, 0, 0]
    assert later[-1] == LATER
    assert guesses.wait("192.0.2.1") == REFILL
    assert guesses.wait("192.0.2.2") == 0
    clock.now += REFILL
    assert guesses.wait("192.0.2.1") == 0
    guesses.failed("192.0.2.1", "another")
    assert guesses.wait("192.0.2.1") > 0


@pytest.mark.usefixtures("quick_hashes")
async def test_a_password_that_was_wrong_may_be_right_after_a_change(tmp_path: Path) -> None:
    """What is remembered as wrong is forgotten with the old password (S3)."""
    access = Access("secret", b"key", file=tmp_path / "password")
    assert not await access.guess("the new one", "192.0.2.1")
    await access.change("the new one")
    assert await access.guess("the new one", "192.0.2.1")


def test_the_tries_of_many_clients_are_bounded() -> None:
    """The oldest is forgotten."""
    tries = Tries(Clock())
    for number in range(REMEMBER + 50):
        tries.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(tries) == REMEMBER


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_client_is_its_network(client: str, counted: str) -> None:
    """One client has a whole /64 to try from."""
    assert network(client) == counted


@pytest.mark.parametrize("kept", ["secret", argon2.PasswordHasher(1, 8, 1).hash("secret")], ids=["plain", "hashed"])
async def test_a_password_is_plain_or_hashed(kept: str) -> None:
    """Both let in the one who knows it, and nobody else."""
    access = Access(kept, b"key")
    assert await access.check("secret")
    assert not await access.check("Secret")
    assert not await access.check("")
    assert not await access.check(kept + "x")


async def test_a_broken_hash_lets_nobody_in() -> None:
    """It is no password either."""
    assert not await Access("$argon2id$broken", b"key").check("$argon2id$broken")


async def test_a_session_lasts_until_it_is_ended() -> None:
    """Another one goes on."""
    access = Access("secret", b"key")
    mine, other = access.begin(), access.begin()
    assert access.valid(mine)
    await access.end(mine)
    assert not access.valid(mine)
    assert access.valid(other)


def test_a_session_outlives_a_restart_but_not_a_changed_password() -> None:
    """Its key is kept, and depends on the password."""
    cookie = Access("secret", b"key").begin()
    assert Access("secret", b"key").valid(cookie)
    assert not Access("changed", b"key").valid(cookie)
    assert not Access("secret", b"other").valid(cookie)


async def test_a_logout_is_not_forgotten_at_a_restart(tmp_path: Path) -> None:
    """Nor where more sessions were logged out than are remembered: then what is older ends with them (S3)."""
    file = tmp_path / "console-ended"
    access = Access("secret", b"key", ended=Ended(file))
    mine, other = access.begin(), access.begin()
    await access.end(mine)
    again = Access("secret", b"key", ended=Ended(file))
    assert not again.valid(mine)
    assert again.valid(other)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert mine not in file.read_text()


async def test_a_forgotten_logout_ends_what_is_older(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A session that was logged out is never valid again, however many are logged out after it (S3)."""
    monkeypatch.setattr("gui.access.access.REMEMBER", 2)
    file = tmp_path / "console-ended"
    access = Access("secret", b"key", ended=Ended(file))
    sessions = [access.begin() for _ in range(5)]
    for cookie in sessions:
        await access.end(cookie)
    for one in (access, Access("secret", b"key", ended=Ended(file))):
        assert not any(one.valid(cookie) for cookie in sessions)


async def test_a_file_of_logouts_that_is_none_ends_all_sessions(tmp_path: Path) -> None:
    """Who was logged out is not known, so everybody logs in again (S3)."""
    cookie = Access("secret", b"key").begin()
    (tmp_path / "ended").write_text("not what we wrote\n")
    ended = Ended(tmp_path / "ended")
    ended.since += 1  # the session began in the same second
    assert not Access("secret", b"key", ended=ended).valid(cookie)


def test_a_session_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its lifetime."""
    access = Access("secret", b"key")
    cookie = access.begin()
    monkeypatch.setattr("gui.access.access.LIFETIME", -1)
    assert LIFETIME > 0
    assert not access.valid(cookie)


@pytest.mark.parametrize("cookie", [None, "", "x", "a.b.c", "é"])
def test_what_we_did_not_sign_is_no_session(cookie: str | None) -> None:
    """Whatever it looks like."""
    assert not Access("secret", b"key").valid(cookie)


async def test_a_password_is_made_up_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    """By a hash that takes argon2's usual time; the files are readable by us alone."""
    settings = load(["--data-dir", str(tmp_path / "var")], None, None)
    first, second = open_access(settings), open_access(settings)
    assert first.generated
    assert second.generated is None
    assert await second.access.check(first.generated)
    assert second.access.valid(first.access.begin())
    for name in ("console-password", "console-secret"):
        path = tmp_path / "var" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert first.generated not in path.read_text()
    assert not argon2.PasswordHasher().check_needs_rehash((tmp_path / "var" / "console-password").read_text())


def test_a_data_dir_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """It says which."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"data-dir .*file"):
        open_access(load(["--data-dir", str(tmp_path / "file")], None, None))


def test_a_key_that_is_no_text_is_one_clear_line(tmp_path: Path) -> None:
    """S4: a file that something else has written there is named, with what to do."""
    (tmp_path / "console-secret").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartError, match=r"console-secret: is no text.* remove it"):
        open_access(load(["--data-dir", str(tmp_path)], None, None))


@pytest.mark.usefixtures("quick_hashes")
async def test_the_right_password_is_known_again_whatever_others_have_hashed() -> None:
    """S3: in memory, and only as long as it is the password."""
    access, go = Access(argon2.PasswordHasher().hash("secret"), b"key"), threading.Event()
    assert await access.guess("secret", "192.0.2.1")
    lanes = (access._known_line._lane, access._first_line._lane)
    endless = [asyncio.ensure_future(lane.run(go.wait)) for lane in lanes if isinstance(lane, HashingLane)]
    assert await access.guess("secret", "192.0.2.2")
    assert await access.check("secret")
    go.set()
    await asyncio.gather(*endless)
    access._set(argon2.PasswordHasher().hash("another one"))
    assert not await access.guess("secret", "192.0.2.3")
