"""HEAD, OPTIONS and 405, the same for every address (RFC 9110 9.3 and 15.5.6).

HEAD is answered as GET is, without the body; OPTIONS, and the refusal of a method, list all methods of the address.
A pure ASGI middleware, directly around an application with routes. It keeps nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def in_words(method: str, path: str, allowed: str) -> Response:
    """What people are told who use a method that an address has not."""
    return PlainTextResponse(f"{method} is not for {path}; allowed are {allowed}.\n", 405)


class Methods:
    """Answers HEAD, OPTIONS, and methods that an address has not.

    Args:
        refuse: makes the answer to such a method, of the method, the path, and those that are allowed.
    """

    def __init__(self, app: ASGIApp, routes: Router, refuse: Callable[[str, str, str], Response] = in_words) -> None:
        self._app, self._routes, self._refuse = app, routes, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "GET":
            await self._app(scope, receive, send)
        elif scope["method"] == "HEAD":
            head = _Head(receive, send)
            with contextlib.suppress(_Enough, ClientDisconnect):
                await self._app({**scope, "method": "GET"}, head.receive, head.send)
        elif (answer := self._answer(scope)) is not None:
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        """To what is not for a route; an address without any route is the application's business."""
        methods, method = allowed(self._routes, scope), scope["method"]
        if not methods or (method != "OPTIONS" and method in methods.split(", ")):
            return None
        answer = Response(status_code=204) if method == "OPTIONS" else self._refuse(method, scope["path"], methods)
        answer.headers["Allow"] = methods
        return answer


class _Enough(OSError):
    """A stream need not go on: nobody reads its body."""


class _Head:
    """The answer to GET without its body; a stream is over as soon as it begins."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send, self._over = receive, send, False

    async def receive(self) -> Message:
        return {"type": "http.disconnect"} if self._over else await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
        elif message["type"] == "http.response.body" and not self._over:
            self._over = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif message.get("more_body"):
            raise _Enough


def allowed(router: Any, scope: Scope) -> str:
    """All methods of an address, for `Allow`; empty where there is nothing."""
    found = {method for method in METHODS if _takes(router.routes, {**scope, "method": method})}
    if not found:
        return ""
    return ", ".join(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))


def _takes(routes: list[BaseRoute], scope: Scope) -> bool:
    """Whether one of these routes takes this method at this address."""
    for route in routes:
        match, child = route.matches({**scope})
        if match is Match.FULL and _takes_here(route, {**scope, **child}):
            return True
    return False


def _takes_here(route: BaseRoute, scope: Scope) -> bool:
    if not isinstance(route, Mount):
        return True
    if isinstance(route.app, StaticFiles):
        return bool(scope["method"] == "GET")
    inner = getattr(route.app, "routes", None)
    return _takes(inner, scope) if inner else True
