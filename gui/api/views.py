"""What the views show: status, MTA IPs, domains, lanes, queues; and what can be done with a lane."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response

from gui.api.answers import Json, Problem
from gui.api.context import Context, who
from gui.api.schema import answer
from pipeline.views.bulk import BulkJob
from pipeline.views.cluster import WholeCluster
from pipeline.views.explain import Brief, Explained
from pipeline.views.facade import Facade, WorkerRow
from pipeline.views.figures import DomainErrors
from pipeline.views.queues import QueueFigures
from pipeline.views.state.destinations import SORTS, DomainPage
from pipeline.views.state.mta_ips import MtaIp
from pipeline.views.state.pauses import held_mail
from pipeline.views.verdict import Judged, judge


class MachineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The machine as a whole. `figures`: of the last 60 s, and now; `totals`: since the start; times: epoch seconds.

    `faults`: what is wrong now, a line each, the worst first.
    """

    instance: str
    time: float
    verdict: Judged
    figures: dict[str, int]
    totals: dict[str, int]
    troubles: list[DomainErrors]
    rules_available: bool
    faults: Sequence[str]
    warnings: list[str]


Order = Literal[SORTS]  # type: ignore[valid-type]


def routes(context: Context) -> APIRouter:
    """The routes of the views."""
    router = APIRouter()
    _machine(router, context)
    _lanes(router, context)
    return router


def status(facade: Facade) -> MachineStatus:
    """How things are."""
    figures, states = facade.figures(), facade.states()
    troubles = facade.telemetry.top_errors()
    return MachineStatus(
        instance=facade.settings.server_id,
        time=time.time(),
        verdict=judge(figures, troubles, states, held_mail(facade.store.snapshot.pauses, {}, facade.rules.held)),
        figures=figures,
        totals=facade.telemetry.totals(),
        troubles=troubles,
        rules_available=facade.store.available,
        faults=[state.text for state in states],
        warnings=facade.settings.warnings,
    )


def _machine(router: APIRouter, context: Context) -> None:
    facade, of = context.facade, context.schemas.of

    @router.get("/status", tags=["views"], summary="How things are", responses=answer(of(MachineStatus), "The machine"))
    async def now() -> Response:
        return Json(status(facade))

    @router.get("/ips", tags=["views"], summary="MTA IPs", responses=answer(of(list[MtaIp]), "Every address"))
    async def ips() -> Response:
        return Json(facade.ips.known())

    @router.get(
        "/workers",
        tags=["views"],
        summary="Its processes, where there are several",
        responses=answer(of(list[WorkerRow]), "Each"),
    )
    async def workers() -> Response:
        return Json(facade.workers())

    @router.get(
        "/cluster", tags=["views"], summary="The instances, and all together", responses=answer(of(WholeCluster), "All")
    )
    async def cluster() -> Response:
        return Json(await facade.cluster.fresh())

    @router.get("/domains", tags=["views"], summary="Destinations", responses=answer(of(DomainPage), "A page of them"))
    async def domains(
        sort: Order = "errors",
        descending: bool = True,
        containing: Annotated[str, Query(max_length=255)] = "",
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        return Json(await facade.destinations.page(sort, descending, containing, offset, limit))

    @router.get(
        "/queues", tags=["views"], summary="What the queue holds", responses=answer(of(QueueFigures), "Figures")
    )
    async def queues() -> Response:
        return Json(await facade.queue.figures())


def _lanes(router: APIRouter, context: Context) -> None:
    facade, of = context.facade, context.schemas.of
    tag: list[str | Enum] = ["lanes"]
    path = "/lanes/{id:path}"  # a lane's id is `MTA IP/destination group`

    def known(id: str) -> str:
        if not facade.explainer.knows(id):
            raise Problem(404, f"There is no lane {id[:300]!r}, and none is remembered.")
        return id

    @router.get("/lanes", tags=tag, summary="Lanes with mail or a flood", responses=answer(of(list[Brief]), "Lanes"))
    async def lanes() -> Response:
        return Json(facade.lanes.all())

    @router.delete(f"{path}/flood", tags=tag, summary="End a flood early", status_code=204, response_class=Response)
    async def end_flood(id: str, request: Request) -> Response:
        if not facade.floods.end(known(id), who(request)):
            raise Problem(404, f"No flood is in force on {id[:300]!r}.")
        return Response(status_code=204)

    @router.post(
        f"{path}/flood/keep",
        tags=tag,
        status_code=201,
        summary="Make a pause of the flood: it lasts until somebody ends it",
        responses=answer({"type": "object"}, "The pause", 201),
    )
    async def keep_flood(id: str, request: Request) -> Response:
        if (rule := await facade.floods.keep(known(id), who(request))) is None:
            raise Problem(404, f"No flood is in force on {id[:300]!r}.")
        return Json(facade.rules.shown(rule), 201, {"Location": f"/api/v1/pauses/{rule.id}"})

    @router.post(
        f"{path}/retry",
        tags=tag,
        status_code=202,
        summary="Retry this provider now: its hosts, and what waits for a time",
        responses=answer(of(BulkJob), "The job that does it", 202),
    )
    async def retry(id: str, request: Request) -> Response:
        job = facade.queue.retry_lane(known(id), who(request))
        return Json(job, 202, {"Location": f"/api/v1/messages/actions/{job.id}"})

    @router.get(path, tags=tag, summary="Explain one lane", responses=answer(of(Explained), "All that is known"))
    async def lane(id: str) -> Response:
        return Json(facade.explainer.explain(known(id)))
