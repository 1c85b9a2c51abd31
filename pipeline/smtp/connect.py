"""Making a connection: TCP from the MTA IP, greeting, EHLO, STARTTLS, EHLO again, AUTH (by aiosmtplib).

Pure in what it keeps: nothing. It ends with an open transport and what the receiver offered, or with `Failed`.
Each step has its time-out (RFC 5321 4.5.3.2), for the whole answer and not for each byte of it.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ssl
from collections.abc import Awaitable
from typing import cast

import msgspec
from aiosmtplib import SMTP, SMTPException, SMTPResponse, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from operators.delivery import Target
from operators.outcome import Next, Outcome
from operators.replies import GARBLED, Reply, ReplyParser, classify
from pipeline.dialogue import CLIENT, SERVER, Conversation, Watched
from pipeline.smtp.connection import Peer
from pipeline.smtp.tls import ENCRYPTED, NEEDED, PLAIN, VERIFIED, context, describe
from pipeline.smtp.transaction import capabilities

CONNECT, GREETING, COMMAND = 30.0, 300.0, 300.0  # seconds, before the factor
UNKNOWN_COMMAND = (500, 502, 504)  # to EHLO: the receiver may know HELO (RFC 5321 3.2)

# How long a receiver's address is passed over after it failed, seconds: (state, result) -> for all lanes.
# An answer of 5xx is the receiver's word on each message, and skips nothing; nor does what only one lane asks (TLS).
SKIP = {
    ("connect", "error"): 60.0,
    ("connect", "timeout"): 300.0,
    ("intro", "timeout"): 300.0,
    ("intro", "lost"): 60.0,
    ("intro", "invalid"): 60.0,
    ("intro", "error"): 30.0,
    ("ehlo", "timeout"): 300.0,
    ("ehlo", "lost"): 60.0,
}


class Wish(msgspec.Struct, frozen=True):
    """What is asked of a connection.

    Attributes:
        name: the EHLO name.
        security: off, opportunistic, required or verified.
        login: user name and password for AUTH.
        factor: multiplies the time-outs.
    """

    name: str
    security: str
    login: tuple[str, str] | None = None
    factor: float = 1.0


class Failed(Exception):
    """No connection. Carries the outcome, and whether another host may do better.

    Attributes:
        handshake: STARTTLS was refused, or the TLS handshake failed.
    """

    def __init__(self, state: str, result: str, text: str, reply: Reply | None = None, handshake: bool = False) -> None:
        super().__init__(text)
        next = classify(state, reply.code)[1] if reply is not None and result == "error" else Next.RETRY
        self.outcome = Outcome(
            state=state,
            result=result,
            next=next,
            code=reply.code or None if reply is not None else None,
            status=reply.status if reply is not None else None,
            description=reply.description if reply is not None else text,
        )
        self.handshake = handshake
        self.other_host = state not in ("bind", "auth")

    @property
    def skip(self) -> float:
        """Seconds to pass this address over."""
        if self.outcome.next is Next.FAIL:
            return 0.0
        return SKIP.get((self.outcome.state, self.outcome.result), 0.0)


class _Protocol(SMTPProtocol):
    """aiosmtplib's, which is lenient, beside our own parser, which sees what is no answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Watched, conversation: Conversation) -> None:
        super().__init__(loop)
        self._owner, self._conversation = owner, conversation
        self.parser = ReplyParser()
        self.garbled: Reply | None = None

    def write(self, data: bytes) -> None:
        super().write(data)
        if self._owner.watch is not None:
            self._owner.watch.line(self._conversation, CLIENT, data)

    def data_received(self, data: bytes) -> None:
        if self._owner.watch is not None:
            self._owner.watch.line(self._conversation, SERVER, data)
        for reply in self.parser.feed(data):
            if reply.code == GARBLED:
                self.garbled = reply
        if self.garbled is not None and self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()
            return
        super().data_received(data)


class Dialogue:
    """The steps from a TCP connection to one that is ready for mail."""

    def __init__(self, target: Target, ip: str, wish: Wish, owner: Watched, conversation: Conversation) -> None:
        self._target, self._ip, self._wish = target, ip, wish
        self._owner, self._conversation = owner, conversation
        self._patience = COMMAND * wish.factor
        self._smtp = SMTP(timeout=self._patience)
        self._level = PLAIN

    async def open(self) -> tuple[asyncio.Transport, Peer]:
        """Connect.

        Raises:
            Failed: with the outcome, where it cannot be done.
        """
        await self._dial()
        try:
            return await self._introduce()
        except BaseException:
            self._transport.abort()
            raise

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        self._protocol = _Protocol(loop, self._owner, self._conversation)
        source = (self._ip, 0) if self._ip else None
        host, port = self._target.address, self._target.port
        try:
            async with asyncio.timeout(CONNECT * self._wish.factor):
                transport, _ = await loop.create_connection(lambda: self._protocol, host, port, local_addr=source)
        except TimeoutError:
            raise Failed("connect", "timeout", f"{host}:{port} does not answer") from None
        except OSError as error:
            state = "bind" if error.errno == errno.EADDRNOTAVAIL else "connect"
            raise Failed(state, "error", f"{host}:{port}: {_reason(error)}") from None
        self._transport = transport
        self._smtp.protocol, self._smtp.transport = self._protocol, transport

    async def _introduce(self) -> tuple[asyncio.Transport, Peer]:
        greeting = await self._step("intro", self._protocol.read_response(GREETING * self._wish.factor))
        await self._hello()
        if self._wish.security != "off":
            await self._secure()
        if self._wish.login is not None:
            await self._login(*self._wish.login)
        transport = cast(asyncio.Transport, self._smtp.transport)
        if transport is None or transport.is_closing():
            raise Failed("ehlo", "lost", "connection lost after EHLO")
        tls = describe(transport, self._level == VERIFIED) if self._level else None
        return transport, Peer(
            capabilities=capabilities(self._smtp.esmtp_extensions),
            mta=greeting.message.split(maxsplit=1)[0][:255] if greeting.message.strip() else "",
            local_ip=transport.get_extra_info("sockname")[0],
            remote_ip=self._target.address,
            level=self._level,
            tls=tls,
            login=self._wish.login,
        )

    async def _hello(self) -> None:
        try:
            await self._step("ehlo", self._smtp.ehlo(hostname=self._wish.name))
        except Failed as failed:
            if failed.outcome.code not in UNKNOWN_COMMAND:
                raise
            await self._step("helo", self._smtp.helo(hostname=self._wish.name))

    async def _secure(self) -> None:
        if not self._smtp.supports_extension("starttls"):
            if NEEDED[self._wish.security] > PLAIN:
                raise Failed("starttls", "error", "STARTTLS is needed, and the receiver does not offer it")
            return
        verify = NEEDED[self._wish.security] == VERIFIED
        name = self._target.host.rstrip(".") or self._target.address
        starting = self._smtp.starttls(server_hostname=name, tls_context=context(verify))
        await self._step("starttls", starting)
        self._level = VERIFIED if verify else ENCRYPTED
        self._protocol.parser = ReplyParser()  # RFC 3207 4.2: what came in plain text is forgotten
        await self._hello()

    async def _login(self, user: str, password: str) -> None:
        conversation = self._conversation
        conversation.logging_in, conversation.secrets = True, _secrets(user, password)
        await self._step("auth", self._smtp.login(user, password))
        conversation.logging_in = False

    async def _step(self, state: str, answering: Awaitable[SMTPResponse]) -> SMTPResponse:
        """Await one answer; what is not a positive one becomes `Failed`."""
        try:
            response = await answering
            if classify(state, max(response.code, GARBLED))[0] != "accepted":
                raise SMTPResponseException(response.code, response.message)
        except (SMTPException, OSError, ValueError) as error:
            if self._protocol.garbled is not None:
                raise Failed(state, "invalid", "", self._protocol.garbled) from None
            raise _failure(state, error) from None
        return response


def _failure(state: str, error: Exception) -> Failed:
    """What went wrong at a stage."""
    tls = state == "starttls"
    if isinstance(error, SMTPResponseException):
        reply = Reply(max(error.code, GARBLED), [line.encode(errors="replace") for line in error.message.split("\n")])
        result, _ = classify(state, reply.code)
        if result == "accepted":  # positive, but not the answer to this
            reply.code, result = GARBLED, "invalid"
        return Failed(state, result, "", reply, handshake=tls)
    if isinstance(error, TimeoutError):
        return Failed(state, "timeout", f"no time left for an answer: {state}", handshake=tls)
    if isinstance(error, ssl.SSLError):
        return Failed(state, "error", f"TLS: {_reason(error)}", handshake=True)
    if isinstance(error, OSError):
        return Failed(state, "lost", f"connection lost: {_reason(error)}", handshake=tls)
    return Failed(state, "error", str(error), handshake=tls)


def _secrets(user: str, password: str) -> tuple[str, ...]:
    """What a receiver could repeat of a login, the longest first."""
    octets = [f"\0{user}\0{password}", f"{user}\0{user}\0{password}", password, user]
    forms = [password, *(base64.b64encode(one.encode()).decode() for one in octets)]
    return tuple(sorted((form for form in forms if form), key=len, reverse=True))


def _reason(error: OSError) -> str:
    return str(getattr(error, "verify_message", "") or error.strerror or error or type(error).__name__)[:300]
