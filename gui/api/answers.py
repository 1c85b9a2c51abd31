"""What the API answers with: JSON, and RFC 9457 problem details for everything that goes wrong."""

from __future__ import annotations

import http
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.views.bulk import Busy
from pipeline.views.logs import LogQueryFailed, UnknownFilter
from pipeline.views.queues import QueueFull, QueueUnavailable, TooLarge, Unbrowsable
from pipeline.views.submit import Unacceptable
from settings.rules import InvalidRule, NoSuchRule
from settings.store import RulesUnavailable


def encode(content: Any) -> bytes:
    """As JSON. What came over the wire may hold lone surrogates, which UTF-8 has not: then everything is escaped."""
    try:
        return msgspec.json.encode(content)
    except ValueError:
        return json.dumps(msgspec.to_builtins(content)).encode()


class Json(Response):
    """A JSON answer, of dicts, lists and structs."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


class Problem(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP status code.
        detail: what is wrong with this request, and what is allowed.
        errors: for each mistake its `field`, its `message`, and in a list of messages its `index`.
        headers: of the answer.
    """

    def __init__(
        self, status: int, detail: str, errors: Sequence[Any] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers


def problem(status: int, detail: str, errors: Sequence[Any] = (), headers: dict[str, str] | None = None) -> Response:
    """The answer to a problem (RFC 9457 3); its type is the status code's."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        content["errors"] = list(errors)
    return Response(encode(content), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of this application with problem details."""

    @app.exception_handler(Problem)
    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem(error.status, error.detail, error.errors, error.headers)

    @app.exception_handler(HTTPException)
    async def from_routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, _routing(request, error), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"field": str(found["loc"][-1]), "message": _lower(found["msg"])} for found in error.errors()]
        return problem(422, "A parameter cannot be used.", errors)

    for kind, (status, detail) in _KNOWN.items():
        app.add_exception_handler(kind, _handler(status, detail))

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        return problem(500, "Something of ours failed; the program log says what.")


_KNOWN: dict[type[Exception], tuple[int, str]] = {
    InvalidRule: (422, "The rule cannot be used."),
    Unacceptable: (422, "Some messages cannot be sent; none is queued."),
    UnknownFilter: (422, ""),
    NoSuchRule: (404, ""),
    RulesUnavailable: (503, "The rules database does not answer; nothing has changed."),
    TooLarge: (413, "The broker takes no message of this size; nothing is queued."),
    QueueFull: (507, "There is no room for new messages; nothing is queued."),
    QueueUnavailable: (503, "The queue does not answer; nothing is queued."),
    LogQueryFailed: (503, "The delivery log cannot be read now; the program log says why."),
    Busy: (429, ""),
    Unbrowsable: (501, ""),
}


def _handler(status: int, detail: str) -> Any:
    async def handler(_: Request, error: Exception) -> Response:
        errors: Sequence[Any] = ()
        if isinstance(error, InvalidRule):
            errors = error.errors
        elif isinstance(error, Unacceptable):
            errors = error.mistakes
        return problem(status, detail or str(error), errors)

    return handler


def _routing(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return f"There is nothing at {request.url.path}; /api/docs lists what there is."
    return str(error.detail)


def no_method(method: str, path: str, allowed: str) -> Response:
    """The answer to a method that an address has not."""
    return problem(405, f"{method[:20]} is not for {path}; allowed are {allowed}.")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
