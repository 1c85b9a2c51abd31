"""HEAD, OPTIONS and 405, the same for every address (RFC 9110 9.3 and 15.5.6).

HEAD is answered as GET is, without the body; OPTIONS, and the refusal of a method, list all methods of the address.
A pure ASGI middleware, directly around an application with routes. It keeps nothing.
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Methods:
    """Answers HEAD and OPTIONS, and completes `Allow`."""

    def __init__(self, app: ASGIApp, routes: Router) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
        elif scope["method"] == "HEAD":
            head = _Head(receive, send)
            await self._app({**scope, "method": "GET"}, head.receive, head.send)
        else:
            await self._app(scope, receive, self._completed(scope, send))

    def _completed(self, scope: Scope, send: Send) -> Send:
        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                MutableHeaders(scope=message)["Allow"] = self._allowed(scope)
            await send(message)

        return sender

    def _allowed(self, scope: Scope) -> str:
        return allowed(self._routes, scope)


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
        if match is not Match.FULL:
            continue
        if not isinstance(route, Mount):
            return True
        inner = getattr(route.app, "routes", None)
        if _takes(inner, {**scope, **child}) if inner else scope["method"] == "GET":
            return True
    return False
