"""The REST API under `/api/v1`: for programs, what the console is for people. The same facade is behind both."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from gui.access.access import Access
from gui.access.tokens import Tokens, open_tokens
from gui.api import (
    alerts,
    answers,
    docs,
    events,
    logs,
    mailerq,
    messages,
    rules,
    suppressions,
    token_routes,
    views,
    warmups,
)
from gui.api.bodies import Bodies
from gui.api.context import Context
from gui.api.door import Door
from gui.api.idempotency import Idempotency
from gui.api.methods import Methods
from gui.api.schema import Schemas
from pipeline.views.facade import Facade

__all__ = ["Tokens", "application", "open_tokens", "with_api"]

VERSION = "/api/v1"


def with_api(console: ASGIApp, facade: Facade, access: Access, tokens: Tokens) -> ASGIApp:
    """The console with the API beside it; `tokens` are those that Settings makes and revokes."""
    return Door(console, application(facade, tokens), tokens, access)


def application(facade: Facade, tokens: Tokens) -> FastAPI:
    """The API, without its door."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    settings = facade.settings
    context = Context(facade, Bodies(settings.smtp_maxsize), Schemas(), Idempotency(Path(settings.data_dir)))
    app.state.clients = events.Clients(facade.events)
    for part in (views, messages, suppressions, warmups, alerts, rules, logs):
        app.include_router(part.routes(context), prefix=VERSION)
    app.include_router(mailerq.routes(context), prefix="/v1")
    app.include_router(token_routes.routes(context, tokens), prefix=VERSION)
    app.include_router(events.routes(context, app.state.clients), prefix=VERSION)
    app.include_router(docs.routes(app, context.schemas))
    answers.install(app)
    app.add_middleware(Methods, routes=app.router, refuse=answers.no_method)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    return app
