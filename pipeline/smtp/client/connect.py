"""Making a connection: TCP from the MTA IP, greeting, EHLO, STARTTLS, EHLO again, AUTH.

Pure in what it keeps: nothing. It ends with an open transport and what the receiver offered, or with `Failed`.
Each step has its time-out (RFC 5321 4.5.3.2), for the whole answer and not for each byte of it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from operators.deliveries.delivery import Target
from operators.deliveries.outcome import Outcome
from operators.deliveries.replies import CLOSING, GARBLED, Reply, classify, clean
from pipeline.smtp.client import login
from pipeline.smtp.client.answers import Answers
from pipeline.smtp.client.connection import Peer
from pipeline.smtp.client.dial import dial
from pipeline.smtp.client.failure import Failed, reason
from pipeline.smtp.client.tls import ENCRYPTED, NEEDED, PLAIN, VERIFIED, context, describe
from pipeline.smtp.client.transaction import capabilities, extensions
from pipeline.smtp.watch import Conversation, Watched
from settings.config.egress import ExternalMta

GREETING, COMMAND = 300.0, 300.0  # seconds, before the factor
NAME = 255  # characters of the name in a greeting

Came = TypeVar("Came")


class Wish(msgspec.Struct, frozen=True):
    """What is asked of a connection.

    Attributes:
        name: the EHLO name.
        security: off, opportunistic, required or verified.
        login: user name and password for AUTH.
        factor: multiplies the time-outs.
        fallback: TLS was tried with this receiver, and was of no use.
        way: how mail of the MTA IP leaves; None: from this machine.
    """

    name: str
    security: str
    login: tuple[str, str] | None = None
    factor: float = 1.0
    fallback: bool = False
    way: ExternalMta | None = None

    @property
    def encrypted(self) -> bool:
        """Mail may not go without TLS. A password may not, either, unless somebody has said so with `off`."""
        return NEEDED[self.security] > PLAIN or (self.login is not None and self.security != "off")


class OpeningDialogue:
    """The steps from a TCP connection to one that is ready for mail."""

    def __init__(self, target: Target, ip: str, wish: Wish, owner: Watched, conversation: Conversation) -> None:
        self._target, self._ip, self._wish = target, ip, wish
        self._owner, self._conversation = owner, conversation
        self._patience = COMMAND * wish.factor
        self._offers: dict[str, str] = {}
        self._level = PLAIN
        self._mta: str | None = None  # from its greeting on
        self._login_by: str | None = None

    async def open(self) -> tuple[asyncio.Transport, Peer]:
        """Connect.

        Raises:
            Failed: with the outcome, where it cannot be done.
        """
        _, self._answers = await dial(self._ip, self._target, self._protocol, self._wish.factor, self._wish.way)
        try:
            return await self._introduce()
        except Failed as failed:
            self._answers.abort()
            failed.outcome = self._described(failed.outcome)
            raise
        except BaseException:
            self._answers.abort()
            raise

    def _described(self, outcome: Outcome) -> Outcome:
        """With what there is to say of a connection that got as far as its greeting."""
        if self._mta is None:
            return outcome
        tls = describe(self._answers.transport, self._level == VERIFIED) if self._level else None
        return msgspec.structs.replace(
            outcome,
            mta=self._mta,
            messages=1,
            sent_connection=self._answers.sent,
            tls=tls,
            authentication=self._login_by,
        )

    def _protocol(self) -> Answers:
        return Answers(self._owner, self._conversation)

    async def _introduce(self) -> tuple[asyncio.Transport, Peer]:
        greeting = await self._step("intro", self._answers.reply(GREETING * self._wish.factor))
        self._mta = greeting.description.partition(" ")[0][:NAME]
        await self._hello()
        if self._wish.security != "off":
            await self._secure()
        if self._wish.login is not None:
            await self._login(*self._wish.login)
        transport = self._answers.transport
        if transport is None or transport.is_closing():
            raise Failed("ehlo", "lost", "connection lost after EHLO", handshake=self._level > PLAIN)
        return transport, Peer(
            capabilities=capabilities(self._offers),
            mta=self._mta,
            sent=self._answers.sent,
            authentication=self._login_by,
            local_ip=self._ip if self._wish.way else transport.get_extra_info("sockname")[0],
            remote_ip=self._target.address,
            level=self._level,
            tls=describe(transport, self._level == VERIFIED) if self._level else None,
            login=self._wish.login,
            fallback=self._wish.fallback,
            way=self._wish.way,
        )

    async def _hello(self) -> None:
        """EHLO; where that is refused HELO, whatever the reason: old servers give all kinds (RFC 5321 3.2, 4.1.4)."""
        name = self._name()
        try:
            said = await self._step("ehlo", self._answers.ask(f"EHLO {name}", self._patience))
            self._offers = extensions([clean(line) for line in said.lines])
        except Failed as failed:
            if failed.outcome.code in (None, CLOSING) or (self._wish.encrypted and self._level == PLAIN):
                raise
            self._offers = {}
            await self._old_hello(name, failed)

    def _name(self) -> str:
        """What to greet with; where it is no name, the address literal that RFC 5321 4.1.3 has for that."""
        if _NAME(self._wish.name):
            return self._wish.name
        transport = self._answers.transport
        address = (self._ip or (transport.get_extra_info("sockname")[0] if transport else "")).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    async def _old_hello(self, name: str, refused: Failed) -> None:
        """HELO; a receiver that hangs up at it has said why before, though not for good."""
        try:
            await self._step("helo", self._answers.ask(f"HELO {name}", self._patience))
        except Failed as failed:
            raise (failed if failed.outcome.code is not None else refused.may_yet()) from None

    async def _secure(self) -> None:
        if "starttls" not in self._offers:
            if self._wish.encrypted:
                raise Failed("starttls", "error", "STARTTLS is needed, and the receiver does not offer it")
            return
        verify = NEEDED[self._wish.security] == VERIFIED
        name = self._target.host.rstrip(".") or self._target.address
        await self._step("starttls", self._answers.ask("STARTTLS", self._patience))
        await self._step("starttls", self._answers.secure(context(verify), name, self._patience))
        self._level = VERIFIED if verify else ENCRYPTED
        await self._hello()

    # -- AUTH -------------------------------------------------------------------------------------------------------

    async def _login(self, user: str, password: str) -> None:
        conversation = self._conversation
        conversation.logging_in, conversation.secrets = True, login.secrets(user, password)
        mechanisms = login.offered(self._offers.get("auth", ""))
        if not mechanisms:
            raise Failed(
                "authplain", "error", f"the receiver offers no login that we know: {self._offers.get('auth', '')}"
            )
        for name in mechanisms:
            self._login_by = name
            state, reply = await self._authenticate(name, user, password)
            if reply.code not in login.OTHER_MAY:
                break
        conversation.logging_in = False
        if classify(state, reply.code)[0] != "accepted":
            raise _refused(state, Reply(reply.code, self._hidden(reply.lines))).may_yet()

    async def _authenticate(self, mechanism: str, user: str, password: str) -> tuple[str, Reply]:
        """One mechanism, to its last answer; and what that was the answer to."""
        steps, challenge = login.MECHANISMS[mechanism](user, password), None
        states = login.STATES[mechanism]
        for step in range(login.STEPS):
            command, state = login.following(steps, challenge), states[min(step, len(states) - 1)]
            reply = await self._heard(state, self._answers.ask(command, self._patience))
            if reply.code != login.CHALLENGE:
                break
            challenge = reply.description
        return state, reply

    def _hidden(self, lines: list[bytes]) -> list[bytes]:
        return [login.masked(clean(line), self._conversation.secrets).encode() for line in lines]

    # -- one answer ---------------------------------------------------------------------------------------------------

    async def _step(self, state: str, answering: Awaitable[Came]) -> Came:
        """Await one answer; what is not a positive one becomes `Failed`."""
        came = await self._heard(state, answering)
        if isinstance(came, Reply) and classify(state, came.code)[0] != "accepted":
            raise _refused(state, came, handshake=self._in_tls(state))
        return came

    async def _heard(self, state: str, answering: Awaitable[Came]) -> Came:
        """Await one answer, whatever it is; what is none becomes `Failed`."""
        try:
            return await answering
        except TimeoutError:
            text = f"no time left for an answer: {state}"
            raise Failed(state, "timeout", text, handshake=self._in_tls(state)) from None
        except ssl.SSLError as error:
            raise Failed(state, "error", f"TLS: {reason(error)}", handshake=True) from None
        except OSError as error:
            text = f"connection lost: {reason(error)}"
            raise Failed(state, "lost", text, handshake=self._in_tls(state)) from None
        except ValueError as error:  # of a host's name, by TLS
            raise Failed(state, "error", str(error), handshake=True) from None

    def _in_tls(self, state: str) -> bool:
        """Whether it is TLS that may be to blame."""
        return state == "starttls" or (self._level > PLAIN and not state.startswith("auth"))


_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[0-9A-Za-z.:]{2,60}\]").fullmatch  # nothing that could be a command


def _refused(state: str, reply: Reply, *, handshake: bool = False) -> Failed:
    result, _ = classify(state, reply.code)
    if result == "accepted":  # positive, but not the answer to this
        reply, result = Reply(GARBLED, reply.lines), "invalid"
    return Failed(state, result, "", reply, handshake=handshake)
