"""Rules over the API: for each kind list, create, get, replace and delete; the audit; a try of a flood pattern."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from gui.api.answers import Json, Problem, encode
from gui.api.context import Context, who
from gui.api.schema import answer, body
from pipeline.views.answers import UnknownAnswer, classify
from pipeline.views.catalogue import CatalogueEntry, ShippedProvider, providers
from pipeline.views.facade import Facade
from pipeline.views.queues import Withdrawal
from pipeline.views.scoped import moved
from settings.rules import KINDS, Pool, Rule
from settings.store import AuditRecord

Wanted = Annotated[str | None, Header(max_length=1000, description="The ETag that the rule must have, else 412.")]


class Try(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A flood pattern to try on a text; without one only on the last real answers."""

    pattern: str
    type: str = "substring"
    text: str = ""


class Adopt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's name, or the number of one entry."""

    provider: str = ""
    number: int | None = None


class TryAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer: `452 4.2.2 Mailbox full`."""

    text: str


def routes(context: Context) -> APIRouter:
    """The routes of all kinds."""
    router = APIRouter()
    _try(router, context)
    _stop(router, context)
    _classes(router, context)
    _catalogue(router, context)
    for kind in KINDS:
        _kind(router, context, kind)
    _audit(router, context)
    return router


def _kind(router: APIRouter, context: Context, kind: str) -> None:
    facade, schemas = context.facade, context.schemas
    tag: list[str | Enum] = [kind]
    given, shown = schemas.rule(kind, "validation"), schemas.rule(kind, "serialization")

    @router.get(f"/{kind}", tags=tag, summary=f"All {kind}", responses=answer({"type": "array", "items": shown}, "All"))
    async def every() -> Response:
        floods = facade.floods.pauses() if kind == "pauses" else []
        return Json([*facade.rules.all(kind), *floods])

    @router.post(
        f"/{kind}",
        tags=tag,
        status_code=201,
        summary="Create one; it is in force when this is answered",
        openapi_extra=body(given),
        responses=answer(shown, "The rule, whole", 201),
    )
    async def create(request: Request) -> Response:
        values, pools = await context.bodies.small(request), facade.store.snapshot.pools
        rule = await facade.store.create(kind, values, who(request))
        return Json(_stored(facade, rule, pools), 201, {"Location": f"/api/v1/{kind}/{rule.id}", "ETag": etag(rule)})

    @router.get(f"/{kind}/{{id}}", tags=tag, summary="One rule", responses=answer(shown, "The rule, whole"))
    async def one(id: int) -> Response:
        return _whole(facade, facade.store.get(kind, id))

    @router.put(
        f"/{kind}/{{id}}",
        tags=tag,
        summary="Replace one; what is not given gets its default",
        openapi_extra=body(given),
        responses=answer(shown, "The rule, whole"),
    )
    async def replace(id: int, request: Request, if_match: Wanted = None) -> Response:
        values, before = await context.bodies.small(request), _unchanged(facade, kind, id, if_match)
        pools = facade.store.snapshot.pools
        rule = await facade.store.update(kind, id, values, who(request), before)
        return Json(_stored(facade, rule, pools), headers={"ETag": etag(rule)})

    @router.delete(f"/{kind}/{{id}}", tags=tag, summary="Delete one", status_code=204, response_class=Response)
    async def delete(id: int, request: Request, if_match: Wanted = None) -> Response:
        await facade.store.delete(kind, id, who(request), _unchanged(facade, kind, id, if_match))
        return Response(status_code=204)


def etag(rule: Rule) -> str:
    """The version of a rule: changes with each of its fields, and not with its live figures."""
    return f'"{hashlib.sha256(encode(rule.shown())).hexdigest()[:20]}"'


def _whole(facade: Facade, rule: Rule) -> Response:
    return Json(facade.rules.shown(rule), headers={"ETag": etag(rule)})


def _stored(facade: Facade, rule: Rule, pools: Sequence[Pool]) -> dict[str, Any]:
    """A rule that has been stored; of a pool also what left others for it, as they were before."""
    return {**facade.rules.shown(rule), **({"moved": moved(rule, pools)} if isinstance(rule, Pool) else {})}


def _unchanged(facade: Facade, kind: str, id: int, wanted: str | None) -> Callable[[], None]:
    """Called when nobody else can change the rule: it is the one that the client has seen (RFC 9110 13.1.1)."""

    def check() -> None:
        if wanted is None or wanted.strip() == "*":
            return
        now = etag(facade.store.get(kind, id))
        if now not in [given.strip() for given in wanted.split(",")]:
            raise Problem(412, "The rule has been changed since; get it again.", headers={"ETag": now})

    return check


def _try(router: APIRouter, context: Context) -> None:
    shown = {"type": "object", "properties": {"matches": {"type": "boolean"}, "recent": {"type": "array"}}}

    @router.post(
        "/floods/try",
        tags=["floods"],
        summary="Try a pattern on a text, and on the last real answers, without storing it",
        openapi_extra=body(context.schemas.of(Try)),
        responses=answer(shown, "Whether the text matches, and which real answers would have"),
    )
    async def attempt(request: Request) -> Response:
        wanted = await context.bodies.struct(request, Try)
        try:
            matches, recent = context.facade.floods.try_pattern(wanted.type, wanted.pattern, wanted.text)
        except ValueError as error:
            raise Problem(422, "The pattern cannot be tried.", [_mistake(error)]) from None
        return Json({"matches": matches, "recent": recent})


def _stop(router: APIRouter, context: Context) -> None:
    facade = context.facade

    @router.post(
        "/errors/stop",
        tags=["errors"],
        status_code=201,
        summary="Stop mail of a tag, a lane, a domain or an MTA IP, also what waits already",
        openapi_extra=body({"type": "object"}),
        responses=answer(context.schemas.rule("errors", "serialization"), "The forced error", 201),
    )
    async def stop(request: Request) -> Response:
        rule = await facade.rules.stop(await context.bodies.small(request), who(request))
        return Json(facade.rules.shown(rule), 201, {"Location": f"/api/v1/errors/{rule.id}", "ETag": etag(rule)})

    @router.get(
        "/errors/withdrawals",
        tags=["errors"],
        summary="How far forced errors have come through the queue, newest first",
        openapi_extra={},
        responses=answer(context.schemas.of(list[Withdrawal]), "Messages looked at, of how many, and ended"),
    )
    async def withdrawals() -> Response:
        return Json(facade.withdrawals())


def _classes(router: APIRouter, context: Context) -> None:
    facade = context.facade
    shown = {"type": "object", "properties": {"class": {"type": "string"}, "own": {"type": "boolean"}}}

    @router.post(
        "/classes/try",
        tags=["classes"],
        summary="The class of an answer",
        openapi_extra=body(context.schemas.of(TryAnswer)),
        responses=answer(shown, "Its class, and whether a pattern of the operator's gave it"),
    )
    async def attempt(request: Request) -> Response:
        wanted = await context.bodies.struct(request, TryAnswer)
        class_, own = classify(facade.store.snapshot, wanted.text)
        return Json({"class": class_, "own": own})

    @router.get(
        "/classes/other",
        tags=["classes"],
        summary="Answers without a class among the last 10,000 negative ones, the most frequent first",
        responses=answer(context.schemas.of(list[UnknownAnswer]), "Answers"),
    )
    async def other() -> Response:
        return Json(facade.unknown_answers()[:1000])


def _catalogue(router: APIRouter, context: Context) -> None:
    facade, of = context.facade, context.schemas.of

    @router.get(
        "/providers/catalogue",
        tags=["providers"],
        summary="Shipped rules for the big providers; none is in force until it is adopted",
        responses=answer(of(list[CatalogueEntry]), "The catalogue"),
    )
    async def entries() -> Response:
        return Json(facade.rules.catalogue())

    @router.get(
        "/providers/shipped",
        tags=["providers"],
        summary="The shipped providers, and their MX hosts",
        responses=answer(of(list[ShippedProvider]), "Providers"),
    )
    async def shipped() -> Response:
        return Json(providers(facade.store.snapshot))

    @router.post(
        "/providers/adopt",
        tags=["providers"],
        summary="Make ordinary rules of shipped ones: all of a provider, or one",
        openapi_extra=body(of(Adopt)),
        responses=answer({"type": "array"}, "The rules"),
    )
    async def adopt(request: Request) -> Response:
        wanted = await context.bodies.struct(request, Adopt)
        entries = facade.rules.catalogue()
        if not any(wanted.number == entry.number or wanted.provider == entry.provider for entry in entries):
            message = f"is none of the catalogue; there are {', '.join(dict.fromkeys(e.provider for e in entries))}"
            raise Problem(422, "Nothing can be adopted.", [{"field": "provider", "message": message}])
        return Json([rule.shown() for rule in await facade.rules.adopt(who(request), wanted.provider, wanted.number)])


def _mistake(error: ValueError) -> dict[str, Any]:
    field, _, message = str(error).partition(": ")
    return {"field": field, "message": message}


def _audit(router: APIRouter, context: Context) -> None:
    shown: dict[str, Any] = context.schemas.of(list[AuditRecord])

    @router.get("/audit", tags=["audit"], summary="Who changed what, newest first", responses=answer(shown, "Changes"))
    async def audit(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        return Json(await context.facade.store.audit(limit))
