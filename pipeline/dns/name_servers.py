"""The name servers, and how one question is asked of them: a stub resolver (RFC 1034 5.3.1) that learns.

Owns what is known of each server. A server that was silent is asked last for a while, so that not every question waits
for it. One that refuses EDNS (RFC 6891 7: FORMERR, NOTIMP, BADVERS, or silence) is asked without. A truncated answer is
fetched over TCP (RFC 7766 5); where no server speaks TCP, what came over UDP is better than nothing.

Bounds: QUESTIONS that are not YOUNG seconds old, and LATE older ones. So names whose servers are silent, however many,
do not hold up others.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.inet
import dns.message
import dns.rcode
import structlog

from pipeline.dns.packet import (
    AUTHORITATIVE,
    BADVERS,
    FORMERR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OFFERED,
    SERVFAIL,
    TRUNCATED,
    DnsReply,
    query,
    question,
    read,
)

QUESTIONS, LATE = 200, 1000  # at once: those asked within the last YOUNG seconds, and older ones
YOUNG = 0.3
PAYLOAD = 1232  # bytes of UDP answer (DNS flag day 2020); longer ones come over TCP
REST, LONGEST_REST = 30.0, 600.0  # seconds for which a silent server is asked last; doubled each time
PLAIN_AGAIN = 3600.0  # seconds after which EDNS is tried again
AGAIN = 0.5  # seconds until the only server is asked again that nobody listens at
LOOK = 2.0  # seconds between two looks at resolv.conf
RESOLV_CONF = Path("/etc/resolv.conf")
NO_EDNS = (FORMERR, NOTIMP, BADVERS)
ANSWERS = (NOERROR, NXDOMAIN)

log = structlog.get_logger(__name__)


class Unanswered(Exception):
    """No server gave a usable answer. `silent`: none said anything in time."""

    def __init__(self, why: str, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


class _Server:
    """One name server, and what is known of it. Times are monotonic seconds."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.heard_at = float("-inf")
        self.rests_until = float("-inf")
        self.rest = REST
        self.edns = False  # it has answered with EDNS
        self.plain_until = float("-inf")  # until when it is asked without EDNS

    def heard(self, now: float) -> None:
        self.heard_at, self.rests_until, self.rest = now, float("-inf"), REST

    def was_silent(self, since: float, now: float) -> None:
        """To a question asked then. Where it has answered others meanwhile, it is the name's servers that are."""
        if self.heard_at < since and self.rests_until < now:
            self.rests_until, self.rest = now + self.rest, min(2 * self.rest, LONGEST_REST)


class NameServers:
    """The servers that are configured, or those of resolv.conf, as it is now.

    Args:
        given: (address, port) of each; empty: those of resolv.conf.
        timeout: seconds to wait for one answer.
        attempts: questions before giving up, over all servers.
        clock: monotonic seconds.
        file: where the system's servers stand.
    """

    def __init__(
        self,
        given: Sequence[tuple[str, int]],
        timeout: float,
        attempts: int,
        clock: Callable[[], float] = time.monotonic,
        file: Path = RESOLV_CONF,
    ) -> None:
        self._timeout, self._attempts, self._clock, self._file = timeout, attempts, clock, file
        self._servers = [_Server(address, port) for address, port in dict.fromkeys(given)]
        self._follows = not given
        self._looked = float("-inf")
        self._seen: object = None
        self._young = asyncio.Semaphore(QUESTIONS)
        self._late = 0

    # -- which servers ----------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The servers, in the order of the configuration."""
        self._look()
        return [(server.address, server.port) for server in self._servers]

    def reread(self) -> None:
        """Look at resolv.conf before the next question."""
        self._looked, self._seen = float("-inf"), None

    def _look(self) -> None:
        """Follow resolv.conf; what it says is kept while it cannot be read, or says nothing."""
        now = self._clock()
        if not self._follows or now - self._looked < LOOK:
            return
        self._looked = now
        seen = _state(self._file)
        if seen == self._seen and self._servers:
            return
        self._seen = seen
        found = [(address, 53) for address in _read(self._file)]
        if not found and self._servers:
            return
        found = found or [("127.0.0.1", 53)]  # as the C library does
        known = {(server.address, server.port): server for server in self._servers}
        if list(known) != found:
            self._servers = [known.get(one) or _Server(*one) for one in found]
            log.info("name servers", servers=[address for address, _ in found])

    # -- one question -----------------------------------------------------------------------------------------------

    async def ask(self, name: str, kind: int) -> DnsReply:
        """The answer of the first server that has one: NOERROR or NXDOMAIN.

        Raises:
            Unanswered: no server has.
            ValueError: the name is none.
        """
        self._look()
        await self._young.acquire()
        place = _Place(self)
        try:
            return await _Question(self._servers, name, kind, self._timeout, self._attempts, self._clock).ask()
        finally:
            place.leave()

    def grow_old(self) -> bool:
        """A young question's place becomes a late one's; False where there is none."""
        if self._late >= LATE:
            return False
        self._late += 1
        self._young.release()
        return True

    def leave(self, late: bool) -> None:
        """A question has its answer, or none."""
        if late:
            self._late -= 1
        else:
            self._young.release()


class _Place:
    """One of the young questions' places; after YOUNG seconds one of the late ones', where there is any."""

    __slots__ = ("_late", "_servers", "_timer")

    def __init__(self, servers: NameServers) -> None:
        self._servers, self._late = servers, False
        self._timer = asyncio.get_running_loop().call_later(YOUNG, self._grow_old)

    def leave(self) -> None:
        self._timer.cancel()
        self._servers.leave(self._late)

    def _grow_old(self) -> None:
        self._late = self._servers.grow_old()


class _Question:
    """One question, while it is asked."""

    def __init__(
        self,
        servers: Sequence[_Server],
        name: str,
        kind: int,
        timeout: float,
        attempts: int,
        clock: Callable[[], float],
    ) -> None:
        self._question = question(name, kind)
        self._timeout, self._clock, self._tries = timeout, clock, max(attempts, len(servers))
        now = clock()
        self._servers = sorted(servers, key=lambda server: server.rests_until > now) if len(servers) > 1 else servers
        self._plain: set[_Server] = set()  # asked without EDNS from now on
        self._cut: DnsReply | None = None  # a truncated answer
        self._silent = True
        self._why = "no answer in time"

    async def ask(self) -> DnsReply:
        """See `NameServers.ask`. Each server in turn, until the attempts are used up or none is left."""
        left = list(self._servers)
        while left and self._tries > 0:
            for server in list(left):
                if self._tries <= 0:
                    break
                self._tries -= 1
                answer, again = await self._try(server)
                if answer is not None:
                    return answer
                if not again:
                    left.remove(server)
        if self._cut is not None and self._cut.records:
            return self._cut
        raise Unanswered(self._why, self._silent)

    async def _try(self, server: _Server) -> tuple[DnsReply | None, bool]:
        """(a usable answer, whether this server may be asked again)."""
        sent = self._clock()
        plain = server in self._plain or server.plain_until > sent
        try:
            reply = await self._exchange(server, plain)
        except TimeoutError:
            server.was_silent(sent, self._clock())
            if not plain and not server.edns:
                self._plain.add(server)  # it may be EDNS that it does not hear
            return None, True
        except ConnectionRefusedError:  # it may be starting anew
            self._say(f"{server.address}: nothing answers on port {server.port}")
            server.was_silent(sent, self._clock())
            if len(self._servers) == 1:
                await asyncio.sleep(min(AGAIN, self._timeout))
            return None, True
        except OSError as error:
            self._say(f"{server.address}: {error.strerror or type(error).__name__}")
            return None, False
        server.heard(self._clock())
        return await self._judge(server, reply, plain)

    async def _judge(self, server: _Server, reply: DnsReply, plain: bool) -> tuple[DnsReply | None, bool]:
        rcode = reply.rcode
        if not plain and (rcode in NO_EDNS or (rcode == SERVFAIL and not server.edns)):
            self._plain.add(server)
            self._say(f"{server.address}: {_rcode(rcode)}")
            return await self._try(server)
        if rcode not in ANSWERS:
            self._say(f"{server.address}: {_rcode(rcode)}")
            return None, False
        if plain and server in self._plain and not server.edns:
            server.plain_until = self._clock() + PLAIN_AGAIN  # learnt: with EDNS it would not have answered
        server.edns = server.edns or (not plain and reply.edns)
        if reply.flags & TRUNCATED:
            return await self._over_tcp(server, reply, plain)
        if _lame(reply):
            self._say(f"{server.address}: knows nothing of it, and asks nobody else")
            return None, False
        return reply, False

    async def _over_tcp(self, server: _Server, cut: DnsReply, plain: bool) -> tuple[DnsReply | None, bool]:
        try:
            reply = await self._tcp(server, plain)
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            self._cut = cut
            self._say(f"{server.address} over TCP: {getattr(error, 'strerror', None) or type(error).__name__}")
            return None, False
        if reply.rcode in ANSWERS:
            return reply, False
        self._cut = cut
        self._say(f"{server.address} over TCP: {_rcode(reply.rcode)}")
        return None, False

    async def _tcp(self, server: _Server, plain: bool) -> DnsReply:
        id = _id()
        asked = dns.message.from_wire(query(id, self._question, 0 if plain else PAYLOAD))
        said = await dns.asyncquery.tcp(asked, server.address, self._timeout, server.port)
        reply = read(said.to_wire(max_size=65535), id, self._question)
        if reply is None:
            raise ValueError("no answer to the question")
        return reply

    async def _exchange(self, server: _Server, plain: bool) -> DnsReply:
        """Over UDP, each question from a port of its own (RFC 5452 9.2)."""
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((server.address, server.port))
            return await self._datagram(sock, 0 if plain else PAYLOAD)

    async def _datagram(self, sock: socket.socket, payload: int) -> DnsReply:
        """What is no answer to this question, or nonsense, is waited out: anybody can send it."""
        loop, id = asyncio.get_running_loop(), _id()
        answer: asyncio.Future[DnsReply] = loop.create_future()

        def ready() -> None:
            try:
                reply = read(sock.recv(65535), id, self._question)
            except BlockingIOError:
                return
            except OSError as error:
                if not answer.done():
                    answer.set_exception(error)
                return
            if reply is not None and not answer.done():
                answer.set_result(reply)

        sock.send(query(id, self._question, payload))
        loop.add_reader(sock.fileno(), ready)
        timer = loop.call_later(self._timeout, _time_is_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            loop.remove_reader(sock.fileno())

    def _say(self, why: str) -> None:
        self._why, self._silent = why, False


def _lame(reply: DnsReply) -> bool:
    """It refers to other servers instead of answering: no recursion, and not its zone (RFC 1034 4.3.1)."""
    served = reply.flags & (AUTHORITATIVE | OFFERED)
    return reply.rcode == NOERROR and not reply.records and not served and reply.soa is None


def _id() -> int:
    """That nobody can guess (RFC 5452 9.2)."""
    return int.from_bytes(os.urandom(2), "big")


def _time_is_up(answer: asyncio.Future[DnsReply]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _rcode(number: int) -> str:
    return dns.rcode.to_text(dns.rcode.Rcode.make(number))


def _state(file: Path) -> object:
    """Changes when the file does, also where it is a link to another one."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size


def _read(file: Path) -> list[str]:
    """The addresses of its `nameserver` lines; its options are for programs that search short names."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    named = [found[1] for found in words if len(found) > 1 and found[0] == "nameserver"]
    return list(dict.fromkeys(filter(_is_address, named)))


def _is_address(text: str) -> bool:
    try:
        dns.inet.af_for_address(text)
    except ValueError:
        return False
    return True
