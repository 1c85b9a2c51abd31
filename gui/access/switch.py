"""Switching: from one instance's console to another's, to the same view with the same filters.

`/instances/<id>` sends the browser there with a pass; `/enter` takes one, and begins a session.
"""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from gui.access.access import LIFETIME, Access
from gui.access.gate import local, session
from gui.access.passes import Passes
from gui.access.proxies import prefix
from pipeline.views.facade import Facade


def routes(facade: Facade, access: Access) -> APIRouter:
    """Both ends of it."""
    router, passes = APIRouter(), Passes(access, facade.settings.server_id)

    @router.get("/instances/{id}")
    async def leave(id: str, to: str = "/") -> Response:
        there = facade.cluster.at(id)
        if there is None or not there.url:
            return RedirectResponse(local(to), 303)
        given = await passes.make(there.id, there.url)
        return RedirectResponse(f"{there.url}/enter?{urlencode({'pass': given, 'to': local(to)})}", 303)

    @router.get("/enter")
    async def enter(request: Request, to: str = "/") -> Response:
        where, given = local(to), request.query_params.get("pass", "")
        if session(request.headers, access) is not None:
            return RedirectResponse(where, 303)
        if not await passes.admits(given, facade.cluster.own_url):
            return RedirectResponse(f"/login?{urlencode({'redirect_to': where})}", 303)
        answer = RedirectResponse(where, 303)
        path, secure = prefix(request.scope) + "/", request.url.scheme == "https"
        answer.set_cookie(
            access.cookie, access.begin(), max_age=LIFETIME, path=path, httponly=True, samesite="lax", secure=secure
        )
        return answer

    return router
