"""Warm-ups over the API: how each MTA IP stands, and hold, go-on, advance and reset."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from gui.api.answers import Json
from gui.api.context import Context, who
from gui.api.schema import answer, body
from pipeline.views.warming import WarmupAction, WarmupProgress
from settings.rules.warming import Warmup


class OfMtaIp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MTA IP that is meant; empty: all of the rule."""

    ip: str | None = None


def routes(context: Context) -> APIRouter:
    """The routes; those of the rules themselves are as for every kind."""
    router, facade, of = APIRouter(), context.facade, context.schemas.of
    shown = answer(of(list[WarmupProgress]), "Each MTA IP: its day, today's cap and use, the curve")

    @router.get("/warmups/progress", tags=["warmups"], summary="How every MTA IP stands", responses=shown)
    async def progress() -> Response:
        return Json(facade.warmups.all())

    @router.post(
        "/warmups/{id}/{action}",
        tags=["warmups"],
        summary="hold: the day stays. go-on: it does not. advance: the next day now. reset: from the first day",
        openapi_extra=body(of(OfMtaIp)),
        responses=shown,
    )
    async def act(id: int, action: WarmupAction, request: Request) -> Response:
        wanted = await context.bodies.struct(request, OfMtaIp)
        rule = facade.store.get("warmups", id)
        assert isinstance(rule, Warmup)
        return Json(facade.warmups.act(rule, action, who(request), wanted.ip))

    return router
