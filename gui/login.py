"""Login and logout: one small form, without script, and the cookie that it earns."""

from __future__ import annotations

import html
import string
from pathlib import Path
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from gui.access import COOKIE, LIFETIME, Access, minutes
from gui.gate import local, session

MOST = 4096  # bytes of a login form
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
        )
        return HTMLResponse(page, status, {"Retry-After": str(int(wait) + 1)} if wait else None)

    @router.get("/login")
    async def show(request: Request, redirect_to: str = "/") -> Response:
        if access.valid(session(request.headers)):
            return RedirectResponse(local(redirect_to), 303)
        return form(request, where=local(redirect_to))

    @router.post("/login")
    async def enter(request: Request) -> Response:
        client = request.client.host if request.client else ""
        fields = parse_qs((await _body(request)).decode(errors="replace"))
        where = local(fields.get("redirect_to", ["/"])[0])
        if wait := access.tries.wait(client):
            return form(request, f"Too many failed tries. Try again in {minutes(wait)}.", 429, where, wait)
        access.tries.failed(client)  # until it has succeeded, so that tries at the same time count too
        if not await access.check(fields.get("password", [""])[0]):
            log.warning("a login failed", client=client)
            wait = access.tries.wait(client)
            later = f" The next try is possible in {minutes(wait)}." if wait else ""
            return form(request, "That is not the password." + later, 401, where)
        access.tries.succeeded(client)
        answer = RedirectResponse(where, 303)
        answer.set_cookie(
            COOKIE,
            access.begin(),
            max_age=LIFETIME,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        access.end(session(request.headers) or "")
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https")
        return answer

    return router


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST:
            return b""
    return body


TEMPLATE = (Path(__file__).parent / "static" / "login.html").read_text()
