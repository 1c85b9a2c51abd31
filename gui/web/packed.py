"""Packed: the console's files, compressed once for all browsers that ask for them.

A file is told by its path and ETag (which is made of time and size only, and an installation may give all files one
time); pages, events and the API have no ETag, and `GZipMiddleware` compresses them. Brotli (RFC 7932) takes a tenth off
what gzip takes. A thread compresses, because the loop carries mail. A browser that leaves ends the file that it was
given early: such a part is never kept, since all that come later would get it. Owner of: the compressed files. Bound:
MOST bytes of them; beyond that all are forgotten.
"""

from __future__ import annotations

import asyncio
import gzip
import re

import brotli
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST = 1000  # bytes; below that nothing is gained
MOST = 16 * 2**20
QUALITY = 6  # of 11: more takes seconds for a large file
REFUSED = re.compile(r"q *= *0(\.0*)?")  # a weight of zero: "not acceptable" (RFC 9110 12.4.2)
TYPES = ("text/javascript", "application/javascript", "text/css", "image/svg+xml", "application/json")


class PackedFiles:
    """Compresses files on their way to a browser that can unpack them (RFC 9110 12.5.3)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._packed: dict[tuple[str, str, str], bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = _encoding(scope)
        await self.app(
            scope, receive, send if encoding is None else _PackedResponse(self, scope["path"], encoding, send)
        )

    async def packed(self, path: str, etag: str, encoding: str, body: bytes) -> bytes:
        """The compressed form of a file, made at most once."""
        key = (path, etag, encoding)
        if (found := self._packed.get(key)) is None:
            found = await asyncio.to_thread(compressed, encoding, body)
            if sum(map(len, self._packed.values())) + len(found) > MOST:
                self._packed.clear()
            self._packed[key] = found
        return found


class _PackedResponse:
    """What an application sends for one request: a file is held until it is whole, the rest passes."""

    def __init__(self, files: PackedFiles, path: str, encoding: str, send: Send) -> None:
        self._files, self._path, self._encoding, self._send = files, path, encoding, send
        self._start: Message | None = None  # of a file
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_file(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        headers, body = MutableHeaders(raw=start["headers"]), bytes(self._body)
        if len(body) == int(headers["content-length"]):
            body = await self._files.packed(self._path, headers["etag"], self._encoding, body)
            headers["Content-Encoding"], headers["Content-Length"] = self._encoding, str(len(body))
            headers.add_vary_header("Accept-Encoding")
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _encoding(scope: Scope) -> str | None:
    """The better of the encodings that the client takes for a whole file; None where it takes none."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    headers = Headers(scope=scope)
    if "range" in headers:
        return None
    asked = [part.partition(";") for part in headers.get("accept-encoding", "").lower().split(",")]
    taken = {name.strip() for name, _, weight in asked if not REFUSED.fullmatch(weight.strip())}
    return next((name for name in ("br", "gzip") if name in taken), None)


def _is_file(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    large = int(headers.get("content-length", "0")) >= LEAST
    kind = headers.get("content-type", "").partition(";")[0]
    return (
        start["status"] == 200 and "etag" in headers and "content-encoding" not in headers and large and kind in TYPES
    )


def compressed(encoding: str, body: bytes) -> bytes:
    """Brotli for `br`, else gzip."""
    return brotli.compress(body, quality=QUALITY) if encoding == "br" else gzip.compress(body, 9)
