"""downloads: the files of `attachments[].url`, over HTTP and HTTPS, from addresses that may be asked.

A message must not reach what only this machine reaches: each address, also behind a redirect, is looked up here,
checked, and connected to as it was checked. Allowed are public addresses and those of `download-whitelist`, less those
of `download-blacklist`. Bounds: AT_ONCE downloads, `download-maxsize` octets and `download-timeout` seconds for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterable

import httpx

from operators.mail.unmade import Unmade
from pipeline.sources.kept import Kept, Unfetched
from settings import Settings
from settings.config.values import PROXIES, Place

AT_ONCE = 10
KEPT = 32_000_000  # octets of files
REDIRECTS = 5
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind it
_AGAIN = frozenset((408, 425, 429))  # of 4xx, those that may pass

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Downloads:
    """Fetches files for mails.

    Args:
        settings: the keys `download-*`.
        clock: monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(AT_ONCE)
        self._client: httpx.AsyncClient | None = None
        self.get = Kept(self._get, KEPT, settings.download_ttl, clock)

    async def close(self) -> None:
        """No file is fetched any more."""
        if self._client is not None:
            await self._client.aclose()

    async def _get(self, address: str) -> bytes:
        """One file. Raises `Unfetched`, or `Unmade` where trying again is of no use."""
        shown = shown_address(address)
        try:
            async with self._places, asyncio.timeout(self._settings.download_timeout):
                return await self._followed(httpx.URL(address), shown)
        except httpx.InvalidURL:
            raise Unmade("responsive", f"{shown}: is no http:// or https:// address") from None
        except TimeoutError:
            raise Unfetched(f"{shown}: no answer in time") from None
        except (httpx.HTTPError, OSError) as error:
            raise Unfetched(f"{shown}: {str(error)[:200] or type(error).__name__}") from None

    async def _followed(self, url: httpx.URL, shown: str) -> bytes:
        for _ in range(REDIRECTS + 1):
            if url.scheme not in ("http", "https") or not url.host:
                raise Unmade("responsive", f"{shown}: is no http:// or https:// address")
            async with self._answer(await self._request(url, shown)) as answer:
                if answer.is_redirect and (where := answer.headers.get("location")):
                    url = url.join(where)
                    continue
                return await self._body(answer, shown)
        raise Unmade("responsive", f"{shown}: redirects more than {REDIRECTS} times")

    @contextlib.asynccontextmanager
    async def _answer(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        answer = await self._http.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            try:
                proxy = proxy_of(self._settings)
            except ValueError as error:
                raise Unfetched(str(error)) from None
            self._client = httpx.AsyncClient(
                proxy=proxy,
                timeout=self._settings.download_timeout,
                limits=httpx.Limits(max_keepalive_connections=0),  # a kept one is known by its IP, not by its name
                trust_env=False,
                headers={"User-Agent": self._settings.download_user_agent, "Accept-Encoding": "identity"},
            )
        return self._client

    async def _request(self, url: httpx.URL, shown: str) -> httpx.Request:
        """To the address that was checked, in the name that was asked for; a proxy looks names up itself."""
        port = url.port or (443 if url.scheme == "https" else 80)
        if self._settings.download_proxy is not None:
            if (ip := literal(url.host)) is not None:
                self._check([ip], port, shown)
            return self._http.build_request("GET", url)
        ip = self._check(await addresses(url.host, port), port, shown)
        return request_to(ip, self._http, "GET", url)

    def _check(self, found: Iterable[Ip], port: int, shown: str) -> Ip:
        """The first of these addresses that may be asked. Raises `Unmade` where there is none."""
        listed, barred = self._settings.download_whitelist, self._settings.download_blacklist
        for ip in found:
            allowed = is_public(ip) or among(ip, port, listed)
            if allowed and (not among(ip, port, barred) or among(ip, port, listed)):
                return ip
        raise Unmade("responsive", f"{shown}: is no public address, and not in download-whitelist")

    async def _body(self, answer: httpx.Response, shown: str) -> bytes:
        code, most = answer.status_code, self._settings.download_maxsize
        if code >= 500 or code in _AGAIN:
            raise Unfetched(f"{shown}: the server answers {code}")
        if code != 200:
            raise Unmade("responsive", f"{shown}: the server answers {code}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise Unmade("responsive", f"{shown}: is compressed, which was not asked for")
        found = bytearray()
        async for piece in answer.aiter_raw():
            found += piece
            if len(found) > most:
                raise Unmade("responsive", f"{shown}: is larger than download-maxsize, {most} bytes")
        return bytes(found)


def proxy_of(settings: Settings) -> str | None:
    """`download-proxy` as httpx takes it. Raises `ValueError`, without the login that it may have."""
    given = settings.download_proxy
    proxy = given.get_secret_value() if given is not None else None
    if proxy is not None and not proxy.startswith(PROXIES):
        raise ValueError("download-proxy: is not http(s)://host:port or socks://host:port")
    return f"socks5{proxy.removeprefix('socks')}" if proxy and proxy.startswith("socks:") else proxy


def request_to(
    ip: Ip, client: httpx.AsyncClient, method: str, url: httpx.URL, body: bytes | None = None, **headers: str
) -> httpx.Request:
    """A request that goes to this address, in the name that the URL has."""
    return client.build_request(
        method,
        url.copy_with(host=str(ip)),
        content=body,
        headers={**headers, "Host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": url.raw_host.decode("ascii").strip("[]")},
    )


def is_public(ip: Ip) -> bool:
    """Whether it is an address of the Internet, and so is one that it stands for."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(ip.packed[-4:])
        if inner is not None and not is_public(inner):
            return False
        if ip.ipv4_mapped is not None:
            return True
    return ip.is_global and not ip.is_multicast


def among(ip: Ip, port: int, places: Iterable[Place]) -> bool:
    inner = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return any(one in place.network and place.port in (None, port) for place in places for one in (ip, inner) if one)


async def addresses(host: str, port: int) -> list[Ip]:
    if (ip := literal(host)) is not None:
        return [ip]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found))


def literal(host: str) -> Ip | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def shown_address(address: str) -> str:
    """The address as an error may show it: without login and query, which may be secret."""
    scheme, separator, rest = address.partition("://")
    place, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return ascii(f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"[:200])[1:-1]
