"""The login by an OpenID Connect provider: the way there and back. What must come back with the browser is in a cookie.

The cookie is signed, for ten minutes and this browser alone; no state is kept here. Where the provider fails, the login
page says so, and the passwords of the console work as before.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from gui.access.access import OPENID_LIFETIME, Access
from gui.access.gate import local, step_of
from gui.access.openid import OpenId, OpenIdRefused, OpenIdUnavailable
from gui.access.proxies import here

if TYPE_CHECKING:
    from gui.access.login import LoginPage

MINUTES = 10
LONGEST = 2000  # characters of a code

log = structlog.get_logger("console")


def routes(page: LoginPage, access: Access, openid: OpenId, url: str) -> APIRouter:
    """Both ends of it.

    Args:
        page: the login page, for what goes wrong.
        url: the console's address for people; empty: as the request has it.
    """
    router = APIRouter()

    def back(request: Request) -> str:
        return f"{here(request, url)}/openid/back"

    def unavailable(request: Request, error: OpenIdUnavailable, where: str) -> Response:
        log.error("nobody can log in by OpenID Connect now", why=str(error))
        told = f"{openid.host} does not work for logins now; the program's log says why. A password works here."
        return page.form(request, told, 503, where)

    @router.get("/openid/login")
    async def begin(request: Request, redirect_to: str = "/") -> Response:
        where = local(redirect_to)
        try:
            step = await openid.begin(back(request))
        except OpenIdUnavailable as error:
            return unavailable(request, error, where)
        answer = RedirectResponse(step.url, 303)
        kept = access.steps.dumps([step.state, step.nonce, step.verifier, where[:500]])
        page.give(answer, request, access.step, str(kept), 60 * MINUTES)
        return answer

    @router.get("/openid/back")
    async def finish(request: Request) -> Response:
        query = request.query_params
        kept = access.kept_step(step_of(request.headers, access), 60 * MINUTES)
        if kept is None or not secrets.compare_digest(kept[0].encode(), query.get("state", "").encode()):
            return page.form(request, "This login has taken too long, or was begun elsewhere; try again.", 400)
        _, nonce, verifier, where = kept
        if error := query.get("error", ""):
            return page.form(request, f"{openid.host} did not let you in: {error[:100]}", 403, where)
        code = query.get("code", "")[:LONGEST]
        try:
            user = await openid.finish(code, back(request), nonce, verifier, query.get("iss", ""))
        except OpenIdRefused as error:
            log.warning("a login by OpenID Connect was refused", why=str(error))
            return page.form(request, f"You are not let in: {error}.", 403, where)
        except OpenIdUnavailable as error:
            return unavailable(request, error, where)
        answer = RedirectResponse(where, 303)
        page.give(answer, request, access.cookie, access.begin(user.name, user.role), OPENID_LIFETIME)
        page.give(answer, request, access.step, "", 0)
        return answer

    return router
