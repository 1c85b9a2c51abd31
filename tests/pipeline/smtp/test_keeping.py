"""How connections are kept, reused and closed, and what the slots know of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from operators.deliveries.events import Disconnected
from operators.deliveries.outcome import Next
from operators.lanes.limits import Limits
from operators.lanes.slots import Wait
from pipeline.smtp.client import connection, transport
from tests.support.receiver import SILENCE, Receiver, Slow
from tests.support.sender import SOURCE, Sender, to, until


def reasons(sender: Sender) -> list[str]:
    return [event.reason for event in sender.events if isinstance(event, Disconnected)]


async def test_one_connection_carries_many_messages() -> None:
    """Without RSET between them."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        assert [(await sender.send()).messages for _ in range(3)] == [1, 2, 3]
        assert receiver.verbs().count("EHLO") == 1 and "RSET" not in receiver.verbs()


@pytest.mark.parametrize(("extensions", "first"), [(("PIPELINING",), 3), ((), 1)])
async def test_mail_rcpt_and_data_go_in_one_write_where_pipelining_is_offered(extensions, first, monkeypatch) -> None:
    """RFC 2920: before MAIL is answered all three have been sent; elsewhere only MAIL."""
    monkeypatch.setitem(connection.PATIENCE, "mailfrom", 0.05)
    monkeypatch.setattr(transport, "TICK", 0.02)
    lines = (b"MAIL FROM:<sender@example.org>\r\n", b"RCPT TO:<someone@example.com>\r\n", b"DATA\r\n")
    async with Receiver({"MAIL": [SILENCE]}, extensions) as receiver, Sender(to(receiver)) as sender:
        sent = (await sender.send()).sent_connection - len(b"EHLO [127.0.0.1]\r\n")
        assert sent == len(b"".join(lines[:first]))


async def test_an_idle_connection_that_the_receiver_closes_is_noticed() -> None:
    """The slot is free at once, not at the next message."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        receiver.hang_up()
        await until(lambda: sender.slots.open == 0)
        assert reasons(sender) == ["lost"]


async def test_a_good_bye_while_idle_closes_the_connection() -> None:
    """RFC 5321 3.8: 421 may come unasked."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        await receiver.say("421 4.4.2 idle too long\r\n")
        await until(lambda: sender.slots.open == 0)
        assert reasons(sender) == ["421 idle too long"]


async def test_a_connection_that_was_closed_unnoticed_is_replaced_without_an_outcome() -> None:
    """MAIL crossed the receiver's close: nothing of the message was taken, so it goes over a new connection."""
    async with Receiver({"MAIL": [None, "close"]}) as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        outcome = await sender.send()
        assert (outcome.result, outcome.messages, receiver.connections) == ("accepted", 1, 2)
        assert len(receiver.messages) == 2


async def test_a_new_connection_that_is_lost_at_mail_is_not_replaced_again() -> None:
    """Else a receiver that always hangs up would be called for ever."""
    async with Receiver({"MAIL": "close"}) as receiver, Sender(to(receiver)) as sender:
        assert (await sender.send()).result == "lost"
        assert receiver.connections == 1


async def test_a_slot_whose_connection_went_before_its_message_came_is_filled_again() -> None:
    """It may be closed between `take` and `deliver`, while the message is signed."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        await sender.send()
        slot = sender.take()
        receiver.hang_up()
        await until(lambda: slot.connection is None)
        assert (await sender.send(slot=slot)).result == "accepted"
        assert (sender.slots.open, sender.slots.attempting, receiver.connections) == (1, 0, 2)


async def test_after_so_many_messages_the_connection_is_quit() -> None:
    """`connection_messages`: at once, not after the idle time."""
    async with Receiver() as receiver, Sender(to(receiver), limits=Limits(connection_messages=2)) as sender:
        assert [(await sender.send()).messages for _ in range(4)] == [1, 2, 1, 2]
        await until(lambda: sender.slots.open == 0)
        assert reasons(sender) == ["limit", "limit"]
        assert receiver.verbs()[-1] == "QUIT"


@pytest.mark.parametrize("answer", ["221 bye", SILENCE, Slow("221 bye", 0.5), "close", "550 stay"])
async def test_quit_ends_whatever_the_answer(answer: object) -> None:
    """A receiver cannot hold the slot by not answering."""
    async with Receiver({"QUIT": answer}) as receiver, Sender(to(receiver), 0.01) as sender:
        await sender.send()
        slot = sender.take()
        sender.slots.release(slot, time.monotonic())
        assert slot.connection is not None
        slot.connection.quit("idle")
        assert not slot.connection.usable
        await until(lambda: slot.connection is None)
        assert reasons(sender) == ["idle"]


async def test_quitting_under_a_message_waits_for_its_answer() -> None:
    """The message is not put at risk."""
    async with Receiver({".": [Slow("250 taken", 0.02)]}) as receiver, Sender(to(receiver)) as sender:
        slot = sender.take()
        sending = asyncio.create_task(sender.send(slot=slot))
        await until(lambda: "DATA" in receiver.verbs())
        assert slot.connection is not None
        slot.connection.quit("quit")
        assert (await sending).result == "accepted"
        await until(lambda: sender.slots.open == 0)


async def test_shutdown_returns_what_is_under_way() -> None:
    """As if never taken; and no slot is left."""
    async with Receiver({".": SILENCE}) as receiver, Sender(to(receiver)) as sender:
        sending = asyncio.create_task(sender.send())
        await until(lambda: "DATA" in receiver.verbs())
        await sender.transport.close(grace=0.05)
        assert (await sending).next is Next.RETURN


async def test_shutdown_while_connecting_returns_the_message() -> None:
    """The task that connects is ended with its socket."""
    async with Receiver({"greeting": SILENCE}) as receiver, Sender(to(receiver)) as sender:
        sending = asyncio.create_task(sender.send())
        await until(lambda: receiver.connections == 1)
        await sender.transport.close(grace=0.05)
        assert (await sending).next is Next.RETURN


async def test_a_receiver_that_takes_no_second_connection_gets_its_mail_over_the_first() -> None:
    """Its address is skipped for new connections, and the lane waits for the open one."""
    async with Receiver({"greeting": [None, "421 4.7.0 too many"]}) as receiver, Sender(to(receiver)) as sender:
        slot = sender.take()
        other = await sender.send(slot=slot)
        slot = sender.take()
        refused = await sender.send()
        assert (other.result, refused.state, refused.code) == ("accepted", "intro", 421)
        assert isinstance(sender.slots.take("lane", "", sender.targets, sender.limits, time.monotonic()), Wait)
        assert (await sender.send(slot=slot)).messages == 2


async def test_deliveries_at_once_each_have_their_connection() -> None:
    """And all answers come to their own message."""
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        outcomes = await asyncio.gather(*(sender.send(SOURCE + b"%d\r\n" % n) for n in range(20)))
        assert {outcome.result for outcome in outcomes} == {"accepted"}
        assert receiver.connections == 20 and len({mail.data for mail in receiver.messages}) == 20
