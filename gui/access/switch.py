"""Switching: from one instance's console to another's, to the same view with the same filters.

`/instances/<id>` sends the browser there with a pass; `/enter` takes one, and begins a session. Where an instance is,
it has said itself on the exchange: so only our own pages lead there, not a link on another site.
"""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from gui.access.access import LIFETIME, Access
from gui.access.gate import local, session
from gui.access.login import LoginPage
from gui.access.passes import Passes
from gui.access.users import CONSOLE
from pipeline.views.facade import Facade


def routes(facade: Facade, access: Access) -> APIRouter:
    """Both ends of it."""
    router, passes = APIRouter(), Passes(access, facade.settings.server_id)

    @router.get("/instances/{id}")
    async def leave(request: Request, id: str, to: str = "/") -> Response:
        there = facade.cluster.at(id)
        foreign = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")  # a link elsewhere
        if there is None or not there.url or foreign:
            return RedirectResponse(local(to), 303)
        user = access.name(session(request.headers, access)) or CONSOLE
        given = await passes.make(there.id, there.url, user)
        return RedirectResponse(f"{there.url}/enter?{urlencode({'pass': given, 'to': local(to)})}", 303)

    @router.get("/enter")
    async def enter(request: Request, to: str = "/") -> Response:
        where, given = local(to), request.query_params.get("pass", "")
        if session(request.headers, access) is not None:
            return RedirectResponse(where, 303)
        if (user := await passes.admits(given, facade.cluster.own_url)) is None:
            return RedirectResponse(f"/login?{urlencode({'redirect_to': where})}", 303)
        answer = RedirectResponse(where, 303)
        LoginPage.give(answer, request, access.cookie, access.begin(user), LIFETIME)
        return answer

    return router
