"""The gate in front of everything that the console serves: sessions, origins, and the headers of every answer.

A pure ASGI middleware, so that it sees websockets and socket.io's polling as well as pages. It keeps nothing.
Cookies of others are taken away, since what is behind would parse them, in time that is quadratic in their length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gui.access.access import LIFETIME, Access
from gui.access.connections import Visit
from gui.access.proxies import prefix
from gui.access.tries import TooManyTries
from gui.access.users import CONSOLE, NAME

# answered without a session
OPEN = ("/login", "/enter", "/openid/login", "/openid/back", "/healthz", "/readyz", "/static/", "/favicon.ico")
NOWHERE = ("//", "/\\", "/login", "/enter", "/openid/", "/instances/", "/_nicegui")  # where no login leads
UNNAMED = ("/static/", "/healthz", "/readyz", "/metrics", "/api/", "/v1/", "/favicon.ico", "/_nicegui")  # are no pages
TOKEN = ("/metrics", "/api/", "/v1/")  # for programs: a bearer token will do
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
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
Lasts = Callable[[], bool]


class RequestGate:
    """Lets through what has a session and comes from our own pages.

    Args:
        reader: the name of the token in an `Authorization` header that may read; None where there is none.
        url: the address that the console has for people, where a proxy gives it another than it has here.
    """

    def __init__(self, app: ASGIApp, access: Access, reader: Callable[[str], str | None], url: str = "") -> None:
        self._app, self._access, self._reader = app, access, reader
        self._url = _origin(url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, cookie = Headers(scope=scope), session(Headers(scope=scope), self._access)
        browser = _cookie(headers, self._access.browser)
        ours = {self._access.cookie: cookie, self._access.browser: browser}
        if scope["path"].startswith("/openid/"):
            ours[self._access.step] = step_of(headers, self._access)
        scope["headers"] = _ours(scope["headers"], ours)
        lasts: Lasts | None = (lambda: self._access.valid(cookie)) if cookie is not None else None
        named = self._named(scope, cookie)
        answer = named or self._refusal(scope, headers, cookie)
        seen(scope, lasts if answer is None else None)
        if answer is not None:
            await _refuse(answer, scope, receive, with_headers(scope, send))
        elif scope["type"] == "websocket" and lasts is not None:
            await self._app(scope, _while(lasts, receive), send)
        else:
            await self._app(scope, receive, with_headers(scope, send))

    def _named(self, scope: Scope, cookie: str | None) -> Response | None:
        """A session for the user that a trusted proxy has let in: the page is asked for again, with its cookie."""
        user = str(scope.get("state", {}).get("user", ""))
        page = scope["type"] == "http" and scope["method"] == "GET" and not scope["path"].startswith(UNNAMED)
        if not page or not NAME.fullmatch(user) or user == CONSOLE or self._access.name(cookie) == user:
            return None
        query = "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
        answer = RedirectResponse("/" if scope["path"] == "/login" else scope["path"] + query, 303)
        under, secure = prefix(scope) + "/", scope["scheme"] == "https"
        begun = self._access.begin(user)
        answer.set_cookie(
            self._access.cookie, begun, max_age=LIFETIME, path=under, httponly=True, samesite="lax", secure=secure
        )
        return answer

    def _refusal(self, scope: Scope, headers: Headers, cookie: str | None) -> Response | None:
        """What to answer in place of the page, or None."""
        path = scope["path"]
        if not self._own(scope, headers):
            return PlainTextResponse(FOREIGN, 403)
        if cookie is not None:
            return None
        if scope["type"] == "http" and (path in OPEN or path.startswith("/static/")):
            return None
        if path.startswith(TOKEN):
            return self._token(scope, headers)
        if scope["type"] == "http" and scope["method"] in SAFE and not path.startswith("/_nicegui"):
            where = path + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
            return RedirectResponse("/login" if where == "/" else f"/login?redirect_to={quote(where, safe='')}", 303)
        return PlainTextResponse("Log in first.\n", 401)

    def _token(self, scope: Scope, headers: Headers) -> Response | None:
        client, given = (scope.get("client") or ("",))[0], headers.get("authorization", "")
        if given and self._reader(given) is not None:
            return None
        if given:
            wait = self._access.tries.wait(client)
            self._access.tries.failed(client)
            if wait:
                error = TooManyTries(wait)
                return PlainTextResponse(f"{error}\n", 429, error.headers)
        return PlainTextResponse("Log in, or send a token of the API.\n", 401, {"WWW-Authenticate": "Bearer"})

    def _own(self, scope: Scope, headers: Headers) -> bool:
        """A request that changes something, or opens a socket, must come from our own pages.

        A browser says where it comes from: by `Sec-Fetch-Site`, which knows the address that the browser used whatever
        a proxy made of it, or by `Origin`. A program that says nothing has no cookie of somebody else's.
        """
        if scope["type"] == "http" and scope["method"] in SAFE and not scope["path"].startswith("/_nicegui_ws"):
            return True
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        if origin is None:
            return True
        return _netloc(origin) == headers.get("host", "").lower() or (_origin(origin) or "none") == self._url


FOREIGN = (
    "This request comes from another site. Where a proxy stands before the console, www-url and www-trusted-proxies "
    "tell it its address.\n"
)


def session(headers: Headers, access: Access) -> str | None:
    """The cookie of a session that lasts; of several of the name (each path may have one) the first that does."""
    return next((value for value in _cookies(headers, access.cookie) if access.valid(value)), None)


def browser_of(headers: Headers, access: Access) -> str | None:
    """The cookie by which the browser is known."""
    return _cookie(headers, access.browser)


def step_of(headers: Headers, access: Access) -> str | None:
    """The cookie of a login by OpenID Connect that has begun."""
    return _cookie(headers, access.step)


def seen(scope: Scope, lasts: Lasts | None) -> None:
    """Tell the connection whether its request has a session or a token, and how to see whether it still is valid."""
    visit: Visit | None = scope.get("state", {}).get("visit")
    if visit is not None:
        visit.lasts = lasts


def local(path: str | None) -> str:
    """Where to go after the login: a path of this console, whatever the link said."""
    try:
        parts = urlsplit(path or "/")
    except ValueError:
        return "/"
    ours = path and path.startswith("/") and not path.startswith(NOWHERE)
    if not ours or parts.netloc or parts.scheme or any(ord(letter) < 32 or letter == "\\" for letter in path or ""):
        return "/"
    return path or "/"


def _origin(url: str) -> str:
    """Scheme, host and port of an address, in one form; empty where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}" if parts.hostname and port else ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower() or "none"
    except ValueError:
        return "none"


def _cookies(headers: Headers, name: str) -> list[str]:
    """The values of a cookie, as they stand there: ours have no quotes (RFC 6265 4.1.1)."""
    pairs = (pair.strip().partition("=") for line in headers.getlist("cookie") for pair in line.split(";"))
    return [value for found, _, value in pairs if found == name][:4]


def _cookie(headers: Headers, name: str) -> str | None:
    return next(iter(_cookies(headers, name)), None)


def _ours(headers: Collection[tuple[bytes, bytes]], cookies: dict[str, str | None]) -> list[tuple[bytes, bytes]]:
    """The headers with our cookies alone."""
    kept = [pair for pair in headers if pair[0] != b"cookie"]
    line = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
    return [*kept, (b"cookie", line.encode("latin-1"))] if line else kept


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await answer(scope, receive, send)


def _while(lasts: Lasts, receive: Receive) -> Receive:
    """What a socket's client says is heard while its session lasts; the connection is closed a little later."""

    async def heard() -> Message:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive" or lasts():
                return message

    return heard


def with_headers(scope: Scope, send: Send, more: dict[str, str] | None = None) -> Send:
    """Every answer has the headers that forbid what pages do not need."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in {**HEADERS, **(more or {})}.items():
                headers.setdefault(name, value)
            if scope["scheme"] == "https":
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            if "text/html" in headers.get("content-type", ""):
                headers["Cache-Control"] = "no-store"  # a page behind a login is nobody else's to keep
            _under(prefix(scope), headers)
        await send(message)

    return sender


def _under(prefix: str, headers: MutableHeaders) -> None:
    """A path of ours, where a proxy shows it under a path of its own; NiceGUI has put it there for its own pages."""
    where = headers.get("location", "")
    if prefix and where.startswith("/") and not where.startswith(prefix + "/"):
        headers["location"] = prefix + where
