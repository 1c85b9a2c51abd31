"""Passwords of those who may be guessing are checked in a process that gives way (S3)."""

from __future__ import annotations

import asyncio
import os
import signal

import argon2
import psutil
import pytest
from passlib.hash import sha512_crypt

from pipeline.process import hashing
from pipeline.process.children import ChildKind
from pipeline.process.hashing import HumbleLane
from pipeline.process.passwords import DamagedHash
from pipeline.process.supervisor import supervisor
from tests.support.waiting import comes

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def hasher() -> psutil.Process:
    """The process that was started last."""
    return [one for one in psutil.Process().children() if "pipeline.process.hasher" in one.cmdline()][-1]


async def test_right_and_wrong_ones_are_told_apart_by_both_kinds_of_hash() -> None:
    """argon2, and `openssl passwd -6`; a user that is not known has no hash."""
    lane = HumbleLane()
    for kept in (QUICK.hash("right \u00fc"), sha512_crypt.using(rounds=1000).hash("right \u00fc")):
        assert await lane.matches(kept, "right \u00fc")
        assert not await lane.matches(kept, "wrong\nright \u00fc")
    assert not await lane.matches("", "right")


async def test_a_damaged_hash_is_no_wrong_password() -> None:
    """A fault of ours counts against nobody."""
    with pytest.raises(DamagedHash):
        await HumbleLane().matches("$argon2id$damaged", "x")


async def test_who_goes_away_gets_nobody_else_the_wrong_answer() -> None:
    """The one that is being checked is finished, and its answer is thrown away."""
    lane, kept = HumbleLane(), QUICK.hash("right")
    await lane.matches(kept, "wrong")
    gone = asyncio.ensure_future(lane.matches(kept, "right"))
    await asyncio.sleep(0)
    gone.cancel()
    assert not await lane.matches(kept, "wrong")


async def test_a_hasher_that_is_killed_is_started_again_and_said() -> None:
    """What it had is checked in a thread, and nobody is refused for it."""
    lane, kept = HumbleLane(), QUICK.hash("right")
    assert await lane.matches(kept, "right")
    child = hasher().pid
    os.kill(child, signal.SIGSTOP)
    asked = asyncio.ensure_future(lane.matches(kept, "right"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.kill(child, signal.SIGKILL)
    assert await asked
    await comes(lambda: any("hasher" in fault for fault in supervisor().faults))
    assert await lane.matches(kept, "right")


async def test_where_it_cannot_start_a_thread_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortage of ours refuses nobody, and is said."""
    monkeypatch.setattr(hashing, "HASHER", ChildKind("hasher", "no.such.module"))
    assert await HumbleLane().matches(QUICK.hash("right"), "right")
    assert any("hasher" in fault for fault in supervisor().faults)


async def test_it_gives_way_to_everybody() -> None:
    """A thread with the interpreter's lock could not: put aside by the system, it would hold up all others."""
    lane = HumbleLane()
    await lane.matches(QUICK.hash("right"), "right")
    assert hasher().nice() >= 15
