"""A receiving internet on loopback, as a process: SMTP on many addresses with latency and STARTTLS, and its DNS.

    python -m tests.bench.internet PORT DNS-PORT LATENCY-MS TLS(0/1) HOSTS COUNT-FILE CERTIFICATE

A domain's mail goes to one of HOSTS addresses, 127.10.x.y. COUNT-FILE holds the messages taken, 8 bytes, little-endian.
"""

from __future__ import annotations

import asyncio
import mmap
import pathlib
import ssl
import struct
import sys
import zlib

import uvloop

EHLO = ("mx.example", "PIPELINING", "8BITMIME", "SIZE 100000000")


def host_of(name: bytes, hosts: int) -> str:
    """Where a domain's mail goes."""
    number = zlib.crc32(name) % hosts
    return f"127.10.{number >> 8}.{number & 255 or 1}"


class Net:
    """What all connections share."""

    def __init__(self, latency: float, context: ssl.SSLContext | None, file: str) -> None:
        self.latency, self.context = latency, context
        path = pathlib.Path(file)
        path.write_bytes(bytes(8))
        with path.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 8)
        self._taken = 0

    def take(self) -> None:
        """One message more."""
        self._taken += 1
        struct.pack_into("<Q", self._memory, 0, self._taken)


class Receiver(asyncio.Protocol):
    """One connection; each answer comes `latency` later."""

    def __init__(self, net: Net, secured: bool = False) -> None:
        self.net, self.secured, self.data = net, secured, False
        self.buffer = bytearray()
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if not self.secured:
            self.say(b"220 mx.example ESMTP\r\n")

    def say(self, octets: bytes) -> None:
        self.loop.call_later(self.net.latency, self._write, octets)

    def _write(self, octets: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(octets)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answers = []
        while (end := self.buffer.find(b"\r\n.\r\n" if self.data else b"\r\n")) >= 0:
            line = bytes(self.buffer[:end])
            del self.buffer[: end + (5 if self.data else 2)]
            if self.data:
                self.data = False
                self.net.take()
                answers.append(b"250 2.0.0 Ok\r\n")
            elif line[:8].upper() == b"STARTTLS":
                self.loop.call_later(self.net.latency, lambda: self.loop.create_task(self._secure()))
                break
            else:
                answers.append(self._answer(line.upper()))
        if answers:
            self.say(b"".join(answers))

    def _answer(self, line: bytes) -> bytes:
        if line.startswith(b"EHLO"):
            words = [*EHLO, *(["STARTTLS"] if self.net.context and not self.secured else []), "ENHANCEDSTATUSCODES"]
            return "".join(f"250{'-' if word is not words[-1] else ' '}{word}\r\n" for word in words).encode()
        if line.startswith(b"DATA"):
            self.data = True
            return b"354 Go ahead\r\n"
        return b"221 2.0.0 Bye\r\n" if line.startswith(b"QUIT") else b"250 2.1.0 Ok\r\n"

    async def _secure(self) -> None:
        self._write(b"220 Go ahead\r\n")
        inside = Receiver(self.net, secured=True)
        try:
            transport = await self.loop.start_tls(self.transport, inside, self.net.context, server_side=True)  # type: ignore[arg-type]
        except OSError:
            return
        inside.connection_made(transport)  # type: ignore[arg-type]


class Zone(asyncio.DatagramProtocol):
    """Answers MX with `mx.` before the name, and A with the domain's host; everything else with nothing."""

    def __init__(self, hosts: int) -> None:
        self.hosts = hosts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, sender: object) -> None:
        labels, place = [], 12
        while size := data[place]:
            labels.append(data[place + 1 : place + 1 + size])
            place += size + 1
        kind, question = struct.unpack_from(">H", data, place + 1)[0], data[12 : place + 5]
        record = b""
        if kind == 15 and labels[0] != b"mx":
            record = b"\0\x0a\x02mx\xc0\x0c"
        elif kind == 1:
            record = bytes(map(int, host_of(labels[-2], self.hosts).split(".")))
        answer = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 3600, len(record)) + record if record else b""
        head = data[:2] + b"\x85\x80" + struct.pack(">HHHH", 1, bool(answer), 0, 0)
        self.transport.sendto(head + question + answer, sender)  # type: ignore[attr-defined]


async def serve(port: int, dns: int, latency: float, tls: bool, hosts: int, file: str, certificate: str) -> None:
    """Until it is killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context is not None:
        context.load_cert_chain(certificate)
    net, loop = Net(latency, context, file), asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Zone(hosts), local_addr=("127.0.0.1", dns))
    server = await loop.create_server(lambda: Receiver(net), "0.0.0.0", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    _, port, dns, latency, tls, hosts, file, certificate = sys.argv
    uvloop.run(serve(int(port), int(dns), int(latency) / 1000, tls == "1", int(hosts), file, certificate))
