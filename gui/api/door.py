"""The door of the API: nothing under `/api` and `/v1` is reached without a token of the right scope.

The rest is the console's.

A pure ASGI middleware outside the console's gate, since programs have other keys, and are answered with problem
details. No cookie opens it, so no page of another site can use it; but who is logged in may read the documentation.
A right token is let in at any time, whatever others tried from its address; a wrong one is counted for who gave it.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Asked

from gui.access.access import Access
from gui.access.gate import Lasts, seen, session, with_headers
from gui.access.tokens import SCOPES, Scope, Token, Tokens
from gui.access.tries import TooManyTries
from gui.api.answers import problem

ROOTS = ("/api", "/v1")  # ours, and MailerQ's
DOCS = ("/api/docs", "/api/openapi.json")
SENDING = (("POST", "/api/v1/messages"), ("POST", "/v1/inject"))
TRYING = ("POST", "/api/v1/floods/try")  # changes nothing


class Door:
    """Lets through to `api` what has a token, and to `console` what is not for the API."""

    def __init__(self, console: ASGIApp, api: ASGIApp, tokens: Tokens, access: Access) -> None:
        self._console, self._api, self._tokens, self._access = console, api, tokens, access

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not any(path == root or path.startswith(root + "/") for root in ROOTS):
            await self._console(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = with_headers(scope, send, {"Cache-Control": "no-store"})
        token = self._tokens.find(headers.get("authorization", ""))
        answer = self._refusal(scope, headers, token)
        lasts = (lambda: self._tokens.lasts(token)) if token is not None else None
        seen(scope, lasts)
        if answer is not None:
            await answer(scope, receive, send)
            return
        if token is not None and self._tokens.note(token):
            self._tokens.keep_used()
        scope.setdefault("state", {})["holder"] = token.name if token else ""
        scope["state"]["scopes"] = token.scopes if token else ()
        await self._api(scope, receive, _while(lasts, send) if lasts is not None else send)

    def _refusal(self, scope: Asked, headers: Headers, token: Token | None) -> Response | None:
        if token is not None:
            needed = scope_of(scope["method"], scope["path"])
            if needed in token.scopes:
                return None
            return problem(403, f"This token may {' and '.join(token.scopes)}; this needs one that may {needed}.")
        if scope["path"] in DOCS and session(headers, self._access) is not None:
            return None
        if "authorization" in headers:
            client = (scope.get("client") or ("",))[0]
            wait = self._access.tries.wait(client)
            self._access.tries.failed(client)
            if wait:
                error = TooManyTries(wait)
                return problem(429, f"The token is not known. {error}", headers=error.headers)
        return _stranger(scope["path"], headers)


def scope_of(method: str, path: str) -> Scope:
    """What a token must be allowed, for a request."""
    if method in ("GET", "HEAD", "OPTIONS") or (method, path) == TRYING:
        return SCOPES[0]
    return SCOPES[2] if (method, path) in SENDING else SCOPES[1]


def _stranger(path: str, headers: Headers) -> Response:
    if path in DOCS and "text/html" in headers.get("accept", ""):
        return RedirectResponse(f"/login?redirect_to={quote(path, safe='')}", 303)
    detail = "The token is not known." if "authorization" in headers else "A token is needed."
    return problem(401, f"{detail} Send it as Authorization: Bearer.", headers={"WWW-Authenticate": "Bearer"})


def _while(lasts: Lasts, send: Send) -> Send:
    """A stream ends when its token does."""
    over = False

    async def sender(message: Message) -> None:
        nonlocal over
        if over:
            return
        if message["type"] == "http.response.body" and message.get("more_body") and not lasts():
            over, message = True, {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return sender
