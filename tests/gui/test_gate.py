"""The gate: what is answered without a session, and what every answer carries."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from gui.access.access import Access
from gui.access.gate import OPEN, RequestGate, local
from gui.access.tries import MOST_TRIES, Tries

ACCESS = Access("secret", b"key")
TOKENS = {"Bearer t0k3n": "prometheus"}


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("the page")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def client(logged_in: bool = False) -> TestClient:
    """A browser at a console with a page everywhere; nobody has tried anything yet."""
    ACCESS.tries = Tries()
    methods = ["GET", "POST", "DELETE"]
    app = Starlette(routes=[WebSocketRoute("/{path:path}", socket), Route("/{path:path}", page, methods=methods)])
    browser = TestClient(RequestGate(app, ACCESS, TOKENS.get), follow_redirects=False)
    if logged_in:
        browser.cookies.set(ACCESS.cookie, ACCESS.begin())
    return browser


@pytest.mark.parametrize("path", ["/", "/domains", "/?domain=example.com", "/anything/else"])
def test_a_page_without_a_session_is_the_login(path: str) -> None:
    """And the way back is in the address."""
    answer = client().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    assert client(logged_in=True).get(path).text == "the page"


@pytest.mark.parametrize(
    "path",
    ["/_nicegui_ws/socket.io/?EIO=4&transport=polling", "/_nicegui/x/static/vue.js", "/api/v1/status", "/metrics"],
)
def test_nothing_else_answers_without_a_session(path: str) -> None:
    """No socket, no script, no API."""
    assert client().get(path).status_code == 401
    assert client(logged_in=True).get(path).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_some_things_are_for_everybody(path: str) -> None:
    """The login and what watches whether we live."""
    assert client().get(path).status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/api/v1/status", 200), ("/metrics", 200), ("/queue", 303)])
def test_a_token_opens_what_programs_use_and_nothing_else(path: str, status: int) -> None:
    """A page needs a person."""
    assert client().get(path, headers={"Authorization": "Bearer t0k3n"}).status_code == status
    assert client().get(path, headers={"Authorization": "Bearer wrong"}).status_code != 200


def test_wrong_tokens_for_the_metrics_cost_who_gives_them_and_nobody_else() -> None:
    """A right token, and a session, are let in from the same address (S3)."""
    browser = client()
    for _ in range(MOST_TRIES):
        ACCESS.tries.failed("testclient")
    answer = browser.get("/metrics", headers={"Authorization": "Bearer stale"})
    assert (answer.status_code, answer.text) == (429, "Too many failed tries. Try again in 15 minutes.\n")
    assert browser.get("/metrics", headers={"Authorization": "Bearer t0k3n"}).status_code == 200
    browser.cookies.set(ACCESS.cookie, ACCESS.begin())
    assert browser.get("/metrics").status_code == 200


def test_a_socket_needs_a_session() -> None:
    """It is closed before it is accepted."""
    with pytest.raises(WebSocketDisconnect) as refused, client().websocket_connect("/_nicegui_ws/socket.io/"):
        pass
    assert refused.value.code == 1008
    with client(logged_in=True).websocket_connect("/_nicegui_ws/socket.io/"):
        pass


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://testserver.evil.example", "http://testserver:81"]
)
def test_another_site_cannot_act_with_our_cookie(origin: str) -> None:
    """Neither by a form nor by a socket."""
    browser = client(logged_in=True)
    assert browser.post("/logout", headers={"Origin": origin}).status_code == 403
    assert browser.get("/_nicegui_ws/socket.io/?EIO=4", headers={"Origin": origin}).status_code == 403
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("/_nicegui_ws/", headers={"Origin": origin}):
        pass


def test_our_own_pages_can_act() -> None:
    """A browser says that it comes from here."""
    assert client(logged_in=True).post("/x", headers={"Origin": "http://testserver"}).text == "the page"


@pytest.mark.parametrize("path", ["/", "/login", "/healthz", "/metrics"])
def test_every_answer_forbids_what_pages_do_not_need(path: str) -> None:
    """Refusals too."""
    headers = client().get(path).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "script-src-attr 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/domains?sort=errors", "/logs?text=%22a b%22"])
def test_a_path_of_ours_is_where_the_login_leads(path: str) -> None:
    """With its filters."""
    assert local(path) == path


@pytest.mark.parametrize(
    "path",
    [None, "", "//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\\b", "/x\r\nSet-Cookie: a=b",
     "javascript:alert(1)", "/login?redirect_to=/login", "/_nicegui/x"],
)  # fmt: skip
def test_the_login_leads_nowhere_else(path: str | None) -> None:
    """An open redirect would serve those who fish for passwords."""
    assert local(path) == "/"
