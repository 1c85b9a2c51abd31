"""A login by a real OpenID Connect provider, `oidc-provider` of npm, with its own pages between."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from gui.access.access import Access
from gui.access.login import routes
from gui.access.openid import OpenId
from settings import load
from tests.support.node import FOLDER, modules
from tests.support.program import free_port

pytestmark = pytest.mark.system
CONSOLE = "https://console.example/mail"
ACCOUNTS = {
    "anna": {"preferred_username": "anna", "groups": ["mail-admins", "others"]},
    "ben": {"email": "ben@a.example", "groups": "mail-team"},
    "cleo": {"preferred_username": "cleo"},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The provider; it knows the console by the address that a proxy gives it, with a path."""
    modules()
    client = {
        "client_id": "mailrace",
        "client_secret": "a secret: with %",
        "redirect_uris": [f"{CONSOLE}/openid/back"],
        "post_logout_redirect_uris": [f"{CONSOLE}/login"],
    }
    port = free_port()
    asked = json.dumps({"port": port, "clients": [client], "accounts": ACCOUNTS})
    command = ["node", "provider.js", asked]
    with subprocess.Popen(
        command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin and process.stdout
        assert any(line == "ready\n" for line in process.stdout)
        yield f"http://127.0.0.1:{port}"
        process.stdin.close()


async def login(issuer: str, who: str) -> tuple[Access, httpx.Response, httpx.AsyncClient]:
    """From the console's link over the provider's own form back to the console."""
    access = Access("secret", b"key")
    keys = {
        "www-openid": issuer,
        "www-openid-client": "mailrace",
        "www-openid-secret": "a secret: with %",
        "www-openid-roles": "mail-admins=administer;mail-team=operate",
    }
    openid = OpenId(load([f"--{name}={value}" for name, value in keys.items()], None, None))
    app = FastAPI()
    app.include_router(routes(access, "mx1", "1", openid, CONSOLE))
    browser = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inside")
    there = (await browser.get("/openid/login")).headers["location"]
    async with httpx.AsyncClient(base_url=issuer) as elsewhere:
        page = await elsewhere.get(there, follow_redirects=True)
        form = re.search(r'action="([^"]+)"', page.text)
        assert form is not None
        filled = {"prompt": "login", "login": who, "password": "any"}
        answer = await elsewhere.post(html.unescape(form[1]), data=filled)
        while not answer.headers["location"].startswith(CONSOLE):
            answer = await elsewhere.get(answer.headers["location"])
    return access, await browser.get(answer.headers["location"].removeprefix(CONSOLE)), browser


@pytest.mark.parametrize(
    ("who", "session"),
    [("anna", ("anna (openid)", "administer")), ("ben", ("ben@a.example (openid)", "operate")), ("cleo", ("", None))],
)
async def test_the_provider_says_who_somebody_is_and_his_groups_what_he_may(
    issuer: str, who: str, session: tuple[str, str | None]
) -> None:
    """The claims come from its userinfo endpoint; who is in no group is told so, and is not let in."""
    access, answer, browser = await login(issuer, who)
    cookie = answer.cookies.get(access.cookie)
    assert (access.name(cookie), access.granted(cookie)) == session
    assert answer.status_code == (303 if cookie else 403)
    if cookie:
        page = await browser.post("/logout")
        assert f"{issuer}/session/end?client_id=mailrace" in page.text and not access.valid(cookie)
