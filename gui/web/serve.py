"""Serve: the machine and its console in one process, from start to orderly stop.

Owner of: the console's listening sockets and TLS, and the process's signals. uvicorn would take SIGTERM for itself;
here SIGTERM and SIGINT stop the machine first, while the console still shows how, then the console. SIGHUP reopens
the log files. What cannot start is one line (`StartError`), and whatever had started is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, cast

import structlog
import uvicorn
from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gui.access.access import OpenedAccess, open_access
from gui.access.connections import KEPT, Connections, Visit
from gui.access.proxies import Proxies
from gui.web.console import console
from gui.web.machine import ShownMachine
from gui.web.protocol import HttpConnection, SecureListener
from pipeline.process.destinations import Destination, StreamSink, let_go_of_terminal
from pipeline.views.facade import Facade
from settings import Settings, StartError

BACKLOG = 128  # connections that are taken at once: the loop carries mail too
log = structlog.get_logger("console")


async def run(settings: Settings, demo: bool = False) -> int:
    """Run until a signal says stop; the exit code.

    Args:
        settings: the configuration.
        demo: with a simulated internet, and traffic.

    Raises:
        StartError: something cannot start; the line says what.
    """
    # They bring everything; `mailrace --help` need not wait for them.
    from pipeline.process import only_one
    from pipeline.process.budget import claim
    from pipeline.process.program_log import ProgramLog, ProgramLogUnavailable
    from pipeline.process.supervisor import supervisor

    try:
        program_log = ProgramLog(settings.application_log, settings.application_log_format)
    except ProgramLogUnavailable as error:
        raise StartError(str(error)) from None
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(let_go_of_terminal)
        stack.callback(program_log.close)
        settings, tight = claim(settings)
        if tight:
            log.warning(tight)
        stack.enter_context(only_one(settings))
        traffic = None
        if demo:
            from pipeline.demo import start

            internet = await start(settings)
            stack.push_async_callback(internet.stop)
            settings, traffic = internet.settings, internet.traffic
        overseer = stack.enter_context(supervisor().hear())
        overseer.condition("program-log", lambda: program_log.trouble)
        overseer.lost_lines = lambda: program_log.lost
        await _run(settings, program_log.reopen, traffic)
    if overseer.reason:
        raise StartError(overseer.reason)
    return 0


async def _run(
    settings: Settings, reopen: Callable[[], None], traffic: Callable[[int], Coroutine[None, None, None]] | None
) -> None:
    """Machine and console, until a signal; in the end the machine stops first, while the console still shows how."""
    from pipeline.machine.machine import Machine as Real
    from pipeline.process import become, check_rights, hand_over
    from pipeline.process.children import unreadable
    from pipeline.process.supervisor import spawn, supervisor

    stopped = supervisor().stopping
    web = Web(settings)
    machine = Real(settings)
    try:
        with _signals(stopped, reopen, machine.reopen_logs):
            await machine.start()
            try:
                opened = await web.start(machine)
                hand_over(settings)
                become(settings.user)
                check_rights(settings)
                if (why := unreadable()) is not None:
                    supervisor().condition("installation", lambda: why)
                announce(settings, opened)
                sending = spawn(traffic(settings.smtp_port[0]), "traffic", grave=False) if traffic else None
                await stopped.wait()
                if sending is not None:
                    sending.cancel()
            finally:
                await machine.stop()
    finally:
        await web.stop()


class Web:
    """The console's servers. Makes its sockets at once, so that a taken port is said before anything starts.

    Raises:
        StartError: a port is taken or forbidden; the certificate, its key or the ciphers cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self._facade: Facade | None = None
        self.connections = Connections(settings.www_trusted_proxies)
        self._context = _tls(settings) if settings.www_secure_port else None
        self._plain = _listen(settings, "www-port", settings.www_port)
        self._secure = _listen(settings, "www-secure-port", settings.www_secure_port)

    async def start(self, machine: ShownMachine) -> OpenedAccess | None:
        """Serve the console of this machine; None where it is turned off."""
        if not self._plain and not self._secure:
            return None
        opened = open_access(self._settings)
        self._facade = Facade(cast(Any, machine))
        app = Proxies(
            console(machine, self._facade, opened.access, self.connections), self._settings.www_trusted_proxies
        )
        self.connections.start()
        if self._secure:
            await self._serve(app, self._secure, self._context)
            app = Proxies(_redirect(self._secure.getsockname()[1], app), self._settings.www_trusted_proxies)
        if self._plain:
            await self._serve(app, self._plain, None, lifespan=not self._secure)
        return opened

    async def _serve(
        self, app: ASGIApp, where: socket.socket, context: ssl.SSLContext | None, lifespan: bool = True
    ) -> None:
        from pipeline.process.supervisor import awaited

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
        task = awaited(server.serve(sockets=[] if context else [where]), "console")
        self._servers.append((server, task))
        started = awaited(server.ready.wait(), "console")
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if task.done():
            raise StartError("the console could not start: " + str(task.exception() or "see the log"))

    async def stop(self) -> None:
        """Say goodbye to the browsers, and close."""
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers), return_exceptions=True)
        self.connections.stop()
        if self._facade is not None:
            self._facade.close()
        for where in (self._plain, self._secure):
            if where:
                where.close()


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
            from pipeline.process.supervisor import awaited

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


@contextlib.contextmanager
def _signals(stopped: asyncio.Event, *reopen: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def reopen_all() -> None:
        for one in reopen:
            one()

    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: stopped.set,
        signal.SIGINT: stopped.set,
        signal.SIGHUP: reopen_all,
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)  # who started this may have left them blocked
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


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


def announce(settings: Settings, opened: OpenedAccess | None) -> None:
    """Where everything is, for the person at the terminal."""
    lines = []
    host = "127.0.0.1" if settings.www_ip in ("0.0.0.0", "::") else settings.www_ip  # noqa: S104
    if settings.www_secure_port:
        lines.append(f"Console  https://{_at(host, settings.www_secure_port)}")
    elif settings.www_port:
        lines.append(f"Console  http://{_at(host, settings.www_port)}")
    if opened and opened.generated:
        lines.append(f"Password {opened.generated}   (made up now, shown this once; www-password sets your own)")
    lines += _mail(settings.smtp_ip, settings.smtp_port)
    text = "\n".join(["", *(f"  {line}" for line in lines), "", ""])
    terminal = Destination(StreamSink("stderr"))  # a pipe that nobody reads holds up nothing
    terminal.put(logging.INFO, text.encode())
    terminal.close(patience=0.5)


def _mail(address: str, ports: Sequence[int] | int | None) -> list[str]:
    port = ports[0] if isinstance(ports, Sequence) and ports else ports
    if not port:
        return []
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
    return [
        f"SMTP     {_at(host, port)}",
        f"Try      swaks --server {_at(host, port)} --from me@example.com --to you@example.com",
    ]


def _at(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
