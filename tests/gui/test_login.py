"""Login and logout."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient

from gui.access import COOKIE, FREE_TRIES, Access
from gui.login import routes


def browser(access: Access, scheme: str = "http", instance: str = "mx1") -> TestClient:
    app = FastAPI()
    app.include_router(routes(access, instance, "1"))
    return TestClient(app, base_url=f"{scheme}://testserver", follow_redirects=False)


def test_the_password_earns_a_session() -> None:
    """And leads where one wanted to go."""
    access = Access("secret", b"key")
    answer = browser(access).post("/login", data={"password": "secret", "redirect_to": "/domains"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/domains"
    assert access.valid(answer.cookies[COOKIE])


def test_the_cookie_is_for_our_pages_alone() -> None:
    """No script reads it, no other site sends it, and it is not sent in clear where there is TLS."""
    cookie = browser(Access("secret", b"key")).post("/login", data={"password": "secret"}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    secure = browser(Access("secret", b"key"), "https").post("/login", data={"password": "secret"})
    assert "; secure" in secure.headers["set-cookie"].lower()


def test_a_wrong_password_earns_nothing() -> None:
    """It says so, and does not say it back."""
    answer = browser(Access("secret", b"key")).post("/login", data={"password": "<guess>"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "That is not the password" in answer.text
    assert "guess" not in answer.text


def test_after_too_many_failed_tries_even_the_right_one_must_wait() -> None:
    """The wait is said, to people and to programs."""
    client = browser(Access("secret", b"key"))
    for _ in range(FREE_TRIES + 1):
        client.post("/login", data={"password": "guess"})
    answer = client.post("/login", data={"password": "secret"})
    assert answer.status_code == 429
    assert "Try again in" in answer.text
    assert int(answer.headers["retry-after"]) >= 1


def test_whatever_is_posted_gets_an_answer() -> None:
    """Large, empty and binary forms are wrong passwords."""
    for body in (b"", b"x" * 100_000, b"\xff\x00=%zz", b"password"):
        assert browser(Access("secret", b"key")).post("/login", content=body).status_code == 401


def test_logging_out_ends_the_session() -> None:
    """The cookie is worth nothing afterwards."""
    access = Access("secret", b"key")
    client = browser(access)
    cookie = client.post("/login", data={"password": "secret"}).cookies[COOKIE]
    assert client.post("/logout").headers["location"] == "/login"
    assert not access.valid(cookie)


def test_one_who_is_logged_in_need_not_see_the_form() -> None:
    """It leads on."""
    client = browser(Access("secret", b"key"))
    client.post("/login", data={"password": "secret"})
    assert client.get("/login?redirect_to=/queue").headers["location"] == "/queue"


def test_what_the_form_shows_is_text() -> None:
    """The server's name and the way back come from outside."""
    client = browser(Access("secret", b"key"), instance="<b>mx</b>")
    page = client.get('/login?redirect_to=/"><script>').text
    assert "<b>mx" not in page
    assert '"><script>' not in page
