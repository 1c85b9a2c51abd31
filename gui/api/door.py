"""The door of the API: nothing under `/api` is reached without a token. The rest is the console's.

A pure ASGI middleware outside the console's gate, since programs have other keys, and are answered with problem
details. No cookie opens it, so no page of another site can use it; but who is logged in may read the documentation.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gui.access import Access, TooManyTries
from gui.api.answers import problem
from gui.api.tokens import Tokens
from gui.gate import HEADERS, session

ROOT = "/api"
DOCS = ("/api/docs", "/api/openapi.json")


class Door:
    """Lets through to `api` what has a token, and to `console` what is not for the API."""

    def __init__(self, console: ASGIApp, api: ASGIApp, tokens: Tokens, access: Access) -> None:
        self._console, self._api, self._tokens, self._access = console, api, tokens, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == ROOT or path.startswith(ROOT + "/")):
            await self._console(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = _with_headers(scope, send)
        client, given = (scope.get("client") or ("",))[0], headers.get("authorization", "")
        try:
            holder = self._access.tries.holder(client, given, self._tokens.holder)
        except TooManyTries as error:
            await problem(429, str(error), headers=error.headers)(scope, receive, send)
            return
        if holder is None and not (path in DOCS and self._access.valid(session(headers))):
            await _refusal(path, headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["holder"] = holder or ""
        await self._api(scope, receive, send)


def _refusal(path: str, headers: Headers) -> Response:
    if path in DOCS and "text/html" in headers.get("accept", ""):
        return RedirectResponse(f"/login?redirect_to={quote(path, safe='')}", 303)
    detail = "The token is not known." if "authorization" in headers else "A token is needed."
    return problem(401, f"{detail} Send it as Authorization: Bearer.", headers={"WWW-Authenticate": "Bearer"})


def _with_headers(scope: Scope, send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in {**HEADERS, "Cache-Control": "no-store"}.items():
                headers.setdefault(name, value)
            if scope["scheme"] == "https":
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await send(message)

    return sender
