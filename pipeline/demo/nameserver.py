"""A name server for a simulated internet: authoritative for what it is told, over UDP and TCP (RFC 1035).

Owns its zones, in memory. It follows aliases within them as a recursive server would, cuts UDP answers that are too
long, and can be told to fail in the ways that name servers fail.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import errno

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

ALIASES = 20  # that an answer follows; a circle of them comes back as it is
UDP_PAYLOAD = 512  # bytes, where the client does not offer more (RFC 1035 4.2.1)


class DnsTrouble(enum.StrEnum):
    """How a name server can fail for a name."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENCE = "silence"
    GARBAGE = "garbage"


class NameServer:
    """Answers for the records it was given; everything else does not exist."""

    def __init__(self, negative_ttl: int = 300) -> None:
        self.queries: collections.Counter[tuple[str, str]] = collections.Counter()  # by name and type
        self.over_tcp = 0
        self.address = ""
        self.port = 0
        self._negative_ttl = negative_ttl
        self._records: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
        self._names: set[dns.name.Name] = set()  # with those above them
        self._trouble: dict[dns.name.Name, DnsTrouble] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    # -- zones ------------------------------------------------------------------------------------------------------

    def add(self, name: str, kind: str, *records: str, ttl: int = 300) -> None:
        """Publish records of one type for a name, instead of those before. Without records: the name alone."""
        owner = _name(name)
        if records:
            rrset = dns.rrset.from_text(owner, ttl, "IN", kind, *records)
            self._records[owner, rrset.rdtype] = rrset
        while owner != dns.name.root:
            self._names.add(owner)
            owner = owner.parent()

    def trouble(self, name: str, trouble: DnsTrouble | None) -> None:
        """Fail whatever is asked about this name; None ends it."""
        if trouble is None:
            self._trouble.pop(_name(name), None)
        else:
            self._trouble[_name(name)] = trouble

    # -- answers ----------------------------------------------------------------------------------------------------

    def answer(self, wire: bytes, over_tcp: bool = False) -> bytes | None:
        """The reply to a query as it goes on the wire; None: silence."""
        try:
            query = dns.message.from_wire(wire)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries[question.name.to_text(omit_final_dot=True).lower(), kind] += 1
        self.over_tcp += over_tcp
        trouble = self._trouble.get(question.name)
        if trouble is DnsTrouble.SILENCE:
            return None
        if trouble is DnsTrouble.GARBAGE:
            return wire[:2] + b"\x81\x80garbage"
        response = dns.message.make_response(query, recursion_available=True)
        if trouble is not None:
            response.set_rcode(dns.rcode.from_text(trouble.value.upper()))
        else:
            self._fill(response, question.name, question.rdtype)
        most = 65535 if over_tcp else max(query.payload, UDP_PAYLOAD)
        return response.to_wire(max_size=most, prefer_truncation=True)  # sets TC (RFC 1035 4.2.1)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(ALIASES):
            if found := self._records.get((name, kind)):
                response.answer.append(found)
                return
            alias = self._records.get((name, dns.rdatatype.CNAME))
            if alias is None:
                break
            if alias in response.answer:
                return
            response.answer.append(alias)
            name = alias[0].target
        if name not in self._names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = f"ns.test. hostmaster.test. 1 7200 900 1209600 {self._negative_ttl}"
        zone = dns.name.from_text(name.labels[-2].decode("ascii", "replace")) if len(name) > 1 else name
        response.authority.append(dns.rrset.from_text(zone, self._negative_ttl, "IN", "SOA", soa))

    # -- sockets ----------------------------------------------------------------------------------------------------

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on UDP and TCP, on the same port; 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        for attempt in range(20):
            self._tcp = await asyncio.start_server(self._stream, address, port)
            self.address, self.port = self._tcp.sockets[0].getsockname()[:2]
            try:
                self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Datagrams(self), (address, self.port)
                )
                return
            except OSError as error:
                self._tcp.close()
                if port or error.errno != errno.EADDRINUSE or attempt == 19:
                    raise

    async def stop(self) -> None:
        """Listen no more."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            await self._tcp.wait_closed()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                reply = self.answer(await reader.readexactly(length), over_tcp=True)
                if reply is not None:
                    writer.write(len(reply).to_bytes(2, "big") + reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.answer(data)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text.lower())
