"""Serving: ports, certificates, and what the terminal says."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from gui.web.serve import Web
from settings import StartError, load

pytestmark = pytest.mark.system


def web(*options: str) -> Web:
    return Web(load(["--data-dir", "unused", "--www-ip", "127.0.0.1", *options], None, None))


@pytest.fixture
def pem(tmp_path: Path) -> dict[str, str]:
    """Two certificates with their keys, and a file that is neither."""
    authority = trustme.CA()
    for name in ("one", "other"):
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "junk").write_text("junk")
    return {path.name: str(path) for path in tmp_path.iterdir()}


def free() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_taken_port_is_one_line() -> None:
    """It names the key, the port and the address."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartError) as error:
            web("--www-port", str(port))
    assert error.value.line == f"www-port {port}: is taken on 127.0.0.1; stop what listens there, or give another port"


def test_an_address_that_is_not_ours_is_one_line() -> None:
    """It names the address."""
    with pytest.raises(StartError, match=r"www-ip 192\.0\.2\.1 is no address of this machine"):
        web("--www-ip", "192.0.2.1", "--www-port", free())


def test_a_key_that_does_not_match_its_certificate_is_one_line(pem: dict[str, str]) -> None:
    """It names both."""
    with pytest.raises(StartError, match="does not match"):
        web("--www-secure-port", free(), "--www-certificate", pem["one.pem"], "--www-privatekey", pem["other.key"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"certificate": "junk", "privatekey": "one.key"}, "cannot be read as PEM"),
        ({"certificate": "one.pem", "privatekey": "junk"}, "cannot be read as PEM"),
    ],
)
def test_what_tls_cannot_use_is_one_line(pem: dict[str, str], options: dict[str, str], line: str) -> None:
    """It names the file, or the key."""
    with pytest.raises(StartError, match=line) as error:
        web("--www-secure-port", free(), *(w for k, v in options.items() for w in (f"--www-{k}", pem.get(v, v))))
    assert "\n" not in error.value.line


def test_a_port_of_zero_turns_the_console_off() -> None:
    """It then opens nothing."""
    console = web("--www-port", "0")
    assert console._plain is None
    assert console._secure is None


def test_the_terminal_shows_a_made_up_password_once(new_stage: Callable[..., Any]) -> None:
    """The second start does not."""
    words = new_stage().stop()
    assert "Console  http://127.0.0.1:" in words
    password = words.split("Password ")[1].split()[0]
    assert "swaks --server 127.0.0.1:2525" in words
    stage = new_stage()
    answer = httpx.post(stage.url + "/login", data={"password": password})
    assert answer.status_code == 303
    assert "Password" not in stage.stop()


def test_with_tls_the_plain_port_only_redirects(new_stage: Callable[..., Any], pem: dict[str, str]) -> None:
    """And the secure one serves, with a cookie that is never sent in clear."""
    port = free()
    stage = new_stage(
        "--www-password", "secret", "--www-secure-port", port, "--www-certificate", pem["one.pem"],
        "--www-privatekey", pem["one.key"], "--www-ciphers", "ECDHE+AESGCM",
    )  # fmt: skip
    answer = httpx.get(stage.url + "/domains?sort=errors")
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://127.0.0.1:{port}/domains?sort=errors"
    context = ssl.create_default_context(cafile=pem["ca.pem"])
    with httpx.Client(base_url=f"https://localhost:{port}", verify=context) as browser:
        entered = browser.post("/login", data={"password": "secret"}, headers={"Origin": f"https://localhost:{port}"})
        assert "; Secure" in entered.headers["set-cookie"]
        assert "max-age" in entered.headers["strict-transport-security"]
        assert browser.get("/").status_code == 200


def test_a_file_in_www_dir_goes_before_the_packaged_one(new_stage: Callable[..., Any], tmp_path: Path) -> None:
    """The rest stays."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "logo.svg").write_text("<svg>mine</svg>")
    stage = new_stage("--www-dir", str(own))
    assert httpx.get(stage.url + "/static/logo.svg").text == "<svg>mine</svg>"
    assert httpx.get(stage.url + "/static/console.css").status_code == 200


PROGRAM = """
import asyncio, sys
from gui.web.serve import Web
from pipeline.commands.serve import run
from settings import load
sys.exit(asyncio.run(run(load(sys.argv[1:], None, None), Web)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_machine_and_its_console_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """With a browser's connection open, and a request that is not answered yet; the exit code says that all is well."""
    port, smtp = free(), free()
    options = ["--data-dir", str(tmp_path), "--www-ip", "127.0.0.1", "--www-port", port, "--smtp-port", smtp]
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, *options], stderr=subprocess.PIPE, text=True)
    assert program.stderr
    while "swaks" not in (line := program.stderr.readline()):
        assert line, program.wait()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as browser:
        assert browser.get("/readyz").text == "ok\n"
        program.send_signal(signal.SIGHUP)
        assert browser.get("/healthz").text == "ok\n"
        with socket.create_connection(("127.0.0.1", int(port))) as half:
            half.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            assert browser.get("/healthz").text == "ok\n"
            program.send_signal(number)
            _, rest = program.communicate(timeout=30)
    assert program.returncode == 0, rest
    assert "Traceback" not in rest
