"""Login and logout: one small form, without script, and the cookies that it earns.

One is the session. The other lets the browser be known again, so that tries of others at its address, or behind the
same proxy, do not keep it out.
"""

from __future__ import annotations

import html
import string
import time
from pathlib import Path
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from gui.access.access import LIFETIME, REMEMBERED, Access
from gui.access.gate import browser_of, local, session
from gui.access.proxies import prefix
from gui.access.tries import FREE_TRIES, TooManyTries

MOST = 4096  # bytes of a login form
MOST_FIELDS = 20
SAID = 10.0  # seconds
log = structlog.get_logger("console")


def routes(access: Access, instance: str, version: str) -> APIRouter:
    """The login and logout of a console."""
    router = APIRouter()

    def form(request: Request, error: str = "", status: int = 200, where: str = "/", wait: float = 0) -> HTMLResponse:
        page = string.Template(TEMPLATE).substitute(
            instance=html.escape(instance),
            error=f'<p class="error" role="alert" id="error">{html.escape(error)}</p>' if error else "",
            described='aria-describedby="error" aria-invalid="true"' if error else "",
            where=html.escape(where),
            version=version,
            prefix=prefix(request.scope),
        )
        return HTMLResponse(page, status, {"Retry-After": str(int(wait) + 1)} if wait else None)

    def give(answer: Response, request: Request, name: str, value: str, seconds: int) -> None:
        path, secure = prefix(request.scope) + "/", request.url.scheme == "https"
        answer.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="lax", secure=secure)

    @router.get("/login")
    async def show(request: Request, redirect_to: str = "/") -> Response:
        if session(request.headers, access) is not None:
            return RedirectResponse(local(redirect_to), 303)
        return form(request, where=local(redirect_to))

    @router.post("/login")
    async def enter(request: Request) -> Response:
        client = request.client.host if request.client else ""
        fields = parse_qs((await _body(request)).decode(errors="replace"), max_num_fields=MOST_FIELDS)
        where, browser = local(fields.get("redirect_to", ["/"])[0]), browser_of(request.headers, access)
        try:
            right = await access.guess(fields.get("password", [""])[0], client, browser)
        except TooManyTries as error:
            return form(request, str(error), 429, where, error.wait)
        if not right:
            failed.say(client)
            return form(request, "That is not the password.", 401, where)
        answer = RedirectResponse(where, 303)
        give(answer, request, access.cookie, access.begin(), LIFETIME)
        give(answer, request, access.browser, access.recognise(browser), REMEMBERED)
        return answer

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        await access.end(session(request.headers, access) or "")
        answer = RedirectResponse("/login", 303)
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


TEMPLATE = (Path(__file__).parents[1] / "static" / "login.html").read_text()
