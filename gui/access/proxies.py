"""What a reverse proxy says of the client that it speaks for; believed from `www-trusted-proxies` alone.

A pure ASGI middleware in front of everything: afterwards the scope has the client's address, scheme and host, as if
there were no proxy. From anybody else these headers are taken away, so that nothing behind can believe them.

`X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`, or `Forwarded` (RFC 7239). The client is the last address
that is no trusted proxy. A proxy that sets one of the two and lets the client's other one through would let clients
choose their address: where the two name different clients, the request is refused, and the answer says why.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Sequence

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from settings.config.values import Network

Networks = Sequence[Network]
SAID = re.compile(rb"(?:x-forwarded-[a-z-]+|forwarded|x-real-ip)")
MOST = 20  # addresses in a chain of proxies
PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){1,8}")
HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# RFC 7239 4: pairs with semicolons, elements with commas; a value is a token or a quoted string.
_PAIR = re.compile(r'\s*([A-Za-z-]{1,20})=(?:"([^"\\]{0,300})"|([^\s",;]{0,300}))\s*')


class Misleading(ValueError):
    """What a trusted proxy sent cannot be believed; the text says why."""


class Forwarding(msgspec.Struct):
    """What the proxy says; empty: nothing."""

    client: str = ""
    scheme: str = ""
    host: str = ""
    prefix: str = ""


class Proxies:
    """Puts the client in the place of a trusted proxy.

    Args:
        user: the field in which a trusted proxy names the user that it has let in.
    """

    def __init__(self, app: ASGIApp, trusted: Networks, user: str | None = None) -> None:
        self._app, self._trusted = app, trusted
        self._user = user.lower().encode() if user else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        said = [(name, value) for name, value in headers if SAID.fullmatch(name) or name == self._user]
        scope["headers"] = [pair for pair in headers if pair not in said] if said else headers
        if said and inside((scope.get("client") or ("",))[0], self._trusted):
            names = [value.decode("latin-1").strip() for name, value in said if name == self._user]
            said = [pair for pair in said if pair[0] != self._user]
            if len(names) == 1:  # two would let a client add one of its own
                scope.setdefault("state", {})["user"] = names[0]
            try:
                _believe(scope, self._read(said))
            except Misleading as error:
                await _refuse(scope, receive, send, str(error))
                return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or not all(HOST.fullmatch(host) for host in hosts):
            await _refuse(scope, receive, send, "Host: one host, or host and port, is allowed")  # RFC 9112 3.2
            return
        # Who goes before his request is whole is no fault of ours; the connection is closed.
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, receive, send)

    def _read(self, headers: list[tuple[bytes, bytes]]) -> Forwarding:
        """What these headers say together."""
        values = {name: _joined(headers, name) for name, _ in headers}
        said, forwarded = self._legacy(values), self._forwarded(values.get(b"forwarded", ""))
        if said.client and forwarded.client and said.client != forwarded.client:
            raise Misleading("X-Forwarded-For and Forwarded name different clients; let the proxy set or remove both")
        names = Forwarding.__struct_fields__
        return Forwarding(*(getattr(said, name) or getattr(forwarded, name) for name in names))

    def _legacy(self, values: dict[bytes, str]) -> Forwarding:
        host = _last(values.get(b"x-forwarded-host", ""))
        port = _last(values.get(b"x-forwarded-port", ""))
        if host and port and not re.search(r":[0-9]+$", host):
            host += f":{port}"
        return _checked(
            Forwarding(
                client=self._client(values.get(b"x-forwarded-for", "").split(",")) or self._real(values),
                scheme=_last(values.get(b"x-forwarded-proto", "")).lower(),
                host=host,
                prefix=_last(values.get(b"x-forwarded-prefix", "")).rstrip("/"),
            )
        )

    def _real(self, values: dict[bytes, str]) -> str:
        return self._client([values.get(b"x-real-ip", "")])

    def _forwarded(self, value: str) -> Forwarding:
        if not value:
            return Forwarding()
        elements = list(_elements(value))
        last = elements[-1]
        client = self._client([element.get("for", "") for element in elements])
        return _checked(Forwarding(client=client, scheme=last.get("proto", "").lower(), host=last.get("host", "")))

    def _client(self, chain: Sequence[str]) -> str:
        """The last address of a chain that is no trusted proxy; the first where all are."""
        found = ""
        for text in reversed(chain[-MOST:]):
            address = _address(text.strip())
            if address is None:  # `unknown`, or an obfuscated name (RFC 7239 6.3): nobody before it can be believed
                break
            found = address
            if not inside(address, self._trusted):
                break
        return found


def inside(host: str, networks: Networks) -> bool:
    """Whether an address is in one of these networks."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def prefix(scope: Scope) -> str:
    """The path under which a trusted proxy shows the console; empty without one."""
    return str(scope.get("state", {}).get("prefix", ""))


def here(request: Request, url: str) -> str:
    """The address of the console, as people have it. `url`: where it is configured; empty: as the request has it."""
    return url.rstrip("/") or f"{request.url.scheme}://{request.headers.get('host', '')}{prefix(request.scope)}"


def _believe(scope: Scope, said: Forwarding) -> None:
    """Change the scope to what it would be without the proxy."""
    if said.client:
        scope["client"] = (said.client, 0)
    if said.scheme:
        secure, socket = said.scheme in ("https", "wss"), scope["type"] == "websocket"
        scope["scheme"] = ("wss" if secure else "ws") if socket else ("https" if secure else "http")
    if said.host:
        others = [pair for pair in scope["headers"] if pair[0] != b"host"]
        scope["headers"] = [(b"host", said.host.encode()), *others]
    if said.prefix:
        scope.setdefault("state", {})["prefix"] = said.prefix
        scope["headers"] = [*scope["headers"], (b"x-forwarded-prefix", said.prefix.encode())]  # NiceGUI reads it there
        if scope["path"].startswith(said.prefix + "/"):  # a proxy that leaves it in the path
            scope["path"] = scope["path"].removeprefix(said.prefix)
            scope["raw_path"] = scope["path"].encode("utf-8", "surrogateescape")


def _checked(said: Forwarding) -> Forwarding:
    if said.scheme and said.scheme not in ("http", "https", "ws", "wss"):
        raise Misleading("X-Forwarded-Proto: allowed are http and https")
    if said.host and not HOST.fullmatch(said.host):
        raise Misleading("X-Forwarded-Host: is no host, or host and port")
    if said.prefix and not PREFIX.fullmatch(said.prefix):
        raise Misleading("X-Forwarded-Prefix: allowed is a path of letters, digits, dots, hyphens, underscores, tildes")
    return said


def _joined(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    """A field that comes several times is one list (RFC 9110 5.3)."""
    return ",".join(value.decode("latin-1") for found, value in headers if found == name)


def _last(text: str) -> str:
    """What the nearest proxy added."""
    return text.rpartition(",")[2].strip()


def _elements(value: str) -> Iterator[dict[str, str]]:
    """The elements of `Forwarded`, the last MOST of them."""
    found: dict[str, str] = {}
    place = 0
    while True:
        match = _PAIR.match(value, place)
        if match is None:
            raise Misleading("Forwarded: cannot be read")
        found[match[1].lower()] = match[2] if match[2] is not None else match[3]
        place = match.end()
        if place == len(value):
            yield found
            return
        if value[place] == ",":
            yield found
            found = {}
        elif value[place] != ";":
            raise Misleading("Forwarded: cannot be read")
        place += 1


def _address(text: str) -> str | None:
    """An address, whose port may stand with it: 192.0.2.1:80, [2001:db8::1]:80."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await PlainTextResponse(f"{why}.\n", 400)(scope, receive, send)
