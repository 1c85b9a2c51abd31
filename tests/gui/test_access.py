"""The password, the sessions, and the tries that failed."""

from __future__ import annotations

import stat
from pathlib import Path

import argon2
import pytest

from gui.access import BLOCKED, FREE_TRIES, LIFETIME, MOST_TRIES, REMEMBER, Access, Tries, network, open_access
from settings import StartError, load


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failed_tries_slow_down_and_then_block() -> None:
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


def test_the_tries_of_many_clients_are_bounded() -> None:
    """The oldest is forgotten."""
    tries = Tries(Clock())
    for number in range(REMEMBER + 50):
        tries.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(tries._failed) == REMEMBER


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


def test_a_session_lasts_until_it_is_ended() -> None:
    """Another one goes on."""
    access = Access("secret", b"key")
    mine, other = access.begin(), access.begin()
    assert access.valid(mine)
    access.end(mine)
    assert not access.valid(mine)
    assert access.valid(other)


def test_a_session_outlives_a_restart_but_not_a_changed_password() -> None:
    """Its key is kept, and depends on the password."""
    cookie = Access("secret", b"key").begin()
    assert Access("secret", b"key").valid(cookie)
    assert not Access("changed", b"key").valid(cookie)
    assert not Access("secret", b"other").valid(cookie)


def test_a_session_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its lifetime."""
    access = Access("secret", b"key")
    cookie = access.begin()
    monkeypatch.setattr("gui.access.LIFETIME", -1)
    assert LIFETIME > 0
    assert not access.valid(cookie)


@pytest.mark.parametrize("cookie", [None, "", "x", "a.b.c", "é"])
def test_what_we_did_not_sign_is_no_session(cookie: str | None) -> None:
    """Whatever it looks like."""
    assert not Access("secret", b"key").valid(cookie)


async def test_a_password_is_made_up_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    """The files are readable by us alone."""
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


def test_a_data_dir_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """It says which."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"data-dir .*file"):
        open_access(load(["--data-dir", str(tmp_path / "file")], None, None))


def test_a_key_that_is_no_text_is_one_clear_line(tmp_path: Path) -> None:
    """S4: a file that something else has written there is named, with what to do."""
    (tmp_path / "console-secret").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartError, match=r"console-secret: is no text, .* remove it"):
        open_access(load(["--data-dir", str(tmp_path)], None, None))
