"""Suppressions over the API: like rules, but there may be a million: paged, and imported and removed in bulk."""

from __future__ import annotations

import time
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from gui.api.answers import Json, Problem
from gui.api.bodies import converted
from gui.api.context import Context, who
from gui.api.rules import etag
from gui.api.schema import answer, body, queries
from pipeline.views.suppressing import SuppressionJob
from settings.rules.suppression import SuppressionFilter, holds

TAG: list[str | Enum] = ["suppressions"]
LARGEST = 200_000_000  # octets of an import
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
PAGING = ("after", "limit")


def routes(context: Context) -> APIRouter:
    """The routes of suppressions."""
    router = APIRouter(prefix="/suppressions", tags=TAG)
    _many(router, context)
    _bulk(router, context)
    _one(router, context)
    return router


def _many(router: APIRouter, context: Context) -> None:
    known, shown = context.facade.store.suppressions, context.schemas.rule("suppressions", "serialization")
    page = {
        "type": "object",
        "properties": {"suppressions": {"type": "array", "items": shown}, "next": {}, "total": {}},
    }

    @router.get(
        "", summary="A page of them", openapi_extra=queries(SuppressionFilter), responses=answer(page, "A page")
    )
    async def every(
        request: Request,
        after: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        filter = _filter(request)
        found = await known.page(filter, after, limit + 1)
        following = found[limit - 1].id if len(found) > limit else None
        total = await known.count(filter)
        return Json({"suppressions": [rule.shown() for rule in found[:limit]], "next": following, "total": total})

    @router.post(
        "",
        status_code=201,
        summary="Add one, in place of one with the same value and tag",
        openapi_extra=body(context.schemas.rule("suppressions", "validation")),
        responses=answer(shown, "The entry, whole", 201),
    )
    async def create(request: Request) -> Response:
        rule = await known.create(await context.bodies.small(request), who(request))
        return Json(rule.shown(), 201, {"Location": f"/api/v1/suppressions/{rule.id}", "ETag": etag(rule)})

    @router.get("/check", summary="Whether an address gets mail", responses=answer({"type": "object"}, "The entry"))
    async def check(
        address: Annotated[str, Query(min_length=3, max_length=320)],
        tag: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        entries = [await known.get(id_) for id_ in known.candidates(address)]
        rule = holds(entries, address, (tag,) if tag else (), time.time())
        return Json({"suppressed": rule is not None, "suppression": rule.shown() if rule else None})


def _bulk(router: APIRouter, context: Context) -> None:
    facade, of = context.facade, context.schemas.of
    job: dict[str, Any] = of(SuppressionJob)
    csv = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}}

    @router.post(
        "/import",
        status_code=202,
        summary="Import a CSV file: a line each, with a header that names the fields, or only addresses",
        openapi_extra=csv,
        responses=answer(job, "The job that does it", 202),
    )
    async def bring_in(request: Request) -> Response:
        path = await facade.suppressions.keep(_within(request))
        return _begun(facade.suppressions.bring_in(path, who(request)))

    @router.get("/export", summary="All that pass, as CSV", openapi_extra=queries(SuppressionFilter))
    async def export(request: Request) -> Response:
        head = {"Content-Disposition": 'attachment; filename="suppressions.csv"'}
        return StreamingResponse(facade.suppressions.export(_filter(request)), media_type="text/csv", headers=head)

    @router.delete(
        "",
        status_code=202,
        summary="Remove all that pass",
        openapi_extra=queries(SuppressionFilter),
        responses=answer(job, "The job that does it", 202),
    )
    async def remove(request: Request) -> Response:
        filter = _filter(request)
        if filter == SuppressionFilter():
            allowed = f"one of them must be given: {', '.join(SuppressionFilter.__struct_fields__)}"
            raise Problem(422, "All suppressions cannot be removed at once.", [{"field": "", "message": allowed}])
        return _begun(facade.suppressions.remove(filter, who(request)))

    @router.get(
        "/jobs", summary="Imports and removals, newest first", responses=answer(of(list[SuppressionJob]), "All")
    )
    async def jobs() -> Response:
        return Json(facade.suppressions.all())

    @router.get("/jobs/{id}", summary="How far one is", responses=answer(job, "The job"))
    async def one_job(id: Id) -> Response:
        if (found := facade.suppressions.get(id)) is None:
            raise Problem(404, "There is no such job, or it is forgotten.")
        return Json(found)


def _one(router: APIRouter, context: Context) -> None:
    known, shown = context.facade.store.suppressions, context.schemas.rule("suppressions", "serialization")

    @router.get("/{id}", summary="One entry", responses=answer(shown, "The entry, whole"))
    async def one(id: Id) -> Response:
        rule = await known.get(id)
        return Json(rule.shown(), headers={"ETag": etag(rule)})

    @router.put(
        "/{id}",
        summary="Replace one; what is not given gets its default",
        openapi_extra=body(context.schemas.rule("suppressions", "validation")),
        responses=answer(shown, "The entry, whole"),
    )
    async def replace(id: Id, request: Request) -> Response:
        rule = await known.update(id, await context.bodies.small(request), who(request))
        return Json(rule.shown(), headers={"ETag": etag(rule)})

    @router.delete("/{id}", summary="Remove one", status_code=204, response_class=Response)
    async def delete(id: Id, request: Request) -> Response:
        await known.delete(id, who(request))
        return Response(status_code=204)


def _begun(job: SuppressionJob) -> Response:
    return Json(job, 202, {"Location": f"/api/v1/suppressions/jobs/{job.id}"})


def _filter(request: Request) -> SuppressionFilter:
    values = {name: value for name, value in request.query_params.items() if name not in PAGING}
    return converted(values, SuppressionFilter, strict=False)


async def _within(request: Request) -> Any:
    """The octets of the body, up to LARGEST."""
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > LARGEST:
            raise Problem(413, f"The file is too large; allowed are {LARGEST} octets. Import it in parts.")
        yield chunk
