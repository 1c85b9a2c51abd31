"""Login and logout."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gui.access import tries
from gui.access.access import Access
from gui.access.login import routes
from gui.access.tries import ALLOWANCE


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
    assert access.valid(answer.cookies[access.cookie])


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


def test_a_right_password_is_let_in_after_many_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong ones of the same address, each another, keep nobody out (S3)."""
    monkeypatch.setattr(tries, "LATER", 0.01)
    client = browser(Access("secret", b"key"))
    for number in range(8):
        assert client.post("/login", data={"password": f"guess{number}"}).status_code == 401
    assert client.post("/login", data={"password": "secret"}).status_code == 303


def test_guesses_are_bounded_and_a_known_browser_has_its_own() -> None:
    """Who guesses is told to wait, and is not looked at; the operator's browser at the same address is (S3)."""
    access = Access("secret", b"key")
    operator, guesser = browser(access), browser(access)
    assert operator.post("/login", data={"password": "secret"}).status_code == 303
    for number in range(ALLOWANCE):
        access.guesses.failed("testclient", str(number))
    answer = guesser.post("/login", data={"password": "secret"})
    assert answer.status_code == 429
    assert "Try again in" in answer.text
    assert int(answer.headers["retry-after"]) >= 1
    operator.post("/logout")
    assert operator.post("/login", data={"password": "secret"}).status_code == 303


def test_a_long_password_is_let_in_whatever_others_of_its_address_guess() -> None:
    """K15, S3: it cannot be guessed, so wrong ones never count against it, from a browser that nobody knows either."""
    access = Access("secret of the tests", b"key")
    for number in range(2 * ALLOWANCE):
        access.guesses.failed("testclient", str(number))
    guesser, newcomer = browser(access), browser(access)
    assert guesser.post("/login", data={"password": "a long one, but wrong"}).status_code == 429
    assert newcomer.post("/login", data={"password": "secret of the tests"}).status_code == 303


def test_an_old_password_given_again_and_again_costs_nobody_anything() -> None:
    """It is one guess, however often a program repeats it, and is not looked at again (S3)."""
    access = Access("secret", b"key")
    client = browser(access)
    for _ in range(100):
        assert client.post("/login", data={"password": "old"}).status_code == 401
    assert access.guesses.wait("testclient") == 0
    assert client.post("/login", data={"password": "secret"}).status_code == 303


def test_whatever_is_posted_gets_an_answer() -> None:
    """Large, empty and binary forms are wrong passwords."""
    for body in (b"", b"x" * 100_000, b"\xff\x00=%zz", b"password"):
        assert browser(Access("secret", b"key")).post("/login", content=body).status_code == 401


def test_logging_out_ends_the_session() -> None:
    """The cookie is worth nothing afterwards."""
    access = Access("secret", b"key")
    client = browser(access)
    cookie = client.post("/login", data={"password": "secret"}).cookies[access.cookie]
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
