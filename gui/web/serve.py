"""The console's servers: its listening sockets, TLS, and uvicorn on each.

Owner of: the sockets and the facade's reader, the console. uvicorn would take SIGTERM for itself; here it has no
signal handlers: the command that runs the program says when the console stops. What cannot start is one line
(`StartError`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gui.access.access import open_access
from gui.access.connections import KEPT, Connections, Visit
from gui.access.proxies import Proxies
from gui.web.console import console
from gui.web.protocol import HttpConnection, SecureListener
from pipeline.views.background import awaited
from pipeline.views.facade import Facade
from settings import Settings, StartError

BACKLOG = 128  # connections that are taken at once: the loop carries mail too


class Web:
    """The console's servers. Makes its sockets at once, so that a taken port is said before anything starts.

    Raises:
        StartError: a port is taken or forbidden; the certificate, its key or the ciphers cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self.connections = Connections(settings.www_trusted_proxies)
        self._context = _tls(settings) if settings.www_secure_port else None
        self._plain = _listen(settings, "www-port", settings.www_port)
        self._secure = _listen(settings, "www-secure-port", settings.www_secure_port)

    async def start(self, facade: Facade) -> list[str]:
        """Serve the console; lines for the person at the terminal, none where it is turned off."""
        if not self._plain and not self._secure:
            return []
        facade.start()
        opened = open_access(self._settings)
        header = self._settings.www_user_header
        app = Proxies(console(facade, opened.access, self.connections), self._settings.www_trusted_proxies, header)
        self.connections.start()
        if self._secure:
            await self._serve(app, self._secure, self._context)
            app = Proxies(_redirect(self._secure.getsockname()[1], app), self._settings.www_trusted_proxies, header)
        if self._plain:
            await self._serve(app, self._plain, None, lifespan=not self._secure)
        return list(_told(self._settings, opened.generated))

    async def _serve(
        self, app: ASGIApp, where: socket.socket, context: ssl.SSLContext | None, lifespan: bool = True
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # `Proxies` knows whom to believe
            lifespan="on" if lifespan else "off",
            timeout_graceful_shutdown=2,
            ws_max_size=1_000_000,
            http=functools.partial(HttpConnection, self.connections),  # type: ignore[arg-type]
            timeout_keep_alive=int(KEPT),
            backlog=BACKLOG,
        )
        server = _Server(config, self.connections, where, context)
        task = awaited(_served(server, [] if context else [where]), "console")
        self._servers.append((server, task))
        started = awaited(server.ready.wait(), "console")
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if task.done():
            raise StartError(str(task.exception() or "the console could not start: see the log"))

    async def stop(self) -> None:
        """Say goodbye to the browsers, and close."""
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers), return_exceptions=True)
        self.connections.stop()
        for where in (self._plain, self._secure):
            if where:
                where.close()


async def _served(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    """uvicorn ends the process where its application does not start; here that is one line, and all else stops."""
    try:
        await server.serve(sockets=sockets)
    except SystemExit:
        raise StartError("the console could not start: see the log") from None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and with a word when it is ready. TLS connections are taken here."""

    def __init__(
        self, config: uvicorn.Config, connections: Connections, where: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._connections, self._where, self._context = connections, where, context
        self._listening: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._context is not None:
            listener = SecureListener(self._connections, self._context, self._made)
            self._listening = awaited(listener.serve(self._where), "console port")
        self.ready.set()

    def _made(self, visit: Visit) -> HttpConnection:
        state = self.lifespan.state
        return HttpConnection(
            self._connections, visit, config=self.config, server_state=self.server_state, app_state=state
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._listening is not None:
            self._listening.cancel()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(settings: Settings, key: str, port: int | None) -> socket.socket | None:
    """A listening socket, or None where the port is off."""
    if not port:
        return None
    address = settings.www_ip
    where = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    where.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        where.bind((address, port))
        where.listen(512)
    except OSError as error:
        where.close()
        raise StartError(f"{key} {port}: {_why(error, settings)}") from None
    where.setblocking(False)
    return where


def _why(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"is taken on {settings.www_ip}; stop what listens there, or give another port"
    if error.errno == errno.EACCES:
        return "is forbidden to this user; give a port above 1023, or start as root with `user`"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"www-ip {settings.www_ip} is no address of this machine"
    return str(error.strerror)


def _tls(settings: Settings) -> ssl.SSLContext:
    certificate, key = settings.www_certificate, settings.www_privatekey
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None:
        raise StartError(f"www-secure-port {settings.www_secure_port}: needs www-certificate, a PEM file")
    for name, path in (("www-certificate", certificate), ("www-privatekey", key)):
        if path is not None and not path.is_file():
            raise StartError(f"{name} {path}: is no file")
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if "MISMATCH" in str(error.reason):
            raise StartError(f"www-privatekey {key}: does not match www-certificate {certificate}") from None
        raise StartError(f"www-certificate {certificate}, www-privatekey {key}: cannot be read as PEM") from None
    except OSError as error:
        raise StartError(f"www-certificate {certificate}, www-privatekey {key}: {error.strerror}") from None
    if settings.www_ciphers:
        context.set_ciphers(settings.www_ciphers)  # OpenSSL has taken it when the configuration was read
    return context


def _redirect(port: int, console: ASGIApp) -> ASGIApp:
    """From HTTP to HTTPS, and nothing else, but for who came by HTTPS to a trusted proxy."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("scheme") in ("https", "wss"):
            await console(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            url = URL(scope=scope).replace(scheme="https", port=None if port == 443 else port)
            await RedirectResponse(url, 308)(scope, receive, send)

    return app


def _told(settings: Settings, password: str | None) -> Iterator[str]:
    """Where the console is, and the password that was made up for it."""
    host = "127.0.0.1" if settings.www_ip in ("0.0.0.0", "::") else settings.www_ip  # noqa: S104
    if settings.www_secure_port:
        yield f"Console  https://{_at(host, settings.www_secure_port)}"
    elif settings.www_port:
        yield f"Console  http://{_at(host, settings.www_port)}"
    if password:
        yield f"Password {password}   (made up now, shown this once; www-password sets your own)"


def _at(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
