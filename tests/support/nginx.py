"""A real nginx in front of a console, as operators have it."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.support.program import ROOT, free_port

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
SOCKET = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded;"
CLIENT = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;"
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
SERVER = """
  map $http_upgrade $upgraded {{ default upgrade; '' close; }}
  server {{ listen 127.0.0.1:{port}; {locations} }}
"""
SHIPPED = ROOT / "deploy" / "nginx.conf"


@contextlib.contextmanager
def nginx(folder: pathlib.Path, locations: str) -> Iterator[int]:
    """A running nginx with these locations; its port."""
    port = free_port()
    with _running(folder, SERVER.format(port=port, locations=locations), port):
        yield port


@contextlib.contextmanager
def shipped(folder: pathlib.Path, console: int) -> Iterator[int]:
    """A running nginx with the file of `deploy/`, in front of the console on that port; its own port, for HTTPS."""
    port = free_port()
    with _running(folder, example(folder, f"127.0.0.1:{port}", console), port):
        yield port


def example(folder: pathlib.Path, listen: str, console: int) -> str:
    """The file of `deploy/` with these ports, and with a certificate for its name, `cert.pem` in the folder."""
    folder.mkdir(exist_ok=True)
    text = SHIPPED.read_text()
    name = re.findall(r"server_name (.*);", text)[0]
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate, "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    for ours, tests in {
        "listen 443 ssl": f"listen {listen} ssl",
        "http://127.0.0.1:8485": f"http://127.0.0.1:{console}",
        "/etc/ssl/certs/mail-console.pem": str(certificate),
        "/etc/ssl/private/mail-console.key": str(key),
    }.items():
        assert ours in text, ours
        text = text.replace(ours, tests)
    return text


@contextlib.contextmanager
def _running(folder: pathlib.Path, servers: str, port: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, servers=servers))
    process = subprocess.Popen([NGINX, "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("nginx does not listen")
