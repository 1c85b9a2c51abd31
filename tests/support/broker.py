"""A private RabbitMQ node: own ports, epmd, cookie, home and folder; gone with everything it started, also on failure.

Needs Debian's rabbitmq-server. Nothing of the system's own broker, should one run, is touched.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from typing import Any

from settings import Settings, load
from tests.support.program import free_port

SERVER = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PATIENCE = 90.0  # seconds a node may take to start
MISSING = "rabbitmq-server is not installed"
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

CONF = """listeners.tcp.1 = 127.0.0.1:{port}
default_user = guest
default_pass = {password}
loopback_users = none
log.console = false
log.file.level = warning
max_message_size = 536870912
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 2GB
"""
TLS = """listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none
"""


def settings_for(address: str, **options: object) -> Settings:
    """The configuration of a queue on this broker; underscores for hyphens."""
    given = {"rabbitmq_address": address, "server_id": "test", **options}
    return load([f"--{key.replace('_', '-')}={value}" for key, value in given.items()], system_file=None)


def installed() -> bool:
    """Can a node be started here?"""
    return SERVER.exists() and shutil.which("epmd") is not None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Broker:
    """One node.

    Args:
        folder: where everything of it is; None: a temporary one.
        management: with the management API, on `management_port`.
        tls: (CA, certificate, key) files: also listens with TLS, on `tls_port`.
    """

    password = "pa55word"

    def __init__(
        self, folder: pathlib.Path | None = None, *, management: bool = False, tls: tuple[str, str, str] | None = None
    ) -> None:
        self._own = folder is None
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix="rabbit-"))
        self.port, self.tls_port, self.management_port = free_port(), free_port(), free_port()
        self._epmd_port, self._dist_port = free_port(), free_port()
        self._name = f"mailrace-{uuid.uuid4().hex[:8]}@localhost"
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._configure(management, tls)

    @property
    def address(self) -> str:
        """For `rabbitmq-address`."""
        return self.at("/")

    def at(self, vhost: str, user: str = "guest") -> str:
        """The address of a virtual host."""
        return f"amqp://{user}:{self.password}@127.0.0.1:{self.port}/{vhost.replace('/', '%2F')}"

    def _configure(self, management: bool, tls: tuple[str, str, str] | None) -> None:
        conf = CONF.format(port=self.port, password=self.password)
        if tls is not None:
            conf += TLS.format(port=self.tls_port, authority=tls[0], certificate=tls[1], key=tls[2])
        if management:
            conf += f"management.tcp.port = {self.management_port}\nmanagement.tcp.ip = 127.0.0.1\n"
            conf += "collect_statistics_interval = 1000\n"
        (self.folder / "rabbitmq.conf").write_text(conf)
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n" if management else "[].\n")
        (self.folder / "env.conf").write_text("")

    @property
    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_BASE": folder,
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def start(self) -> Broker:
        """Start it, and wait until it speaks AMQP."""
        if self._epmd is None:
            command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(command, env=self._environment, **QUIET)  # type: ignore[call-overload]
            while not _listens(self._epmd_port):  # or the node starts one of its own, which stays
                time.sleep(0.01)
        with (self.folder / "terminal").open("ab") as terminal:
            self._node = subprocess.Popen(
                [str(SERVER)],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
            )
        self._guard()
        end = time.monotonic() + PATIENCE
        while not self.speaks():
            if self._node.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"RabbitMQ did not start:\n{(self.folder / 'terminal').read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def _guard(self) -> None:
        """A process that ends the node when this one is gone, however it went."""
        assert self._node is not None
        assert self._epmd is not None
        self._dismiss()
        script = 'read _; kill -KILL -- "-$0" "$1"'  # dash's kill knows no groups
        command = ["bash", "-c", script, str(self._node.pid), str(self._epmd.pid)]
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **output)  # type: ignore[call-overload]

    def _dismiss(self) -> None:
        if self._watch is not None:
            self._watch.kill()
            self._watch.wait()
            assert self._watch.stdin is not None
            self._watch.stdin.close()
            self._watch = None

    def speaks(self) -> bool:
        """Does it answer the protocol header (AMQP 0-9-1, 4.2.2) with a method frame?"""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(2)
                connection.sendall(PROTOCOL_HEADER)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send a signal to the whole node."""
        assert self._node is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._node.pid, number)

    def kill(self) -> None:
        """SIGKILL; `start` brings it back with what it had on disk."""
        self.signal(signal.SIGKILL)
        assert self._node is not None
        self._node.wait()

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Ask the management API."""
        login = base64.b64encode(f"guest:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Basic {login}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def fresh(self) -> str:
        """The address of a new, empty virtual host. Needs the management API."""
        vhost = uuid.uuid4().hex[:12]
        self.api("PUT", f"vhosts/{vhost}")
        self.api("PUT", f"permissions/{vhost}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
        return self.at(vhost)

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; returns what it says."""
        command = [str(SERVER.with_name("rabbitmqctl")), "-q", "-n", self._name, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def stop(self) -> None:
        """End everything that was started, and remove a temporary folder."""
        self._dismiss()
        if self._node is not None and self._node.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            # A node that was started while it found none has started one of its own.
            command = ["epmd", "-port", str(self._epmd_port), "-kill"]
            subprocess.run(command, env=self._environment, check=False, **QUIET)  # type: ignore[call-overload]
        self._node = self._epmd = None
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Broker:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


@functools.cache
def shared() -> Broker:
    """One node for all tests of a process, which each take a virtual host of it (`fresh`) and leave the rest alone: to
    start one takes ten seconds of two cores.
    """
    return _lasting()


@functools.cache
def limited() -> Broker:
    """Another one, whose limits a test sets, and which it may kill and start again."""
    return _lasting()


def _lasting() -> Broker:
    node = Broker(management=True)
    atexit.register(node.stop)
    return node.start()
