"""The console: one web application over a running machine. What to serve, not how (that is `serve`)."""

from __future__ import annotations

import hashlib
import socket
import string
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.staticfiles import StaticFiles
from nicegui import app as pages
from nicegui import run, ui
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from gui.access import login, switch
from gui.access.access import Access
from gui.access.connections import Connections
from gui.access.gate import RequestGate
from gui.access.openid import open_openid
from gui.access.proxies import prefix
from gui.api import open_tokens, with_api
from gui.api.methods import Methods
from gui.components.frame import Frame
from gui.pages import PAGES, SECTIONS
from gui.web import health
from gui.web.packed import PackedFiles
from pipeline.views.background import failed
from pipeline.views.facade import Facade

STATIC = Path(__file__).parents[1] / "static"


def console(facade: Facade, access: Access, connections: Connections) -> ASGIApp:
    """The application. NiceGUI has one application a process, so this is called once."""
    settings = facade.settings
    instance = settings.server_id or socket.gethostname()
    version = _version()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", _static(settings.www_dir))
    openid = open_openid(settings)
    app.include_router(login.routes(access, instance, version, openid, settings.www_url or ""))
    if openid is not None:
        facade.beside("openid", lambda: openid.trouble)
    app.include_router(switch.routes(facade, access))
    app.include_router(health.routes(facade, connections))
    tokens = open_tokens(settings)
    Frame(facade, access, tokens, PAGES, SECTIONS, instance, version).register()
    pages.add_exception_handler(404, partial(_no_such_view, version))
    run.setup = lambda: None  # its processes, which nothing here uses: without /dev/shm they cannot even be prepared
    pages.on_exception(partial(failed, "page", grave=False))
    ui.run_with(
        app,
        title="Mailrace",
        tailwind=False,
        reconnect_timeout=15.0,
        show_welcome_message=False,
        gzip_middleware_factory=None,
    )
    app.add_middleware(PackedFiles)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(Methods, routes=app.router)
    app.add_middleware(RequestGate, access=access, reader=tokens.reader, url=settings.www_url or "")
    return with_api(app, facade, access, tokens)


def _static(own: Path | None) -> StaticFiles:
    """The packaged files; one of the same name in `www-dir` goes before."""
    files = StaticFiles(directory=STATIC)
    if own is not None:
        files.all_directories.insert(0, own)
    return files


def _version() -> str:
    """Changes when a packaged file does."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


async def _no_such_view(version: str, request: Request, error: Exception) -> Response:
    """An address that is none, in the console's own words; for programs, and for parts of a page, the bare state."""
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("There is nothing at this address.\n", 404)
    page = string.Template(NOWHERE).substitute(version=version, prefix=prefix(request.scope))
    return HTMLResponse(page, 404)


NOWHERE = (STATIC / "nowhere.html").read_text()
