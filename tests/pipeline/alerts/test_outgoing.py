"""Notices on their way: tried again, one way after another, counted where they are lost. Pauses are virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from pipeline.alerts.hooks import NotPosted
from pipeline.alerts.outgoing import EACH, FIRST, LAST, STANDS, TRIES, Outgoing, WaitingNotice, Way
from pipeline.alerts.states import AlertNotice


def notice(number: int = 1, rule: int = 1, way: Way = "webhook") -> WaitingNotice:
    """One of a rule."""
    said = AlertNotice(
        id=f"n{number}",
        time=0,
        rule=rule,
        name=f"r{rule}",
        watch="verdict",
        kind="begun",
        subject="",
        text="x",
        since=0,
    )
    return WaitingNotice(way, said)


class Post:
    """A receiver that answers as it is told, and a clock that only pauses move."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.answers: dict[int, list[NotPosted]] = {}  # by rule; then it takes all
        self.stuck: set[int] = set()
        self.now = 0.0
        self.ended: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.out = Outgoing(
            self._deliver,
            self._spawn,
            lambda one, why, final: self.ended.append((one.notice.id, why)) if final else None,
            lambda: self.now,
            self._pause,
        )

    async def _deliver(self, said: AlertNotice, way: Way) -> None:
        if said.rule in self.stuck:
            await asyncio.Event().wait()
        if answers := self.answers.get(said.rule):
            raise answers.pop(0)
        self.got.append(said.id)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    async def _pause(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def send(self, *notices: WaitingNotice) -> None:
        """Hand these over, and wait for all that can end."""
        self.out.send(notices)
        await asyncio.wait(self.tasks, timeout=0.05 if self.stuck else 5)


@pytest.fixture
async def post() -> Post:
    """Of one test."""
    return Post()


async def test_a_notice_that_is_refused_for_now_is_tried_again(post: Post) -> None:
    """After pauses that grow."""
    post.answers[1] = [NotPosted("500")] * 4
    await post.send(notice())
    assert (post.got, post.now, post.ended) == (["n1"], FIRST * (1 + 2 + 4 + 8), [("n1", "")])
    assert (post.out.sent, post.out.lost, post.out.troubles) == (1, 0, [])


async def test_one_that_never_arrives_is_given_up_counted_and_said(post: Post) -> None:
    """Half an hour later; the next one of the same way that arrives ends the fault."""
    post.answers[1] = [NotPosted("hook.example answers 500")] * TRIES
    await post.send(notice())
    assert post.got == [] and 1200 < post.now < 2400
    why = f"hook.example answers 500 ({TRIES} tries)"
    assert post.ended == [("n1", why)] and post.out.lost == 1
    assert post.out.troubles == [f"the alert rule 'r1' cannot tell by webhook: {why}"]
    await post.send(notice(2))
    assert (post.got, post.out.troubles) == (["n2"], [])


async def test_what_is_refused_for_good_is_not_tried_again(post: Post) -> None:
    """A 404 stays one; the notice after it is tried."""
    post.answers[1] = [NotPosted("404", again=False)]
    await post.send(notice(1), notice(2))
    assert (post.got, post.now, post.ended) == (["n2"], 0.0, [("n1", "404"), ("n2", "")])


async def test_a_server_says_how_long_to_wait(post: Post) -> None:
    """Retry-After (RFC 9110 10.2.3)."""
    post.answers[1] = [NotPosted("429", wait=90)]
    await post.send(notice())
    assert (post.got, post.now) == (["n1"], 90)


async def test_a_way_that_hangs_holds_up_no_other(post: Post) -> None:
    """Each rule's webhook and mail is a way of its own."""
    post.stuck = {1}
    await post.send(notice(1, rule=1), notice(2, rule=2), notice(3, rule=2, way="email"))
    assert sorted(post.got) == ["n2", "n3"] and [one.notice.id for one in post.out.waiting()] == ["n1"]
    post.out.close()


async def test_the_oldest_gives_way_where_too_many_wait(post: Post) -> None:
    """And that is counted."""
    post.stuck = {1}
    await post.send(*(notice(number) for number in range(EACH + 5)))
    assert len(post.out.waiting()) == EACH and post.out.lost == 5
    assert post.ended[0] == ("n0", "newer ones took its place")
    post.out.close()


async def test_a_fault_does_not_stand_for_ever(post: Post) -> None:
    """Nor longer than its rule."""
    post.answers = {1: [NotPosted("x", again=False)], 2: [NotPosted("x", again=False)]}
    await post.send(notice(1, rule=1), notice(2, rule=2))
    post.out.keep({2})
    assert len(post.out.troubles) == 1
    post.now += STANDS
    assert post.out.troubles == [] and LAST < STANDS


async def test_an_error_of_our_own_is_no_end_of_the_way(post: Post) -> None:
    """The next notice is tried all the same."""
    post.answers[1] = [KeyError("x")] * TRIES  # type: ignore[list-item]
    await post.send(notice(1), notice(2))
    assert post.got == ["n2"] and "KeyError" in post.ended[0][1]
