"""Private database servers in temporary folders, where they are installed: PostgreSQL and MariaDB."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from tests.support.halted import halt


class Server:
    """A private database server in a temporary directory."""

    scheme: str
    admin: str
    owner: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.user = self.owner if os.getuid() == 0 else None  # neither server runs as root
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(directory, account.pw_uid, account.pw_gid)

    def run(self, *command: str) -> None:
        """Run one command to its end, as the server's user."""
        subprocess.run(command, user=self.user, cwd=self.directory, check=True, capture_output=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        output = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            self.command(), user=self.user, cwd=self.directory, stdout=output, stderr=output
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT if self.scheme == "postgresql" else signal.SIGKILL)
        self.process.wait(30)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Its processes are stopped: connections stay, and nothing is answered."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        family = [parent, *parent.children(recursive=True)]
        try:
            halt(*family)
            yield
        finally:
            for process in family:
                process.resume()

    def fresh(self) -> str:
        """The address of a new, empty database."""
        name = f"rules_{uuid.uuid4().hex}"
        engine = sa.create_engine(self.admin.format(port=self.port), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.admin.format(port=self.port).split("+")[0] + f"://root@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        engine = sa.create_engine(self.admin.format(port=self.port))
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            return False
        finally:
            engine.dispose()
        return True

    def prepare(self) -> None:
        """Make its files."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What starts it in the foreground."""
        raise NotImplementedError


class Postgres(Server):
    """PostgreSQL."""

    scheme, owner = "postgresql", "postgres"
    admin = "postgresql+psycopg://root@127.0.0.1:{port}/postgres"
    programs = ":".join(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))

    @classmethod
    def program(cls, name: str) -> str | None:
        """Where one of its programs is; Debian has them outside of PATH."""
        return shutil.which(name, path=f"{cls.programs}:{os.environ['PATH']}")

    def prepare(self) -> None:
        """A cluster without passwords, on loopback."""
        self.run(
            str(self.program("initdb")), "-D", "data", "-U", "root", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )

    def command(self) -> list[str]:
        """In the foreground, with no sockets but its port."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        return [str(self.program("postgres")), "-D", "data", *where]


class MariaDB(Server):
    """MariaDB."""

    scheme, owner = "mysql", "mysql"
    admin = "mysql+pymysql://root@127.0.0.1:{port}/mysql"

    @classmethod
    def program(cls, name: str) -> str | None:
        """Where one of its programs is."""
        return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")

    def prepare(self) -> None:
        """System tables, and root without a password."""
        options = ["--no-defaults", f"--datadir={self.directory}/data", "--auth-root-authentication-method=normal"]
        self.run(str(self.program("mariadb-install-db")), *options, "--skip-test-db")

    def command(self) -> list[str]:
        """In the foreground, on loopback."""
        where = [f"--datadir={self.directory}/data", f"--socket={self.directory}/socket", f"--port={self.port}"]
        small = ["--innodb-buffer-pool-size=16M", "--bind-address=127.0.0.1", f"--pid-file={self.directory}/pid"]
        return [str(self.program("mariadbd")), "--no-defaults", *where, *small]


def serve(kind: type[Postgres] | type[MariaDB], program: str) -> Iterator[Server]:
    """One of them, running; for a fixture."""
    if kind.program(program) is None:
        pytest.skip(f"{program} is not installed")
    directory = Path(tempfile.mkdtemp(prefix="rules-"))
    server = kind(directory)
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
        shutil.rmtree(directory, ignore_errors=True)
