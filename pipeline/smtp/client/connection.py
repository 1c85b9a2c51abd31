"""A connection that is ready for mail: carries transactions one after another, as callbacks on the open transport.

    IDLE --begin--> DIALOGUE --354--> BODY --final dot--> DIALOGUE --answer--> IDLE ... --quit--> QUITTING --> CLOSED
    (from everywhere: an answer 421, garbage, silence or the loss of the connection --> CLOSED)

Owner of: the transport, and the delivery that is on it. Bounds: what is written and not sent stays at the
transport's high-water mark and one CHUNK; what has come and is no whole answer yet, at the parser's.
Time: one deadline, which the owner's ticker checks; part of an answer does not extend it. Whatever ends badly,
`done` is called once, after the slot has been told.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from operators.deliveries.delivery import Delivery, Target
from operators.deliveries.outcome import Next, Outcome, deferred
from operators.deliveries.replies import Reply, ReplyParser
from operators.lanes.slots import Slot
from operators.mail.message import Content
from operators.mail.wire import chunks, dot_stuff, normalise, stuffed
from operators.stages.stage import Done
from pipeline.smtp.client.failure import reason
from pipeline.smtp.client.straight import Sent, straight
from pipeline.smtp.client.tls import PLAIN
from pipeline.smtp.client.transaction import (
    PROVEN,
    REUSED,
    VERBS,
    Capabilities,
    Do,
    OutgoingTransaction,
    Unsendable,
    commands,
)
from pipeline.smtp.watch import BODY, CLIENT, SERVER, Conversation, DialogueObserver
from settings.config.egress import ExternalMta

CHUNK = 256 * 1024  # bytes of a message handed to the transport at once
SLOWEST = 10_000  # bytes a second that a receiver must take on the whole, beyond its first ten minutes
QUIT_WAIT = 2.0  # seconds for the answer to QUIT
FRESH: frozenset[int] = frozenset()
SESSION = frozenset((523, 530, 534, 535, 538))  # answers that are about TLS or a login
SESSION_STATUS = frozenset(("5.7.8", "5.7.9", "5.7.10", "5.7.11"))  # RFC 5248

# RFC 5321 4.5.3.2, seconds; all are multiplied by one factor.
PATIENCE = {
    "rset": 300.0,
    "mailfrom": 300.0,
    "rcptto": 300.0,
    "data": 120.0,
    "block": 180.0,
    "message": 600.0,
}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a connection once it is made.

    Attributes:
        mta: the name in the receiver's greeting.
        local_ip, remote_ip: its two addresses.
        level: how well it is secured (`tls.NEEDED`).
        sent: bytes sent until it was made.
        authentication: the mechanism of the login.
        tls: cipher and certificate, for the results.
        login: the user name and password given.
        fallback: it is in plain text, since TLS with the receiver was of no use.
        way: how it leaves; None: from this machine.
    """

    capabilities: Capabilities
    mta: str
    local_ip: str
    remote_ip: str
    level: int
    sent: int = 0
    authentication: str | None = None
    tls: dict[str, Any] | None = None
    login: tuple[str, str] | None = None
    fallback: bool = False
    way: ExternalMta | None = None


class Owner(Protocol):
    """What a connection needs of the transport that made it."""

    factor: float
    watch: DialogueObserver | None

    def clock(self) -> float:
        """Monotonic seconds."""

    def gone(self, connection: SmtpConnection, reason: str) -> None:
        """The connection is closed; tell the slot and the event stream."""

    def again(self, delivery: Delivery, done: Done, started: float) -> None:
        """The connection was of no use and the message is untouched: begin on a new one."""

    def tls_broke(self, target: Target) -> None:
        """TLS with this receiver broke off in the middle of the dialogue."""

    def failed(self, stage: str, delivery: Delivery, error: Exception) -> None:
        """A fault of ours: count it, and log its traceback."""


class Phase(enum.IntEnum):
    """Where a connection is."""

    IDLE = 0
    DIALOGUE = 1
    BODY = 2
    QUITTING = 3
    CLOSED = 4


class SmtpConnection(asyncio.Protocol):
    """One open connection. Made by `Transport`, which hands it the transport of a finished handshake."""

    def __init__(
        self, owner: Owner, slot: Slot, transport: asyncio.Transport, peer: Peer, conversation: Conversation
    ) -> None:
        self.slot, self.target, self.peer, self.conversation = slot, slot.target, peer, conversation
        self.messages = 0  # that it has carried
        self.deadline = float("inf")  # monotonic seconds
        self._owner, self._transport = owner, transport
        self._phase = Phase.IDLE
        self._parser = ReplyParser()
        self._sent = peer.sent  # bytes
        self._data_sent = 0  # of them, those of messages, without the final dots
        self._proven = False  # it has carried a message that was accepted
        self._dirty = False  # a transaction broke off: RSET before the next one
        self._surplus = False  # more answers than commands
        self._blocked = False  # the transport wants no more for now
        self._quit_for = ""  # close it after this message, for this reason
        self._chunks: Iterator[Sent] | None = None
        self._delivery: Delivery | None = None
        transport.set_protocol(self)

    # -- for the slots ------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Open, without a message on it, and not to be closed."""
        return self._phase is Phase.IDLE and not self._transport.is_closing()

    def quit(self, reason: str) -> None:
        """Close it with QUIT: at once, or after the message that is on it."""
        if self._phase is Phase.IDLE:
            self._quit_for, self._phase = reason, Phase.QUITTING
            self.deadline = self._owner.clock() + QUIT_WAIT * self._owner.factor
            self._say(b"QUIT\r\n")
        elif self._phase in (Phase.DIALOGUE, Phase.BODY):
            self._quit_for = reason

    def drop(self, reason: str) -> None:
        """Close it with QUIT and without waiting for the answer; it must be idle."""
        self._say(b"QUIT\r\n")
        self._transport.close()
        self._phase = Phase.CLOSED
        self._owner.gone(self, reason)

    # -- one message ------------------------------------------------------------------------------------------------

    def begin(self, delivery: Delivery, done: Done, started: float) -> None:
        """Send this delivery; `done` gets it back with its outcome. The connection must be usable."""
        source, offered = delivery.source, self.peer.capabilities
        try:
            mail, rcpt = commands(delivery.message, source, offered, delivery.content)
        except Unsendable as refused:
            done(delivery.ended(self._described(refused.outcome)))
            return
        except Exception as error:
            self._owner.failed("deliver", delivery, error)
            done(delivery.ended(self._described(_ours(error))))
            return
        leaving = PROVEN if self._proven else REUSED if self.messages else FRESH
        self.messages += 1
        self.slot.messages = self.messages
        self._delivery, self._done, self._started = delivery, done, started
        self.conversation.domain = delivery.domain
        self._transaction = transaction = OutgoingTransaction(mail, rcpt, offered.pipelining, self._dirty, leaving)
        self._dirty, self._phase = False, Phase.DIALOGUE
        self._await(transaction.stage)
        self._say(transaction.command)

    def data_received(self, data: bytes) -> None:
        """Answers came, or parts of them."""
        if self._owner.watch is not None:
            self._owner.watch.line(self.conversation, SERVER, data)
        if self._phase is Phase.DIALOGUE and not self._parser.partial and self._transaction.cleared(data):
            self._send_body()
            return
        replies = self._parser.feed(data)
        if self._phase >= Phase.QUITTING or self._phase is Phase.IDLE:
            self._unasked(replies)
            return
        more = len(replies) - self._transaction.awaited
        self._surplus = more > 0 or (more == 0 and self._parser.partial)
        for reply in replies:
            if self._phase is not Phase.DIALOGUE:
                if self._phase is Phase.BODY:
                    self._early(reply)
                return
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        transaction = self._transaction
        do = transaction.answer(reply)
        if do is Do.WAIT:
            self._await(transaction.stage)
        elif do is Do.END:
            self._answered()
        elif do is Do.BREAK or (self._surplus and do is not Do.STALE):
            self._answered(broken=True)
        elif do is Do.BODY:
            self._send_body()
        elif do is Do.STALE:
            self._again(f"{reply.code} {reply.description}")
        else:
            self._await(transaction.stage)
            self._say(b".\r\n" if do is Do.DOT else transaction.command)

    def _early(self, reply: Reply) -> None:
        """An answer in the middle of the message: it is over, and so is the connection."""
        if self._transaction.answer(reply) is Do.STALE:
            self._again(f"{reply.code} {reply.description}")
        else:
            self._answered(broken=True)

    def _unasked(self, replies: list[Reply]) -> None:
        """Something came while nothing was asked: a good-bye, or nothing that can be understood."""
        if self._phase is Phase.QUITTING:
            if replies:
                self._close(self._quit_for)
        elif replies:
            self._close(f"{replies[0].code} {replies[0].description}")
        elif self._parser.partial:
            self._close("lost")

    # -- the message itself -----------------------------------------------------------------------------------------

    def _send_body(self) -> None:
        assert self._delivery is not None
        source, content = self._delivery.source, self._delivery.content
        if self._owner.watch is not None:
            self._owner.watch.body(self.conversation, _shown(source, content))
        if len(source) <= CHUNK and content is None:
            body = dot_stuff(normalise(source)) + b".\r\n"
            self._await("message")
            self._data_sent += len(body) - 3
            self._write(body)
            return
        self._phase = Phase.BODY
        size = self._delivery.size
        self._chunks = chunks(source, CHUNK) if content is None else self._apart(source, content)
        self._latest = self._owner.clock() + (PATIENCE["message"] + size / SLOWEST) * self._owner.factor
        try:
            self._pump()
        except Exception as error:  # the content cannot be read
            self.broke(error)

    def _apart(self, head: bytes, content: Content) -> Iterator[Sent]:
        """What is sent of a message whose content lies in a file."""
        socket = self._transport.get_extra_info("socket")
        if content.dots or self.peer.level > PLAIN or socket is None:
            return stuffed(head, content.pieces(CHUNK), content.dots)
        self._transport.set_write_buffer_limits(0)  # it wants no more while it holds anything
        return straight(head, content, socket.fileno())

    def _pump(self) -> None:
        """Hand the transport as much of the message as it wants."""
        assert self._chunks is not None
        self._await("block")
        self.deadline = min(self.deadline, self._latest)
        while not self._blocked and self._phase is Phase.BODY and not self._transport.is_closing():
            chunk = next(self._chunks, None)
            if chunk is None:
                self._chunks = iter(())  # the message is not kept after it was sent
                self._phase = Phase.DIALOGUE
                self._await("message")
                self._write(b".\r\n")
                continue
            if isinstance(chunk, int):
                self._sent += chunk
                self._data_sent += chunk
                continue
            self._data_sent += len(chunk)
            self._write(chunk)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The receiver has taken what the transport held: that is progress."""
        self._blocked = False
        if self._phase is Phase.BODY:
            try:
                self._pump()
            except Exception as error:  # asyncio would only log it
                self.broke(error)

    # -- how it ends ------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed."""
        if self._delivery is None:
            self._close(self._quit_for or "timeout")
            return
        if self._last_words():
            return
        if self.messages > 1 and not self._transaction.answered:
            self._again("timeout")  # something between us has forgotten the connection while it was idle
            return
        stage = "the message" if self._phase is Phase.BODY else f"an answer to {VERBS[self._transaction.stage]}"
        self._failed("timeout", f"no time left for {stage}")

    def connection_lost(self, error: Exception | None) -> None:
        """The receiver closed it, or the network did."""
        if self._phase is Phase.CLOSED:
            return
        if self._delivery is None:
            self._close(self._quit_for or "lost")
        elif error is not None and not isinstance(error, OSError):
            self.broke(error)
        elif self._last_words():
            return
        elif self.messages > 1 and self._transaction.untouched:
            self._again("lost")  # closed while it was idle, or after so many messages
        else:
            if isinstance(error, ssl.SSLError) and self._transaction.untouched:
                self._owner.tls_broke(self.target)
            why = f": {reason(error)}" if isinstance(error, OSError) else ""
            self._failed("lost", f"connection lost after {VERBS[self._transaction.stage]}{why}")

    def _last_words(self) -> bool:
        """After the final dot the beginning of an answer is an answer: to send the message again would double it."""
        if self._transaction.stage != "message" or self._phase is not Phase.DIALOGUE:
            return False
        if (reply := self._parser.last()) is None:
            return False
        self._transaction.answer(reply)
        self._answered(broken=True)
        return True

    def broke(self, error: Exception) -> None:
        """A fault of ours, raised while the connection was looked after: it ends this attempt, and nothing else."""
        delivery = self._delivery
        if delivery is None:
            self._close("lost")
            return
        self._owner.failed("deliver", delivery, error)
        self._end(_ours(error), "lost")

    def abort(self, next: Next) -> None:
        """Close it at once; the delivery that is on it ends with this `next`."""
        if self._delivery is None:
            self._close("quit")
            return
        state = self._state()
        self._end(Outcome(state=state, result="lost", next=next, description="stopped by shutdown"), "quit")

    def _failed(self, result: str, description: str) -> None:
        """No decisive answer came."""
        if self._transaction.refusal is not None:
            self._answered(broken=True)
            return
        if self._transaction.stage == "message" and self._phase is Phase.DIALOGUE:
            description += "; the receiver may have taken it, so the retry may be a duplicate"
        self._end(Outcome(state=self._state(), result=result, next=Next.RETRY, description=description), result)

    def _answered(self, broken: bool = False) -> None:
        """The receiver has decided; `broken`: the connection cannot be used again."""
        transaction = self._transaction
        if transaction.refusal is None and transaction.final is None:
            text = "more answers than commands"
            self._end(Outcome(state=self._state(), result="invalid", next=Next.RETRY, description=text), "invalid")
            return
        state, reply, result, next = transaction.outcome()
        if result == "accepted" and self._phase is Phase.BODY:
            result, next = "invalid", Next.RETRY  # it cannot have taken what it has not seen
        if next is Next.FAIL and self._about_the_session(reply):
            next = Next.RETRY
        self._proven = self._proven or result == "accepted"
        self._dirty = transaction.refusal is not None
        description, code = reply.description, reply.code
        broken = broken or self._surplus
        outcome = Outcome(
            state=state,
            result=result,
            next=next,
            code=code or None,
            status=reply.status,
            description=description,
        )
        self._end(outcome, f"{code} {description}" if broken and code else "invalid" if broken else "")

    def _about_the_session(self, reply: Reply) -> bool:
        """A permanent answer that says nothing of the message: it wants a login, or TLS (RFC 4954 6, RFC 3207 4).

        It stands where TLS has failed, or a password has changed; to bounce mail for it would bounce all of it.
        """
        if not self.peer.fallback and self.peer.login is None:
            return False
        return reply.code in SESSION or reply.status in SESSION_STATUS

    def _end(self, outcome: Outcome, closing: str) -> None:
        """Give the delivery back; first close the connection where `closing` says why, or ask it to quit."""
        delivery = self._delivery
        assert delivery is not None
        self._delivery, self._chunks = None, None
        self._phase, self.deadline = Phase.IDLE, float("inf")
        limit = self.slot.limits.connection_messages
        if closing:
            self._close(closing)
        elif self._quit_for or 0 < limit <= self.messages:
            self.quit(self._quit_for or "limit")
        self._done(delivery.ended(self._described(outcome, attempted=True)))

    def _again(self, why: str) -> None:
        """On a new connection, at once: nothing has been taken, so it is no attempt. It happens once a message."""
        delivery = self._delivery
        assert delivery is not None
        self._delivery, self._chunks = None, None
        self._close(why)
        self._owner.again(delivery, self._done, self._started)

    def _close(self, reason: str) -> None:
        self._phase, self.deadline = Phase.CLOSED, float("inf")
        self._transport.abort()
        self._owner.gone(self, reason)

    def _described(self, outcome: Outcome, attempted: bool = False) -> Outcome:
        """The outcome, and what there is to say of the connection."""
        peer = self.peer
        return msgspec.structs.replace(
            outcome,
            mta=peer.mta,
            local_ip=peer.local_ip,
            remote_ip=peer.remote_ip,
            host=self.target.host,
            messages=self.messages,
            sent_connection=self._sent,
            sent_data=self._data_sent,
            attempted=attempted,
            wire=self._owner.clock() - self._started if attempted else 0.0,
            authentication=peer.authentication,
            tls=peer.tls,
            dsn=peer.capabilities.dsn,
        )

    def _state(self) -> str:
        stage = self._transaction.stage
        return "mailfrom" if stage == "rset" else stage

    def _await(self, stage: str) -> None:
        self.deadline = self._owner.clock() + PATIENCE[stage] * self._owner.factor

    def _say(self, commands: bytes) -> None:
        if self._owner.watch is not None:
            self._owner.watch.line(self.conversation, CLIENT, commands)
        self._write(commands)

    def _write(self, data: bytes) -> None:
        """Send; on a connection that is going away it does nothing, `connection_lost` is about to come."""
        if not self._transport.is_closing():  # uvloop raises there
            self._sent += len(data)
            self._transport.write(data)


def _ours(error: Exception) -> Outcome:
    return deferred("process", "error", f"deliver: {type(error).__name__}")


def _shown(source: bytes, content: Content | None) -> bytes:
    """What watchers see of a message: of what lies apart the beginning."""
    if content is None:
        return source
    try:
        return source + next(content.pieces(BODY), b"")
    except OSError:
        return source
