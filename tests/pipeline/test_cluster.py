"""The cluster: who lives by what was said, and what is not believed."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from gui.access.access import Access
from gui.access.passes import Passes
from gui.access.users import User, Users
from pipeline.cluster.repeated import RepeatedWork
from pipeline.cluster.roster import GONE, MOST, SOON, Roster
from pipeline.cluster.words import LARGEST, Announcement, Goodbye, NotUnderstood, read
from settings.store import Role


class Clocked:
    """A roster of instance `m`, on a clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.roster = Roster("m", "mine", lambda: self.now, lambda kind, text: self.told.append(text))

    def hear(self, id: str, *ips: str, token: str = "t", outbox: str = "") -> bool:
        """This instance has announced itself."""
        return self.roster.announced(Announcement(id=id, token=token, ips=list(ips), outbox=outbox))

    @property
    def names(self) -> list[str]:
        """Who lives."""
        return [one.said.id for one in self.roster.live()]


def test_an_instance_lives_until_it_is_silent_or_says_goodbye() -> None:
    """100 seconds of silence are its end; so is its own goodbye, and nobody else's."""
    world = Clocked()
    world.hear("a")
    world.hear("b")
    assert not world.roster.left(Goodbye("a", "guessed"))
    assert world.roster.left(Goodbye("a", "t"))
    world.now = GONE
    assert world.names == ["b"]
    world.now = GONE + 0.1
    world.roster.sweep()
    assert (world.names, world.roster.get("b")) == ([], None)
    assert world.told[-1] == "instance b is gone: it was silent for 100 s"


def test_a_crowd_of_instances_is_bounded_and_none_talks_too_often() -> None:
    """What is too many or too often is refused, and counted."""
    world = Clocked()
    assert all(world.hear(f"x{number}") for number in range(MOST))
    assert not world.hear("one-more")
    assert not world.hear("x1")
    world.now = SOON
    assert world.hear("x1")
    assert (len(world.names), world.roster.refused) == (MOST, 2)


def test_another_instance_with_our_name_is_a_fault() -> None:
    """Our own word that comes back is none."""
    world = Clocked()
    world.hear("m", token="mine")
    assert world.roster.twin is None
    world.hear("m", token="other")
    assert "calls itself m as well" in (world.roster.twin or "")
    assert world.names == []


def test_the_limits_of_an_ip_are_shared_by_those_that_have_it() -> None:
    """By rank in the order of names; who is gone gives its part back."""
    world = Clocked()
    assert world.roster.sharing("192.0.2.1") == (0, 1)
    world.hear("a", "192.0.2.1")
    world.hear("z", "192.0.2.1", "192.0.2.2")
    assert world.roster.sharing("192.0.2.1") == (1, 3)
    assert world.roster.sharing("192.0.2.9") == (0, 1)
    world.now = GONE + 1
    world.hear("z", "192.0.2.1")
    world.roster.sweep()
    assert world.roster.sharing("192.0.2.1") == (0, 2)


def test_only_an_instance_with_an_outbox_is_handed_mail() -> None:
    """One on the embedded queue has none that others reach."""
    world = Clocked()
    world.hear("a", "192.0.2.1")
    assert world.roster.owner(["192.0.2.1"]) is None
    world.hear("b", "192.0.2.1", outbox="outbox-b")
    found = world.roster.owner(["192.0.2.7", "192.0.2.1"])
    assert found is not None
    assert found.id == "b"


def announce(**fields: object) -> bytes:
    """An announcement with these fields."""
    return json.dumps({"announce": {"id": "a", "token": "t", **fields}}).encode()


def test_what_is_known_is_read_and_what_is_new_in_it_is_ignored() -> None:
    """Later versions may say more."""
    said = read(announce(ips=["192.0.2.1", "2001:db8::1"], url="https://mx1.example/console", colour="blue")).announce
    assert said is not None
    assert (said.ips, said.url) == (["192.0.2.1", "2001:db8::1"], "https://mx1.example/console")
    assert read(b'{"hello": true, "colour": 1}').hello
    assert read(b'{"reload": true}').reload


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"null", b"[]", b'"hello"', b"\xff\xfe", b"[" * 60_000, b'{"hello": "yes"}', b'{"rules": []}',
        b'{"hello": false}', b" " * (LARGEST + 1), announce(id="<b>"), announce(id="a\n"), announce(id="a" * 65),
        announce(url="javascript:alert(1)"), announce(url='https://x/"onclick='), announce(url="https://x/\nLocation:"),
        announce(ips=["example.com"]), announce(ips=["192.0.2.1"] * 257), announce(by_ip={"x": {}}),
        announce(figures={"delivered": -1}), announce(figures={"a b": 1}), announce(figures={"x" * 41: 1}),
        announce(workers=0), announce(load="high"), announce(load=1e99), announce(state="\x1b[31m"),
        announce(by_domain={"a\u202eb\n": {}}), announce(by_domain={str(n): {} for n in range(101)}),
        announce(outbox="a\x00b"), announce(level="fine"), b'{"goodbye": {"id": "a"}}', b'{"goodbye": true}',
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_refused(body: bytes) -> None:
    """With words of ours, and nothing of it."""
    with pytest.raises(NotUnderstood, match=r"^[a-zA-Z0-9, ]+$"):
        read(body)


async def test_a_pass_opens_one_console_once() -> None:
    """The one it was made for, at its address; and only where the password is the same."""
    url = "https://b.example"
    ours, theirs = Access("secret", b"1"), Passes(Access("secret", b"2"), "b")
    given = await Passes(ours, "a").make("b", url)
    assert not await theirs.admits(given, "https://elsewhere.example")
    assert not await Passes(Access("secret", b"3"), "c").admits(given, url)
    assert not await Passes(Access("another", b"4"), "b").admits(given, url)
    assert await theirs.admits(given, url)
    assert not await theirs.admits(given, url)
    assert not await theirs.admits("x" * 10_000, url)


@pytest.mark.parametrize("behind", [-29, 29])
async def test_a_pass_is_good_where_the_clocks_differ(behind: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By as long as it is good for, either way; no longer."""
    given = await Passes(Access("secret", b"1"), "a").make("b", "https://b.example")
    theirs, clock = Passes(Access("secret", b"2"), "b"), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3 * behind)
    assert not await theirs.admits(given, "https://b.example")
    monkeypatch.setattr(time, "time", lambda: clock() + behind)
    assert await theirs.admits(given, "https://b.example")


def test_nobody_says_goodbye_in_our_name() -> None:
    """But another one of our name, whose end ends that fault."""
    world = Clocked()
    assert not world.roster.left(Goodbye("m", "mine"))
    world.hear("m", token="other")
    assert not world.roster.left(Goodbye("m", "guessed"))
    assert world.roster.twin is not None
    assert world.roster.left(Goodbye("m", "other"))
    assert world.roster.twin is None


def test_clocks_that_differ_are_a_fault() -> None:
    """By what two words in a row say: one of them may have been on its way for long."""
    world = Clocked()

    def hear(clock: float) -> None:
        world.now += 1
        world.roster.announced(Announcement(id="b", token="t", clock=clock))

    world.roster = Roster("m", "mine", lambda: world.now, lambda kind, text: None, lambda: 1000.0)
    hear(980)
    assert world.roster.astray is None
    hear(1001)
    assert world.roster.astray is None
    hear(1041)
    hear(1040)
    assert "b (+40 s)" in (world.roster.astray or "")


async def test_work_that_is_asked_for_too_often_is_done_once_more() -> None:
    """However slow it is: one at a time, and one afterwards for all that was asked for meanwhile."""
    done, go = 0, asyncio.Event()

    async def work() -> None:
        nonlocal done
        done += 1
        await go.wait()

    repeated = RepeatedWork(work, "test")
    for _ in range(50):
        repeated()
        await asyncio.sleep(0)
    assert done == 1
    go.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert done == 2


async def test_a_pass_is_its_users_and_makes_nobody_more() -> None:
    """Who has no name there, or another role, logs in there."""

    def console(secret: bytes, **roles: Role) -> Access:
        users = Users()
        users._users = {name: User(name, role, "$argon2id$x") for name, role in roles.items()}
        return Access("secret", secret, users=users)

    url = "https://b.example"
    ours = Passes(console(b"1", ann="look", bob="look", carl="operate"), "a")
    theirs = Passes(console(b"2", ann="look", carl="administer"), "b")
    admitted = [await theirs.admits(await ours.make("b", url, name), url) for name in ("ann", "bob", "carl", "console")]
    assert admitted == ["ann", None, None, "console"]


def test_who_comes_and_goes_all_the_time_fills_no_log() -> None:
    """Twenty lines a minute; the next one says how many were left out."""
    world = Clocked()
    for number in range(50):
        world.hear(f"x{number}")
        world.roster.left(Goodbye(f"x{number}", "t"))
    assert len(world.told) == 20
    world.now = 60
    world.hear("y")
    assert world.told[20:] == ["instance y is there (80 such lines were left out)"]
