"""The gate in front of everything that the console serves: sessions, origins, and the headers of every answer.

A pure ASGI middleware, so that it sees websockets and socket.io's polling as well as pages. It keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gui.access import COOKIE, Access, TooManyTries

OPEN = ("/login", "/healthz", "/readyz", "/static/", "/favicon.ico")  # answered without a session
TOKEN = ("/metrics", "/api/")  # for programs: a bearer token will do
SAFE = ("GET", "HEAD", "OPTIONS")

# Vue compiles its templates in the browser, hence 'unsafe-eval'; the page starts from inline scripts. Event handlers
# in attributes, which is how data could become script, are forbidden.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; script-src-attr 'none'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Gate:
    """Lets through what has a session and comes from our own pages.

    Args:
        holder: whose token an `Authorization` header carries, or None.
    """

    def __init__(self, app: ASGIApp, access: Access, holder: Callable[[str], str | None]) -> None:
        self._app, self._access, self._holder = app, access, holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers)
        if answer is None:
            await self._app(scope, receive, _with_headers(scope, send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, _with_headers(scope, send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What to answer in place of the page, or None."""
        path = scope["path"]
        if not self._own(scope, headers):
            return PlainTextResponse("This request comes from another site.\n", 403)
        if path in OPEN or path.startswith("/static/") or self._access.valid(session(headers)):
            return None
        if path.startswith(TOKEN):
            client, given = (scope.get("client") or ("",))[0], headers.get("authorization", "")
            try:
                if self._access.tries.holder(client, given, self._holder) is not None:
                    return None
            except TooManyTries as error:
                return PlainTextResponse(f"{error}\n", 429, error.headers)
            return PlainTextResponse("Log in, or send a token of the API.\n", 401, {"WWW-Authenticate": "Bearer"})
        if scope["type"] == "http" and scope["method"] in SAFE and not path.startswith("/_nicegui"):
            where = path + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
            return RedirectResponse("/login" if where == "/" else f"/login?redirect_to={quote(where, safe='')}", 303)
        return PlainTextResponse("Log in first.\n", 401)

    @staticmethod
    def _own(scope: Scope, headers: Headers) -> bool:
        """A request that changes something, or opens a socket, must come from our own pages.

        A browser says where it comes from; a program that says nothing has no cookie of somebody else's.
        """
        origin = headers.get("origin")
        if scope["type"] == "http" and scope["method"] in SAFE and not scope["path"].startswith("/_nicegui_ws"):
            return True
        return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def session(headers: Headers) -> str | None:
    """The session's cookie in these headers."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def local(path: str | None) -> str:
    """Where to go after the login: a path of this console, whatever the link said."""
    parts = urlsplit(path or "/")
    ours = path and path.startswith("/") and not path.startswith(("//", "/\\", "/login", "/_nicegui"))
    if not ours or parts.netloc or parts.scheme or any(ord(letter) < 32 or letter == "\\" for letter in path or ""):
        return "/"
    return path or "/"


def _with_headers(scope: Scope, send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if scope["scheme"] == "https":
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            if "text/html" in headers.get("content-type", ""):
                headers["Cache-Control"] = "no-store"  # a page behind a login is nobody else's to keep
        await send(message)

    return sender
