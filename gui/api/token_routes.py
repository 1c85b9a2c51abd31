"""Tokens over the API: list, make, revoke. A token makes only tokens that may what it may itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from fastapi import APIRouter, Request, Response

from gui.access.tokens import SCOPES, Scope, Token, Tokens
from gui.api.answers import Json, Problem
from gui.api.context import Context, who
from gui.api.schema import answer, body
from pipeline.views.recorder import Recorder
from settings.store import Who


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make. `expires`: epoch seconds; None: never."""

    name: str
    scopes: tuple[Scope, ...] = SCOPES
    expires: float | None = None


class ShownToken(msgspec.Struct, frozen=True, omit_defaults=False):
    """A token without its secret. Times: epoch seconds; `used`: last let in, to about a minute."""

    id: int
    name: str
    scopes: Sequence[Scope]
    made: float
    expires: float | None
    used: float | None


class MadeToken(msgspec.Struct, frozen=True):
    """A new token; `secret` is shown this once."""

    token: ShownToken
    secret: str


def routes(context: Context, tokens: Tokens) -> APIRouter:
    """The routes of the tokens."""
    router = APIRouter(prefix="/tokens", tags=["tokens"])
    of, recorder = context.schemas.of, context.facade.recorder

    @router.get("", summary="All tokens, without their secrets", responses=answer(of(list[ShownToken]), "The tokens"))
    async def every() -> Response:
        return Json([shown(token) for token in tokens.all()])

    @router.post(
        "",
        status_code=201,
        summary="Make one; its secret is shown this once",
        openapi_extra=body(of(NewToken)),
        responses=answer(of(MadeToken), "The token with its secret", 201),
    )
    async def make(request: Request) -> Response:
        wanted = await context.bodies.struct(request, NewToken)
        if beyond := sorted(set(wanted.scopes) - set(request.state.scopes)):
            raise Problem(403, f"This token may not {beyond[0]}, so it makes none that may.")
        try:
            secret = tokens.make(wanted.name, wanted.scopes, wanted.expires)
        except ValueError as error:
            field, _, message = str(error).partition(": ")
            raise Problem(422, "The token cannot be made.", [{"field": field, "message": message}]) from None
        except OSError:
            raise Problem(503, "The tokens cannot be written now; nothing has changed.") from None
        made = tokens.all()[-1]
        record(recorder, who(request), made, "create")
        return Json(MadeToken(shown(made), secret), 201)

    @router.delete("/{id}", summary="Revoke one; it opens nothing any more", status_code=204, response_class=Response)
    async def revoke(id: int, request: Request) -> Response:
        found = next((token for token in tokens.all() if token.id == id), None)
        try:
            if found is None or not tokens.revoke(id):
                raise Problem(404, f"There is no token {id}.")
        except OSError:
            raise Problem(503, "The tokens cannot be written now; nothing has changed.") from None
        record(recorder, who(request), found, "delete")
        return Response(status_code=204)

    return router


def shown(token: Token) -> ShownToken:
    """A token as it is shown."""
    return ShownToken(token.id, token.name, token.scopes, token.made, token.expires, token.used)


def record(recorder: Recorder, who: Who, token: Token, action: Literal["create", "delete"]) -> None:
    """Put into the audit that somebody made or revoked a token."""
    facts = {"name": token.name, "scopes": list(token.scopes), "expires": token.expires}
    recorder.soon(who, action, "tokens", token.id, facts)
