"""OpenID Connect against a provider whose answers a test chooses; tests/system/test_openid.py has a real one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gui.access.access import OPENID_LIFETIME, Access
from gui.access.login import routes
from gui.access.openid import OpenId, found, named
from gui.access.users import Users
from settings import StartError, load
from settings.config.values import show
from tests.gui.api.world import served

SECRET = "s3cret: ü&"
ROLES = "ops=operate;admins=administer;cn=mail,ou=x=read"
FIRST, SECOND = (RSAKey.generate_key(2048, {"kid": kid}, private=True) for kid in ("one", "two"))


class Provider:
    """Says and signs what the test wants."""

    def __init__(self) -> None:
        self.url = ""
        self.key: Any = FIRST
        self.algorithm = "RS256"
        self.public: list[Any] = [FIRST]
        self.said: dict[str, Any] = {}  # in place of what it says of itself
        self.claims: dict[str, Any] = {}  # in place of those of the token; None: not there
        self.more: dict[str, Any] | None = None  # at the userinfo endpoint
        self.token: str | None = None
        self.answer: Response | None = None
        self.refuses: Response | None = None  # at the token endpoint
        self.nonce, self.asked, self.given = "", [""][:0], {"form": {}, "auth": ""}
        routes_ = {"/.well-known/openid-configuration": self.about, "/keys": self.keys, "/me": self.me}
        self.app = FastAPI(routes=[
            *(Route(path, act) for path, act in routes_.items()), Route("/token", self.redeem, methods=["POST"]),
        ])  # fmt: skip

    async def about(self, request: Request) -> Response:
        """Discovery."""
        self.asked.append("about")
        ends = {name: f"{self.url}/{path}" for name, path in (
            ("authorization_endpoint", "auth"), ("token_endpoint", "token"), ("jwks_uri", "keys"),
            ("end_session_endpoint", "out"),
        )}  # fmt: skip
        ends |= {"userinfo_endpoint": f"{self.url}/me"} if self.more is not None else {}
        return self.answer or JSONResponse({"issuer": self.url, **ends, **self.said})

    async def keys(self, request: Request) -> Response:
        """Its public keys, and one of a kind that nobody knows."""
        self.asked.append("keys")
        strange = {"kty": "XYZ", "kid": "strange"}
        return JSONResponse({"keys": [strange, *(key.as_dict(private=False) for key in self.public)]})

    async def me(self, request: Request) -> Response:
        """The userinfo endpoint."""
        return JSONResponse(self.more)

    async def redeem(self, request: Request) -> Response:
        """The token endpoint."""
        self.given = {"form": dict(await request.form()), "auth": request.headers.get("authorization", "")}
        now = int(time.time())
        claims = {"iss": self.url, "aud": "mailrace", "sub": "7", "exp": now + 60, "iat": now, "nonce": self.nonce,
                  "preferred_username": "anna", "groups": ["ops"], **self.claims}  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm} | ({"kid": self.key.kid} if self.key.kid else {})
        token = self.token or jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
        return self.refuses or JSONResponse({"id_token": token, "access_token": "at", "token_type": "Bearer"})


class Console:
    """The login of a console, and a browser before it."""

    def __init__(self, provider: Provider, *options: str) -> None:
        self.provider, self.access = provider, Access("secret", b"key", users=Users())
        keys = [f"--www-openid={provider.url}", "--www-openid-client=mailrace", f"--www-openid-roles={ROLES}", *options]
        self.openid = OpenId(load(keys, None, None))
        app = FastAPI()
        app.include_router(routes(self.access, "mx1", "1", self.openid))
        self.browser = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mx1.example")

    async def begin(self, where: str = "/queue") -> dict[str, str]:
        """Go to the provider; what it is asked for."""
        answer = await self.browser.get("/openid/login", params={"redirect_to": where})
        assert answer.status_code == 303, answer.text
        asked = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        self.provider.nonce = asked["nonce"]
        return asked

    async def back(self, asked: dict[str, str], **more: str) -> httpx.Response:
        """Come back from it."""
        return await self.browser.get("/openid/back", params={"state": asked["state"], "code": "c0de", **more})

    async def login(self) -> httpx.Response:
        """Both."""
        return await self.back(await self.begin())

    def session(self, answer: httpx.Response) -> tuple[str, str | None]:
        """Whose session an answer has begun, and with which role."""
        cookie = answer.cookies.get(self.access.cookie)
        return self.access.name(cookie), self.access.granted(cookie)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """On a port of its own."""
    one = Provider()
    async with served(one.app) as url:
        one.url = url
        yield one


async def test_who_the_provider_knows_has_a_session_with_the_role_of_his_groups(provider: Provider) -> None:
    """With PKCE, state and nonce; and goes where he wanted to go."""
    console = Console(provider, f"--www-openid-secret={SECRET}")
    asked = await console.begin()
    answer = await console.back(asked, iss=provider.url)
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert console.session(answer) == ("anna (openid)", "operate")
    assert asked["code_challenge_method"] == "S256" and asked["redirect_uri"] == "http://mx1.example/openid/back"
    assert provider.given["form"]["redirect_uri"] == asked["redirect_uri"] and provider.given["form"]["code_verifier"]
    assert provider.given["auth"].startswith("Basic ") and "client_secret" not in provider.given["form"]
    assert console.access.users.role("anna (openid)") == "read"  # the role is the session's alone


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["ops", "admins"], "administer"), ("admins", "administer"), ({"ops": {"x": 1}}, "operate"),
        (["cn=mail,ou=x"], "read"), ([1, None, "ops"], "operate"),
    ],
)  # fmt: skip
async def test_groups_come_in_several_shapes(provider: Provider, groups: Any, role: str) -> None:
    """A list, one name, an object; the role that may most counts."""
    provider.claims = {"groups": groups}
    console = Console(provider)
    assert console.session(await console.login())[1] == role


@pytest.mark.parametrize("groups", [None, [], "Ops", ["op"], "ops,admins", 7, True])
async def test_without_a_group_nobody_is_let_in(provider: Provider, groups: Any) -> None:
    """And is told so; what looks like a group is none."""
    provider.claims = {"groups": groups}
    answer = await (console := Console(provider)).login()
    assert (answer.status_code, console.session(answer)) == (403, ("", None))
    assert "anna is in no group of www-openid-roles" in answer.text


NOW = time.time()
WRONG: dict[str, dict[str, Any]] = {
    "audience": {"aud": "another"},
    "audiences without azp": {"aud": ["mailrace", "another"]},
    "azp": {"azp": "another"},
    "issuer": {"iss": "https://evil.example"},
    "issuer with a slash more": {"iss": "/"},
    "nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "expired": {"exp": NOW - 3600},
    "no end": {"exp": None},
    "an end that is no number": {"exp": "tomorrow"},
    "of a time to come": {"iat": NOW + 3600},
    "not yet": {"nbf": NOW + 3600},
    "no subject": {"sub": None},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
async def test_a_token_that_is_not_for_this_login_is_none(provider: Provider, claims: dict[str, Any]) -> None:
    """Each check of Core 3.1.3.7; a password still works, and the page says so."""
    provider.claims = {"iss": provider.url + "/"} if claims.get("iss") == "/" else claims
    answer = await (console := Console(provider)).login()
    assert (answer.status_code, console.session(answer)) == (503, ("", None))
    assert "A password works here" in answer.text
    right = await console.browser.post("/login", data={"password": "secret"})
    assert right.status_code == 303


@pytest.mark.parametrize("shift", [-90, 90])
async def test_clocks_may_differ_a_little(provider: Provider, shift: int) -> None:
    """By less than two minutes."""
    now = int(time.time()) + shift
    provider.claims = {"iat": now, "nbf": now, "exp": now + 60}
    assert (await Console(provider).login()).status_code == 303


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_a_signature_that_anybody_can_make_is_none(provider: Provider, algorithm: str) -> None:
    """Neither `none`, nor one with the secret or a public key as its key (RFC 8725 2.1)."""
    if algorithm == "none":
        provider.token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI3In0."
    else:
        provider.key, provider.algorithm = OctKey.import_key(SECRET + "0" * 32), "HS256"
    answer = await Console(provider, f"--www-openid-secret={SECRET}").login()
    assert answer.status_code == 503


async def test_a_signature_of_another_key_is_none(provider: Provider) -> None:
    """Even with the name of one that is known."""
    provider.key = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
    assert (await Console(provider).login()).status_code == 503


@pytest.mark.parametrize("kid", [True, False])
async def test_a_new_key_is_found_without_a_restart(provider: Provider, kid: bool, monkeypatch: Any) -> None:
    """Providers change their keys; strangers cannot make us ask again and again."""
    monkeypatch.setattr("gui.access.openid.SOON", 0.0)
    console = Console(provider)
    assert (await console.login()).status_code == 303
    provider.key, provider.public = SECOND, [SECOND]
    if not kid:
        provider.key = RSAKey.import_key({k: v for k, v in SECOND.as_dict(private=True).items() if k != "kid"})
    assert (await console.login()).status_code == 303
    monkeypatch.setattr("gui.access.openid.SOON", 60.0)
    provider.key, before = FIRST, provider.asked.count("keys")
    assert [(await console.login()).status_code for _ in range(3)] == [503] * 3
    assert provider.asked.count("keys") == before


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(ECKey.generate_key("P-256", private=True), "ES256"), (OKPKey.generate_key("Ed25519", private=True), "EdDSA")],
)
async def test_other_kinds_of_keys(provider: Provider, key: Any, algorithm: str) -> None:
    """Elliptic curves, without a key id."""
    provider.key, provider.public, provider.algorithm = key, [key], algorithm
    assert (await Console(provider).login()).status_code == 303


async def test_what_the_token_does_not_have_is_asked_for(provider: Provider) -> None:
    """At the userinfo endpoint, where it must be of the same user (Core 5.3.2)."""
    provider.claims = {"groups": None, "preferred_username": None}
    provider.more = {"sub": "7", "groups": ["admins"], "email": "anna@a.example", "preferred_username": "not a name"}
    console = Console(provider)
    assert console.session(await console.login()) == ("anna@a.example (openid)", "administer")
    provider.more["sub"] = "8"
    assert (await console.login()).status_code == 403


async def test_a_login_is_of_one_browser_and_once(provider: Provider) -> None:
    """Another state, no cookie, an answer of another provider: none begins a session."""
    console, other = Console(provider), Console(provider)
    asked = await console.begin()
    assert (await other.back(asked)).status_code == 400
    assert (await console.back({"state": "x"})).status_code == 400
    assert (await console.back(asked, iss="https://evil.example")).status_code == 403
    refused = await console.back(asked, error="access_denied<script>")
    assert refused.status_code == 403 and "access_denied&lt;script&gt;" in refused.text
    assert (await console.back(asked)).status_code == 303
    assert (await console.back(asked)).status_code == 400


@pytest.mark.parametrize("where", ["https://evil.example/", "//evil.example", "/\\evil", "/openid/login", "/login"])
async def test_a_login_leads_nowhere_else(provider: Provider, where: str) -> None:
    """To a view of this console alone."""
    console = Console(provider)
    assert (await console.back(await console.begin(where))).headers["location"] == "/"


ANSWERS: dict[str, Response] = {
    "500": Response("x", 500),
    "no json": Response("<html>"),
    "a list": JSONResponse([]),
    "a redirect": RedirectResponse("http://127.0.0.1:1/"),
    "too much": Response(b" " * 600_000),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_a_provider_that_does_not_work_is_one_line(provider: Provider, answer: Response) -> None:
    """On the page in general words, in the faults with what is so; it is not asked at each click."""
    provider.answer = answer
    console = Console(provider)
    for _ in range(3):
        shown = await console.browser.get("/openid/login")
        assert shown.status_code == 503 and "A password works here" in shown.text and provider.url not in shown.text
    assert provider.asked == ["about"]
    assert "nobody can log in by OpenID Connect" in str(console.openid.trouble)


async def test_an_issuer_is_the_one_that_is_configured(provider: Provider) -> None:
    """A slash at its end is nothing; another name is."""
    provider.said = {"issuer": provider.url + "/"}
    provider.claims = {"iss": provider.url + "/"}
    assert (await Console(provider).login()).status_code == 303
    provider.said = {"issuer": "https://evil.example"}
    assert (await Console(provider).browser.get("/openid/login")).status_code == 503


async def test_a_secret_is_sent_as_the_provider_wants_it(provider: Provider) -> None:
    """In the form, where it says so; a public client has none."""
    provider.said = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert (await Console(provider, f"--www-openid-secret={SECRET}").login()).status_code == 303
    assert (provider.given["form"]["client_secret"], provider.given["auth"]) == (SECRET, "")
    assert (await Console(provider).login()).status_code == 303
    assert "client_secret" not in provider.given["form"] and provider.given["form"]["client_id"] == "mailrace"


@pytest.mark.parametrize(("error", "status", "fault"), [("invalid_grant", 403, False), ("invalid_client", 503, True)])
async def test_a_code_that_is_refused_is_the_logins_own_fault(
    provider: Provider, error: str, status: int, fault: bool
) -> None:
    """A secret that is wrong is the configuration's, and stands in the faults; a stranger cannot put one there."""
    console = Console(provider)
    asked = await console.begin()
    provider.refuses = JSONResponse({"error": error}, 400)
    assert (await console.back(asked)).status_code == status
    assert (console.openid.trouble is not None) is fault


async def test_one_logs_out_here_and_there_if_one_likes(provider: Provider) -> None:
    """The link leads to the provider; the session here has ended either way."""
    console = Console(provider)
    cookie = (await console.login()).cookies[console.access.cookie]
    page = await console.browser.post("/logout")
    assert f"{provider.url}/out?client_id=mailrace" in page.text and not console.access.valid(cookie)


def test_a_role_that_a_provider_gives_does_not_last_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been taken away there."""
    access = Access("secret", b"key")
    cookie = access.begin("anna", "administer")
    assert access.granted(cookie) == "administer"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + OPENID_LIFETIME + 5)
    assert not access.valid(cookie) and access.valid(Access("secret", b"key").begin())


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["--www-openid=http://idp.example"], "allowed is https://"),
        (["--www-openid=https://idp.example"], "needs www-openid-client"),
        (["--www-openid=https://idp.example", "--www-openid-client=x"], "needs www-openid-roles"),
    ],
)
def test_keys_that_do_not_go_together_are_one_line(keys: list[str], why: str) -> None:
    """Before anybody is turned away."""
    with pytest.raises(StartError, match=why):
        OpenId(load(keys, None, None))


def test_roles_of_groups_are_shown_as_they_are_written() -> None:
    """Names of groups may have commas and equal signs."""
    assert show(load([f"--www-openid-roles={ROLES}"], None, None).www_openid_roles) == ROLES


def test_claims_inside_others_and_groups_of_no_shape() -> None:
    """`realm_access.roles` of Keycloak; a name with dots of its own goes first."""
    claims = {"realm_access": {"roles": ["a"]}, "https://x.example/groups": ["b"]}
    assert found(claims, "realm_access.roles") == ["a"] and found(claims, "https://x.example/groups") == ["b"]
    assert found(claims, "realm_access.roles.x") is None and named(None) == named(7) == set()
