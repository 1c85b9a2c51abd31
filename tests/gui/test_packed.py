"""The console's files are compressed once, for browsers that can unpack them."""

from __future__ import annotations

import gzip
import os
import pathlib

import brotli
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gui.web import packed
from gui.web.packed import PackedFiles

SCRIPT = b"const lanes = [];\n" * 500


@pytest.fixture
def client(tmp_path: pathlib.Path) -> httpx.AsyncClient:
    """As the console has them: packed files within what compresses the rest."""
    (tmp_path / "a.js").write_bytes(SCRIPT)
    (tmp_path / "a.png").write_bytes(SCRIPT)
    page = Route("/page", lambda request: PlainTextResponse("x" * 5000))
    app = Starlette(routes=[page, Mount("/static", StaticFiles(directory=tmp_path))])
    app.add_middleware(PackedFiles)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


async def raw(client: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, and its octets as they came."""
    async with client.stream("GET", path, headers={"accept-encoding": "", **headers}) as response:
        return response, b"".join([piece async for piece in response.aiter_raw()])


@pytest.mark.parametrize(
    ("accepts", "encoding", "unpack"),
    [
        ("gzip, deflate, br, zstd", "br", brotli.decompress),
        ("gzip;q=1.0", "gzip", gzip.decompress),
        ("", None, bytes),
        ("br;q=0, gzip;q=0.5", "gzip", gzip.decompress),
        ("br; q=0.000", None, bytes),
        ("br;q=0.001", "br", brotli.decompress),
    ],
)
async def test_a_file_comes_as_the_browser_can_unpack_it(client, accepts, encoding, unpack) -> None:  # type: ignore[no-untyped-def]
    """The better encoding of those that it takes, its length, never twice, none of weight 0 (RFC 9110 8.4, 12.4.2)."""
    response, body = await raw(client, "/static/a.js", **{"accept-encoding": accepts})
    assert response.headers.get("content-encoding") == encoding
    assert unpack(body) == SCRIPT
    assert response.headers["content-length"] == str(len(body))


async def test_files_of_one_size_and_time_are_not_taken_for_one_another(
    client: httpx.AsyncClient, tmp_path: pathlib.Path
) -> None:
    """Their ETags are equal: an installation may give all files one time."""
    for name, text in (("one.js", b"1" * 2000), ("two.js", b"2" * 2000)):
        (tmp_path / name).write_bytes(text)
        os.utime(tmp_path / name, (0, 0))
        _, body = await raw(client, f"/static/{name}", **{"accept-encoding": "br"})
        assert brotli.decompress(body) == text


async def test_a_file_is_compressed_once(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many browsers ask; and anew where it has changed."""
    made: list[bytes] = []
    pack = packed.compressed
    monkeypatch.setattr(packed, "compressed", lambda encoding, body: made.append(body) or pack(encoding, body))  # type: ignore[func-returns-value]
    for _ in range(3):
        _, body = await raw(client, "/static/a.js", **{"accept-encoding": "br"})
        assert brotli.decompress(body) == SCRIPT
    assert made == [SCRIPT]


async def test_a_file_that_was_cut_short_is_not_what_others_get() -> None:
    """A browser that leaves ends its own file early; who comes next has the whole one."""
    whole = False

    async def files(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-type": "text/javascript", "etag": '"1"', "content-length": str(len(SCRIPT))}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": SCRIPT if whole else SCRIPT[:3000]})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(PackedFiles(files)), base_url="http://x") as client:
        await raw(client, "/a.js", **{"accept-encoding": "br"})
        whole = True
        _, body = await raw(client, "/a.js", **{"accept-encoding": "br"})
    assert brotli.decompress(body) == SCRIPT


async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    """304, without a body (RFC 9110 15.4.5)."""
    first, _ = await raw(client, "/static/a.js", **{"accept-encoding": "br"})
    again, body = await raw(client, "/static/a.js", **{"accept-encoding": "br", "if-none-match": first.headers["etag"]})
    assert (again.status_code, body) == (304, b"")


async def test_a_part_of_a_file_and_what_is_packed_already_pass_as_they_are(client: httpx.AsyncClient) -> None:
    """A range is of the file's own octets; pictures gain nothing."""
    part, body = await raw(client, "/static/a.js", **{"accept-encoding": "br", "range": "bytes=0-9"})
    assert (part.status_code, body) == (206, SCRIPT[:10])
    picture, body = await raw(client, "/static/a.png", **{"accept-encoding": "br"})
    assert "content-encoding" not in picture.headers and body == SCRIPT


async def test_pages_are_compressed_as_before(client: httpx.AsyncClient) -> None:
    """They have no ETag: each is another."""
    response, body = await raw(client, "/page", **{"accept-encoding": "br, gzip"})
    assert response.headers["content-encoding"] == "gzip" and gzip.decompress(body) == b"x" * 5000


async def test_the_room_for_compressed_files_is_bounded(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit makes room by what was there."""
    monkeypatch.setattr(packed, "MOST", 10)
    for accepts in ("br", "gzip", "br"):
        response, _ = await raw(client, "/static/a.js", **{"accept-encoding": accepts})
        assert response.headers["content-encoding"] == accepts
