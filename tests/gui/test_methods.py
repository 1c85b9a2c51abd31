"""HEAD, OPTIONS and 405."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from gui.api.methods import Methods


def client() -> TestClient:
    """An application with one address in two routes, one in a router, one in another application, and a stream."""
    router, app = APIRouter(), FastAPI()

    @app.get("/both")
    async def read() -> str:
        return "read"

    @app.post("/both")
    async def write() -> str:
        return "written"

    @router.delete("/inner/{id}")
    @router.get("/inner/{id}")
    async def inner(id: int) -> str:
        return "inner"

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"more"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(endless())

    app.include_router(router, prefix="/v1")
    mounted = Starlette(routes=[Route("/page", lambda request: PlainTextResponse("page"), methods=["GET", "PUT"])])
    app.router.routes.append(Mount("/", mounted))
    app.add_middleware(Methods, routes=app.router)
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/both", "GET, HEAD, OPTIONS, POST"), ("/v1/inner/1", "DELETE, GET, HEAD, OPTIONS"),
     ("/page", "GET, HEAD, OPTIONS, PUT")],
)  # fmt: skip
def test_all_methods_of_an_address_are_listed(path: str, methods: str) -> None:
    """In the answer to OPTIONS, and in the refusal of another (K15)."""
    answer = client().options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, methods)
    answer = client().patch(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize("path", ["/both", "/v1/inner/1", "/page"])
def test_head_is_get_without_the_body(path: str) -> None:
    """The same status and length (K15)."""
    head, get = client().head(path), client().get(path)
    assert (head.status_code, head.headers["content-length"]) == (200, get.headers["content-length"])
    assert head.content == b""


def test_head_of_a_stream_ends() -> None:
    """Else it would be one without end (K15)."""
    assert client().head("/stream").status_code == 200


def test_where_there_is_nothing_options_says_so() -> None:
    """As GET does."""
    assert client().options("/nowhere").status_code == 404
