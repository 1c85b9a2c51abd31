"""Alerts over the API: what holds now and what was told, and a test of a rule."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gui.api.answers import Json
from gui.api.context import Context, who
from gui.api.schema import answer
from pipeline.views.alerting.alerts import AlertNotice, AlertsNow
from settings.rules.alerting import AlertRule


def routes(context: Context) -> APIRouter:
    """The routes; those of the rules themselves are as for every kind."""
    router, facade, of = APIRouter(), context.facade, context.schemas.of

    @router.get(
        "/alerts/now",
        tags=["alerts"],
        summary="What holds now, and the last notices",
        responses=answer(of(AlertsNow), "What holds, what was told, and what became of it"),
    )
    async def now() -> Response:
        return Json(facade.alerts.now())

    @router.post(
        "/alerts/{id}/test",
        tags=["alerts"],
        status_code=202,
        summary="Tell those whom a rule names that this is a test",
        responses=answer(of(AlertNotice), "The notice; `/alerts/now` says what became of it", 202),
    )
    async def test(id: int, request: Request) -> Response:
        rule = facade.store.get("alerts", id)
        assert isinstance(rule, AlertRule)
        return Json(facade.alerts.test(rule, who(request)), 202)

    return router
