"""Login and logout: one small form, without script, and the cookies that it earns.

One is the session. The other lets the browser be known again, so that tries of others at its address, or behind the
same proxy, do not keep it out.
"""

from __future__ import annotations

import html
import string
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from gui.access import openid_login
from gui.access.access import LIFETIME, REMEMBERED, Access
from gui.access.gate import browser_of, local, session
from gui.access.openid import OpenId
from gui.access.proxies import here, prefix
from gui.access.tries import FREE_TRIES, TooManyTries
from gui.access.users import CONSOLE, AuthUnavailable

MOST = 4096  # bytes of a login form
MOST_FIELDS = 20
SAID = 10.0  # seconds
log = structlog.get_logger("console")


class LoginPage:
    """The login page of a console.

    Args:
        openid: the provider that people may log in by.
    """

    def __init__(self, access: Access, instance: str, version: str, openid: OpenId | None = None) -> None:
        self._access, self._instance, self._version, self._openid = access, instance, version, openid

    def form(
        self,
        request: Request,
        error: str = "",
        status: int = 200,
        where: str = "/",
        wait: float = 0,
        name: str = "",
        said: str = "",
    ) -> HTMLResponse:
        """The page; `said` is HTML of our own."""
        named = bool(self._access.users.all() or self._access.users.external)
        page = string.Template(TEMPLATE).substitute(
            instance=html.escape(self._instance),
            error=f'<p class="error" role="alert" id="error">{html.escape(error)}</p>' if error else "",
            described='aria-describedby="error" aria-invalid="true"' if error else "",
            where=html.escape(where),
            user=string.Template(USER).substitute(name=html.escape(name)) if named else UNNAMED,
            openid=said + self._by_provider(request, where),
            version=self._version,
            prefix=prefix(request.scope),
        )
        return HTMLResponse(page, status, {"Retry-After": str(int(wait) + 1)} if wait else None)

    def _by_provider(self, request: Request, where: str) -> str:
        if self._openid is None:
            return ""
        link = f"{prefix(request.scope)}/openid/login?{urlencode({'redirect_to': where})}"
        host = html.escape(self._openid.host)
        return f'<p class="openid"><a href="{html.escape(link)}">Log in with {host}</a></p>'

    @staticmethod
    def give(answer: Response, request: Request, name: str, value: str, seconds: int) -> None:
        """Set a cookie of ours."""
        path, secure = prefix(request.scope) + "/", request.url.scheme == "https"
        answer.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="lax", secure=secure)


def routes(access: Access, instance: str, version: str, openid: OpenId | None = None, url: str = "") -> APIRouter:
    """The login and logout of a console; `url`: its address for people, where a proxy gives it another."""
    router = APIRouter()
    page = LoginPage(access, instance, version, openid)
    form, give = page.form, page.give
    if openid is not None:
        router.include_router(openid_login.routes(page, access, openid, url))

    @router.get("/login")
    async def show(request: Request, redirect_to: str = "/") -> Response:
        if session(request.headers, access) is not None:
            return RedirectResponse(local(redirect_to), 303)
        return form(request, where=local(redirect_to))

    @router.post("/login")
    async def enter(request: Request) -> Response:
        client = request.client.host if request.client else ""
        fields = parse_qs((await _body(request)).decode(errors="replace"), max_num_fields=MOST_FIELDS)
        name = fields.get("username", [""])[0].strip()[:60]
        name = CONSOLE if name in ("", UNUSED) else name
        where, browser = local(fields.get("redirect_to", ["/"])[0]), browser_of(request.headers, access)
        try:
            right = await access.guess(fields.get("password", [""])[0], client, browser, name)
        except TooManyTries as error:
            return form(request, str(error), 429, where, error.wait, name)
        except AuthUnavailable as error:
            log.error("nobody can be let in by www-auth now", why=str(error).replace("smtp-auth", "www-auth"))
            return form(request, "Names cannot be checked now; the program's log says why.", 503, where, 10, name)
        if not right:
            failed.say(client)
            wrong = "That is not the password." if name == CONSOLE else "That is not the name and its password."
            return form(request, wrong, 401, where, name="" if name == CONSOLE else name)
        answer = RedirectResponse(where, 303)
        give(answer, request, access.cookie, access.begin(name), LIFETIME)
        give(answer, request, access.browser, access.recognise(browser), REMEMBERED)
        return answer

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        cookie = session(request.headers, access)
        provider = openid if access.granted(cookie) is not None else None
        await access.end(cookie or "")
        answer: Response = RedirectResponse("/login", 303)
        if provider is not None and (there := await provider.goodbye(f"{here(request, url)}/login")):
            link = f'<a href="{html.escape(there)}">Log out at {html.escape(provider.host)} too</a>'
            answer = form(request, said=f'<p role="status">You are logged out here. {link}</p>')
        give(answer, request, access.cookie, "", 0)
        return answer

    failed = _Failed()
    return router


class _Failed:
    """Failed logins in the log: at most one line each SAID seconds for all, with how many there were."""

    def __init__(self) -> None:
        self._last, self._count = -SAID, 0

    def say(self, client: str) -> None:
        """One more."""
        self._count += 1
        now = time.monotonic()
        if self._count <= FREE_TRIES or now - self._last >= SAID:
            log.warning("a login failed", client=client, since_the_last_line=self._count)
            if now - self._last >= SAID:
                self._last, self._count = now, 0


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST:
            return b""
    return body


UNUSED = "mailrace"  # what the form says as a name where there are no users, for password managers
UNNAMED = f'<input type="text" name="username" value="{UNUSED}" autocomplete="username" hidden />'
USER = (
    '<label for="username">Name <small>(empty: the console\'s own password)</small></label>'
    '<input id="username" name="username" type="text" autocomplete="username" value="$name" maxlength="60" />'
)
TEMPLATE = (Path(__file__).parents[1] / "static" / "login.html").read_text()
