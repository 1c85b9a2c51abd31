"""The delivery log over the API: pages, counts, and one message's whole story."""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response

from gui.api.answers import Json, Problem
from gui.api.bodies import converted
from gui.api.context import Context
from gui.api.schema import answer, queries
from pipeline.views.logs import COUNT_BY, MOST, Attempt, Counts, Filters, LogPage, Position, Reception

OWN = ("log", "after", "limit", "bucket", "by")  # parameters that are no filters
Log = Literal["attempts", "received"]
By = Literal[COUNT_BY]  # type: ignore[valid-type]


class Records(msgspec.Struct, frozen=True):
    """Records, newest first. `next` is the `after` of the next page, None at the end."""

    records: list[Attempt] | list[Reception]
    next: str | None
    warnings: list[str]


def routes(context: Context) -> APIRouter:
    """The routes of the log."""
    router = APIRouter(prefix="/logs", tags=["logs"])
    facade, of = context.facade, context.schemas.of
    shown = {**of(list[Attempt]), "description": "Records of send-log, or of received-log."}
    page = {"type": "object", "properties": {"records": shown, "next": {"type": ["string", "null"]}}}

    @router.get("", summary="Records", openapi_extra=queries(Filters), responses=answer(page, "A page of them"))
    async def records(
        request: Request,
        log: Log = "attempts",
        after: Annotated[str, Query(max_length=60)] = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> Response:
        ask = facade.logs.received if log == "received" else facade.logs.attempts
        return _page(await asyncio.to_thread(ask, filters(request), limit, _position(after)))

    @router.get(
        "/counts",
        summary="Attempts by the values of a field, over time",
        openapi_extra=queries(Filters),
        responses=answer(of(Counts), "The counts"),
    )
    async def counts(
        request: Request, bucket: Annotated[int, Query(ge=1, le=31_536_000)] = 3600, by: By = "result"
    ) -> Response:
        return Json(await asyncio.to_thread(facade.logs.counts, filters(request), bucket, by))

    @router.get("/story", summary="One message's whole story, oldest first", responses=answer(page, "Its records"))
    async def story(message_id: Annotated[str, Query(min_length=1, max_length=1000)]) -> Response:
        return _page(await asyncio.to_thread(facade.logs.story, message_id))

    return router


def filters(request: Request) -> Filters:
    """The filters in a request's query."""
    values: dict[str, Any] = {name: value for name, value in request.query_params.items() if name not in OWN}
    if unknown := [name for name in values if name not in Filters.__struct_fields__]:
        allowed = f"is no filter; there are {', '.join(Filters.__struct_fields__)}"
        raise Problem(422, "A filter cannot be used.", [{"field": unknown[0][:100], "message": allowed}])
    found = converted(values, Filters, strict=False)
    for name in ("since", "until"):
        moment: datetime.datetime | None = getattr(found, name)
        if moment is not None and moment.tzinfo is None:
            found = msgspec.structs.replace(found, **{name: moment.replace(tzinfo=datetime.UTC)})
    return found


def _page(page: LogPage) -> Response:
    after = f"{page.after.time.isoformat()}~{page.after.seen}" if page.after else None
    return Json({"records": page.records, "next": after, "warnings": page.warnings})


def _position(text: str) -> Position | None:
    if not text:
        return None
    time, _, seen = text.partition("~")
    try:
        moment = datetime.datetime.fromisoformat(time)
        return Position(moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC), min(int(seen), 10**9))
    except ValueError:
        mistake = {"field": "after", "message": "is no place; allowed is the `next` of a page"}
        raise Problem(422, "A parameter cannot be used.", [mistake]) from None
