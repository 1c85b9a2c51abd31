"""Every route of the running console, asked without a session or a token, with false ones, and with true ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gui.access.gate import OPEN
from gui.pages import PAGES
from tests.support.api import TOKEN

pytestmark = pytest.mark.system

STRANGERS: dict[str, dict[str, str]] = {
    "nothing": {},
    "a forged session": {"Cookie": "mailrace_session=IngiLg.aaaa.bbbb"},
    "a wrong token": {"Authorization": "Bearer wrong"},
}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, running_stage: Any) -> Iterator[Any]:
    """A console whose password is `secret`."""
    folder = tmp_path_factory.mktemp("routes")
    options = ["--www-password", "secret", "--api-token", TOKEN, "--smtp-port", "0", "--shutdown-timeout", "1"]
    running = running_stage(folder, *options, program="live_stage.py")
    yield running
    running.stop()


def routes(console: Any) -> list[tuple[str, str]]:
    """Method and path of all that it serves, with something in place of the parameters."""
    found = [(method, re.sub(r"{[^}]*}", "1", path)) for path, methods in served(console) for method in methods]
    return [(method, path) for method, path in found if not is_open(path)]


def served(console: Any) -> list[tuple[str, list[str]]]:
    return [(path, methods) for path, methods in json.loads(console.ask("routes"))]


def is_open(path: str) -> bool:
    """What is answered to everybody."""
    return path in OPEN or path.startswith("/static")


def test_the_walk_meets_every_page_and_the_api(console: Any) -> None:
    """Else it would prove nothing."""
    paths = {path for path, _ in served(console)}
    assert {page.path for page in PAGES} <= paths
    assert {"/logout", "/metrics", "/api/v1/messages", "/v1/pauses", "/api/openapi.json"} <= paths
    assert any(path.startswith("/_nicegui_ws") for path in paths)
    assert any(path.startswith("/_nicegui/") for path in paths)


def strange(console: Any, headers: dict[str, str]) -> httpx.Client:
    """From an address of its own, since it will be blocked."""
    return httpx.Client(base_url=console.url, headers=headers, transport=httpx.HTTPTransport(local_address="127.0.0.9"))


@pytest.mark.parametrize("stranger", STRANGERS)
def test_nothing_answers_a_stranger(console: Any, stranger: str) -> None:
    """Each route, by each of its methods: the login, or a refusal, and none of the content."""
    with strange(console, STRANGERS[stranger]) as client:
        for method, path in routes(console):
            answer = client.request(method, path)
            leads = answer.headers.get("location", "").startswith("/login")
            assert answer.status_code in (401, 429) or (answer.status_code == 303 and leads), (method, path, answer)
            assert len(answer.content) < 300, (method, path)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_socket_opens_to_a_stranger(console: Any, stranger: str) -> None:
    """On no route, whether there is a socket or not."""
    with strange(console, {**STRANGERS[stranger], **UPGRADE}) as client:
        for path in {"/login", SOCKET, *(path for _, path in routes(console))}:
            assert client.get(path).status_code in (401, 403, 429), path


def test_a_token_is_for_programs_alone(console: Any) -> None:
    """It opens the API and the metrics, and no page."""
    with httpx.Client(base_url=console.url, headers=BEARER) as client:
        for method, path in routes(console):
            if path.startswith(("/api/", "/v1/")) or path == "/metrics":
                if "/events" not in path:  # it never ends
                    assert client.request(method, path).status_code not in (401, 403), (method, path)
            else:
                assert client.request(method, path).status_code in (401, 303), (method, path)


def test_a_session_opens_every_page(console: Any) -> None:
    """And not the API, which a page of another site could use with it."""
    with httpx.Client(base_url=console.url) as client:
        assert client.post("/login", data={"password": "secret"}).status_code == 303
        for page in PAGES:
            assert client.get(page.path).status_code == 200, page.path
        for method, path in routes(console):
            if path.startswith(("/api/v1/", "/v1/")):
                assert client.request(method, path).status_code == 401, (method, path)
