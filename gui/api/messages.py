"""Messages over the API: hand some in, look at those queued, retry, release or delete them, one or by filter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response

from gui.api.answers import Json, Problem, encode
from gui.api.bodies import converted
from gui.api.context import Context, who
from gui.api.schema import answer, body, queries
from pipeline.views.bulk import BulkJob, Selection
from pipeline.views.messages import Message
from pipeline.views.queued_message import ShownMessage
from pipeline.views.queues import Action, Listed

MOST = 10_000  # messages in one request
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
PAGING = ("after", "limit")


class Queued(msgspec.Struct, frozen=True):
    """The ids of the messages, in the order in which they came."""

    ids: Sequence[str]


class MessageListing(msgspec.Struct, frozen=True):
    """A page of messages. `next` is the `after` of the next page, None at the end; a page may be short."""

    messages: list[Listed]
    next: str | None


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bulk action, and on which messages; an empty `selection` is the whole outbox."""

    action: Literal["retry", "release", "delete"]
    selection: Selection


def routes(context: Context) -> APIRouter:
    """The routes of messages."""
    router = APIRouter(prefix="/messages", tags=["messages"])
    _submit(router, context)
    _bulk(router, context)
    _list(router, context)
    _single(router, context)
    return router


def _submit(router: APIRouter, context: Context) -> None:
    message = context.schemas.of(Message)

    @router.post(
        "",
        status_code=202,
        summary="Queue one message, or a list of them: all or none",
        openapi_extra=body({"oneOf": [message, {"type": "array", "items": message}]}),
        responses=answer(context.schemas.of(Queued), "The queue has confirmed them", 202),
    )
    async def submit(
        request: Request,
        idempotency_key: Annotated[
            str | None, Header(description="Sent again with the same key within a day, it is queued once.")
        ] = None,
    ) -> Response:
        async with context.bodies.json(request) as given:
            several = given if isinstance(given, list) else [given]
            if not 0 < len(several) <= MOST:
                raise Problem(422, f"There are {len(several)} messages; allowed are 1 to {MOST}.")
            me = who(request)

            async def queue() -> bytes:
                return encode(Queued(await context.facade.submission.submit(several, me.origin, me.name)))

            if idempotency_key is None:
                return _queued(await queue())
            asked = await asyncio.to_thread(msgspec.json.encode, several, order="sorted")
            return _queued(*await context.idempotency.once(me.name, idempotency_key, asked, queue))


def _queued(answer: bytes, replayed: bool = False) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else None
    return Response(answer, 202, headers, media_type="application/json")


def _list(router: APIRouter, context: Context) -> None:
    @router.get(
        "",
        summary="Queued messages",
        openapi_extra=queries(Selection),
        responses=answer(context.schemas.of(MessageListing), "A page of them"),
    )
    async def listing(
        request: Request,
        after: Annotated[str, Query(pattern=r"^[0-9.]{1,30}-[0-9]{1,18}$")] = "0-0",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        due, _, id = after.partition("-")
        messages, place = await context.facade.bulk.page(selection(request), (_number(due), int(id)), limit)
        return Json(MessageListing(messages, f"{place[0]!r}-{place[1]}" if place else None))

    @router.get(
        "/count",
        summary="How many there are; at most a million are counted",
        openapi_extra=queries(Selection),
        responses=answer({"type": "object", "properties": {"count": {"type": "integer"}}}, "The count"),
    )
    async def count(request: Request) -> Response:
        return Json({"count": await context.facade.bulk.count(selection(request))})


def _bulk(router: APIRouter, context: Context) -> None:
    facade, of = context.facade, context.schemas.of

    @router.get("/actions", summary="Bulk actions, newest first", responses=answer(of(list[BulkJob]), "The jobs"))
    async def jobs() -> Response:
        return Json(facade.bulk.jobs())

    @router.post(
        "/actions",
        status_code=202,
        summary="Retry, release or delete all messages of a selection",
        openapi_extra=body(of(Order)),
        responses=answer(of(BulkJob), "The job; GET it for its progress", 202),
    )
    async def begin(request: Request) -> Response:
        order = await context.bodies.struct(request, Order)
        job = facade.queue.begin(order.action, order.selection, who(request))
        return Json(job, 202, {"Location": f"/api/v1/messages/actions/{job.id}"})

    @router.get("/actions/{id}", summary="How far a bulk action is", responses=answer(of(BulkJob), "The job"))
    async def job(id: int) -> Response:
        if (found := facade.bulk.get(id)) is None:
            raise Problem(404, f"There is no bulk action {id}, or it is forgotten.")
        return Json(found)


def _single(router: APIRouter, context: Context) -> None:
    facade = context.facade

    async def act(action: Action, id: int, request: Request) -> Response:
        if not await facade.queue.change(action, id, who(request)):
            raise Problem(404, f"There is no message {id} in the queue to {action}.")
        return Response(status_code=204)

    @router.get(
        "/{id}", summary="One message: header, history", responses=answer(context.schemas.of(ShownMessage), "It")
    )
    async def one(id: Id) -> Response:
        if (found := await facade.queue.message(id)) is None:
            raise Problem(404, f"There is no message {id} in the queue.")
        return Json(found)

    @router.delete("/{id}", summary="Delete one", status_code=204, response_class=Response)
    async def delete(id: Id, request: Request) -> Response:
        return await act("delete", id, request)

    @router.post("/{id}/retry", summary="Retry one that waits, now", status_code=204, response_class=Response)
    async def retry(id: Id, request: Request) -> Response:
        return await act("retry", id, request)

    @router.post("/{id}/release", summary="Release one that is parked", status_code=204, response_class=Response)
    async def release(id: Id, request: Request) -> Response:
        return await act("release", id, request)


def selection(request: Request) -> Selection:
    """The selection in a request's query."""
    parameters = request.query_params
    values: dict[str, Any] = {name: value for name, value in parameters.items() if name not in PAGING}
    if "domain" in values:
        values["domain"] = parameters.getlist("domain")
    return converted(values, Selection)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Problem(422, "A parameter cannot be used.", [{"field": "after", "message": "is no place"}]) from None
