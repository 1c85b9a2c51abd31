"""Users of the console: names, roles, whose password is checked by whom, and what a role keeps one from."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import argon2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from gui.access.access import Access, keep
from gui.access.gate import RequestGate, session
from gui.access.proxies import Proxies
from gui.access.users import CONSOLE, Users
from pipeline.smtp.server.access.auth import parse
from settings.store import NotAllowed, RuleStore, Who
from tests.support.database import put_database

pytestmark = pytest.mark.usefixtures("quick_hashes")

HOST = "192.0.2.9"


def opened(folder: Path, **more: Any) -> Access:
    """An access whose users are kept in this folder."""
    return Access("the one", b"s" * 32, users=Users(folder / "console-users", keep=keep, **more))


async def test_a_user_logs_in_by_name_and_the_session_says_who(tmp_path: Path) -> None:
    """Also after a restart; the password is kept as a hash that only we may read."""
    access = opened(tmp_path)
    access.users.put("anna", "operate", "correct horse")
    assert await access.guess("correct horse", HOST, name="anna")
    assert not await access.guess("wrong horse", HOST, name="anna")
    assert not await access.guess("correct horse", HOST, name="ben")
    assert not await access.guess("the one", HOST, name="anna")
    again = opened(tmp_path)
    cookie = again.begin("anna")
    assert (again.name(cookie), again.users.role("anna")) == ("anna", "operate")
    assert "correct horse" not in (tmp_path / "console-users").read_text()
    assert (tmp_path / "console-users").stat().st_mode & 0o777 == 0o600


async def test_the_one_password_stays_an_administrators(tmp_path: Path) -> None:
    """Nobody can take its name."""
    access = opened(tmp_path)
    assert await access.guess("the one", HOST)
    assert access.name(access.begin()) == CONSOLE
    assert access.users.role(CONSOLE) == "administer"
    with pytest.raises(ValueError, match="name: allowed"):
        access.users.put(CONSOLE, "read", "correct horse")


def test_sessions_end_with_the_password_and_with_the_user(tmp_path: Path) -> None:
    """Those of others go on; a changed role holds at once."""
    access = opened(tmp_path)
    access.users.put("anna", "read", "correct horse")
    access.users.put("ben", "read", "battery staple")
    anna, ben, console = access.begin("anna"), access.begin("ben"), access.begin()
    access.users.put("anna", "administer")
    assert access.valid(anna) and access.users.role("anna") == "administer"
    access.users.put("anna", "administer", "another horse")
    assert not access.valid(anna)
    access.users.remove("ben")
    assert not access.valid(ben)
    assert access.valid(console)


async def test_www_auth_lets_in_who_is_not_in_the_list(tmp_path: Path) -> None:
    """With the role of `www-role`, or with that which the list has for the name."""
    file = tmp_path / "users"
    made = argon2.PasswordHasher().hash("battery staple")
    file.write_text(f"ben:{made}\ncleo:{made}\n")
    access = opened(tmp_path, external=parse(f"file://{file}"), role="read")
    access.users.put("cleo", "administer")
    assert await access.guess("battery staple", HOST, name="ben")
    assert await access.guess("battery staple", HOST, name="cleo")
    assert not await access.guess("battery", HOST, name="ben")
    assert (access.users.role("ben"), access.users.role("cleo")) == ("read", "administer")


@pytest.mark.parametrize(
    ("name", "role", "password", "why"),
    [
        ("an na", "read", "correct horse", "name"),
        ("anna", "root", "correct horse", "role"),
        ("anna", "read", "short", "password: at least"),
        ("anna", "read", "", "password: is needed"),
    ],
)
def test_what_is_no_user_is_refused(tmp_path: Path, name: str, role: str, password: str, why: str) -> None:
    """With the field, and what is allowed."""
    with pytest.raises(ValueError, match=why):
        opened(tmp_path).users.put(name, role, password)


@pytest.mark.parametrize(("role", "refused"), [("read", True), ("operate", False), ("administer", False)])
async def test_who_may_only_look_changes_no_rule(tmp_path: Path, role: Any, refused: bool) -> None:
    """The store refuses it, whatever page or button it comes from."""
    put_database(tmp_path)
    store = RuleStore("", tmp_path)
    await store.start()
    who = Who("anna", HOST, role)
    try:
        if refused:
            with pytest.raises(NotAllowed, match="anna may read; this needs operate"):
                await store.create("locals", {"pattern": "a@here.example"}, who)
            with pytest.raises(NotAllowed):
                await store.suppressions.create({"type": "address", "value": "a@here.example"}, who)
        else:
            await store.create("locals", {"pattern": "a@here.example"}, who)
        assert len(store.snapshot.locals) == (0 if refused else 1)
    finally:
        await store.close()


def gated(access: Access, peer: str) -> TestClient:
    """A browser before a page that says whose session it has."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        cookie = session(Request(scope).headers, access)
        await JSONResponse({"user": access.name(cookie)})(scope, receive, send)

    trusted = [ipaddress.ip_network("10.0.0.0/8")]
    app = Proxies(RequestGate(page, access, lambda text: None), trusted, "X-Remote-User")
    return TestClient(app, base_url="http://inside", client=(peer, 1))


def test_a_trusted_proxy_names_the_user(tmp_path: Path) -> None:
    """No password is asked; who comes as somebody else is somebody else."""
    access = opened(tmp_path)
    browser = gated(access, "10.0.0.1")
    assert browser.get("/queue?tag=x", headers={"X-Remote-User": "anna"}).json() == {"user": "anna"}
    assert browser.get("/queue", headers={"X-Remote-User": "ben"}).json() == {"user": "ben"}
    two = [("X-Remote-User", "anna"), ("X-Remote-User", CONSOLE)]
    assert browser.get("/queue", headers=two).json() == {"user": "ben"}  # as the session says


def test_nobody_else_names_a_user(tmp_path: Path) -> None:
    """The field of a stranger is taken away; nor does a proxy make anybody the administrator of the one password."""
    access = opened(tmp_path)
    for peer, name in (("192.0.2.1", "anna"), ("10.0.0.1", CONSOLE), ("10.0.0.1", "no name")):
        headers = {"X-Remote-User": name}
        answer = gated(access, peer).get("/queue", headers=headers, follow_redirects=False)
        assert answer.headers["location"].startswith("/login")
