"""Hooks: notices posted to web servers, at addresses that may be asked.

What a rule names must not reach what only this machine reaches: the address is looked up here, checked, and connected
to as it was checked; no redirect is followed. Allowed are public addresses and those of `alert-whitelist`. The path of
an address is secret, and stands in no error. Bounds: AT_ONCE posts, PATIENCE seconds each; of an answer only its status
is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

import httpx

from pipeline.sources.downloads import addresses, among, is_public, literal, proxy_of, request_to
from settings import Settings

AT_ONCE = 3  # a name server that is silent keeps a thread for each
PATIENCE = 10.0
LATER = frozenset((408, 425, 429))  # of 4xx, those that may pass
LONGEST_WAIT = 600.0  # seconds that a server may ask for


class NotPosted(Exception):
    """It could not be handed over. `again`: it may be later; `wait`: not before so many seconds."""

    def __init__(self, why: str, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(why)
        self.again, self.wait = again, wait


class Hooks:
    """Posts to web servers.

    Args:
        settings: `alert-whitelist`, `download-proxy`.
        context: which certificates are trusted; None: those of the system.
    """

    def __init__(self, settings: Settings, context: ssl.SSLContext | None = None) -> None:
        self._settings, self._context = settings, context
        self._places = asyncio.Semaphore(AT_ONCE)
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Nothing is posted any more."""
        if self._client is not None:
            await self._client.aclose()

    async def post(self, address: str, body: bytes, headers: dict[str, str]) -> None:
        """Hand it over once. Raises `NotPosted`, which names the server alone."""
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            raise NotPosted("its address is none that can be used", again=False) from None
        try:
            async with self._places, asyncio.timeout(PATIENCE):
                answer = await self._http.send(await self._request(url, body, headers), stream=True)
                await answer.aclose()
        except TimeoutError:
            raise NotPosted(f"{url.host} does not answer within {PATIENCE:g} s") from None
        except socket.gaierror as error:
            raise NotPosted(f"{url.host} cannot be looked up: {error.strerror}") from None
        except UnicodeError:  # of the look-up: a label that DNS cannot have
            raise NotPosted(f"{url.host[:80]} is no host name", again=False) from None
        except ssl.SSLError as error:
            raise NotPosted(f"{url.host}: {_plain(error)}") from None
        except (httpx.HTTPError, OSError) as error:
            raise NotPosted(f"{url.host}: {_plain(error)}") from None
        _judge(url.host, answer)

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            try:
                proxy = proxy_of(self._settings)
            except ValueError as error:
                raise NotPosted(str(error)) from None
            self._client = httpx.AsyncClient(
                proxy=proxy,
                verify=self._context or ssl.create_default_context(),
                timeout=PATIENCE,
                limits=httpx.Limits(max_keepalive_connections=0),  # a kept one is known by its IP, not by its name
                trust_env=False,
                headers={"User-Agent": "Mailrace"},
            )
        return self._client

    async def _request(self, url: httpx.URL, body: bytes, headers: dict[str, str]) -> httpx.Request:
        """To the address that was checked, in the name that was asked for; a proxy looks names up itself."""
        port = url.port or (443 if url.scheme == "https" else 80)
        proxied, listed = self._settings.download_proxy is not None, self._settings.alert_whitelist
        found = [ip] if (ip := literal(url.host)) is not None else [] if proxied else await addresses(url.host, port)
        usable = [ip for ip in found if is_public(ip) or among(ip, port, listed)]
        if found and not usable:
            raise NotPosted(f"{url.host} is no public address, and not in alert-whitelist", again=False)
        if proxied:
            return self._http.build_request("POST", url, content=body, headers=headers)
        return request_to(usable[0], self._http, "POST", url, body, **headers)


def _judge(host: str, answer: httpx.Response) -> None:
    code = answer.status_code
    if 200 <= code < 300:
        return
    if 300 <= code < 400:
        raise NotPosted(f"{host} answers {code}; no redirect is followed: give the address that it leads to", False)
    wait = answer.headers.get("retry-after", "")
    seconds = min(float(wait), LONGEST_WAIT) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 0.0
    raise NotPosted(f"{host} answers {code}", code >= 500 or code in LATER, seconds)


def _plain(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:200]
