"""The console behind a real nginx: under its own address, under a path, with the Host that nginx sends by default."""

from __future__ import annotations

import asyncio
import json
import pathlib
import smtplib
import ssl
from collections.abc import Iterator

import httpx
import pytest
import websockets

from tests.support.api import TOKEN, Api
from tests.support.nginx import CLIENT, SOCKET, nginx, shipped
from tests.support.program import Program

pytestmark = pytest.mark.system
PASSWORD = "secret of the tests"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that believes the nginx on this machine."""
    folder = tmp_path_factory.mktemp("nginx")
    options = {"www_password": PASSWORD, "api_token": TOKEN, "www_trusted_proxies": "127.0.0.1"}
    with Program(folder, www_url="https://console.example:8443", **options) as running:
        yield running


@pytest.fixture
def proxied(program: Program, tmp_path: pathlib.Path) -> Iterator[str]:
    """Three ways in which people have it."""
    to = f"proxy_pass http://127.0.0.1:{program.www_port}"
    name = "proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Prefix /mail;"
    locations = (
        f"location /mail/ {{ {to}/; {SOCKET} {CLIENT} {name} }}"
        f"location /tls/ {{ {to}/; {SOCKET} proxy_set_header X-Forwarded-Proto https; }}"
        f"location / {{ {to}; {SOCKET} {CLIENT} proxy_set_header Host $host; }}"
    )
    with nginx(tmp_path / "nginx", locations) as port:
        yield f"http://127.0.0.1:{port}"


def browser(url: str, address: str = "127.0.0.1", **headers: str) -> httpx.Client:
    """A browser at an address of its own."""
    return httpx.Client(base_url=url, headers=headers, transport=httpx.HTTPTransport(local_address=address))


def log_in(client: httpx.Client, path: str = "/login", password: str = PASSWORD, **headers: str) -> httpx.Response:
    """Send the form."""
    return client.post(path, data={"password": password, "redirect_to": "/queue"}, headers=headers)


def test_under_a_path_all_addresses_are_under_it(proxied: str) -> None:
    """The login, what it leads to, the cookie, and every address in a page (K14)."""
    with browser(proxied, Origin=proxied) as client:
        assert client.get("/mail/queue").headers["location"] == "/mail/login?redirect_to=%2Fqueue"
        assert 'action="/mail/login"' in client.get("/mail/login").text
        answer = log_in(client, "/mail/login")
        assert (answer.status_code, answer.headers["location"]) == (303, "/mail/queue")
        assert all("Path=/mail/;" in value for value in answer.headers.get_list("set-cookie"))
        page = client.get("/mail/queue").text
        assert 'href="/mail/static/console.css' in page
        assert '"/static/' not in page
        answer = client.post("/mail/logout")
        assert (answer.status_code, answer.headers["location"]) == (303, "/mail/login")


async def test_the_socket_goes_through(proxied: str) -> None:
    """With the session's cookie and the page's origin; not with another's (K14)."""
    with browser(proxied, Origin=proxied) as client:
        log_in(client, "/mail/login")
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    where = f"{proxied.replace('http', 'ws')}/mail/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    async with websockets.connect(where, additional_headers={"Cookie": cookie}, origin=proxied) as socket:  # type: ignore[arg-type]
        assert str(await asyncio.wait_for(socket.recv(), 10)).startswith("0{")
    for headers, origin in (({}, proxied), ({"Cookie": cookie}, "http://evil.example")):
        with pytest.raises(websockets.exceptions.InvalidStatus):
            async with websockets.connect(where, additional_headers=headers, origin=origin):  # type: ignore[arg-type]
                pass


def test_https_at_the_proxy_makes_a_secure_cookie(proxied: str) -> None:
    """Though the last way is in clear (K14)."""
    with browser(proxied) as client:
        answer = log_in(client, "/tls/login", Origin="https://console.example:8443")
        assert all("Secure" in value for value in answer.headers.get_list("set-cookie"))
        assert "strict-transport-security" in answer.headers


@pytest.mark.parametrize(("path", "origin", "site", "status"), [
    ("/tls/login", "https://console.example:8443", None, 303),  # the upstream's Host, and www-url
    ("/login", "https://console.example:8443", None, 303),  # Host without port
    ("/tls/login", "https://elsewhere.example", "same-origin", 303),  # what a browser of today says itself
    ("/tls/login", "https://evil.example", None, 403),
    ("/tls/login", "https://console.example:8443", "cross-site", 403),
    ("/tls/login", "null", None, 403),
])  # fmt: skip
def test_our_own_page_is_known_whatever_host_the_proxy_sends(
    proxied: str, path: str, origin: str, site: str | None, status: int
) -> None:
    """And a page of another site is not (K14)."""
    with browser(proxied, Origin=origin, **({"Sec-Fetch-Site": site} if site else {})) as client:
        assert log_in(client, path).status_code == status


def test_one_guesser_behind_the_proxy_locks_out_nobody_else(program: Program, proxied: str) -> None:
    """The client's address counts, and stands in the audit; what a client says of itself does not (S3, K14)."""
    with browser(proxied, "127.0.0.2") as guesser, browser(proxied, "127.0.0.3") as operator:
        for number in range(15):
            forged = {"X-Forwarded-For": f"192.0.2.{number}"}
            stale = {"Authorization": f"Bearer wrong{number}"}
            assert guesser.get("/metrics", headers={**stale, **forged}).status_code == (401 if number < 3 else 429)
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert guesser.get("/metrics", headers=right).status_code == 200
        assert operator.get("/metrics", headers={"Authorization": "Bearer old"}).status_code == 401
        rule = operator.post("/api/v1/dns", json={"name": "a.example", "addresses": ["192.0.2.1"]}, headers=right)
        assert rule.status_code == 201
    record = Api(program).get("/audit?limit=1")[0]
    assert (record["origin"], record["who"]) == ("127.0.0.3", "api-token")


def test_two_ways_to_name_the_client_must_agree(proxied: str) -> None:
    """nginx hands on what a client says in Forwarded: it could choose its address (K14)."""
    with browser(proxied) as client:
        answer = client.get("/login", headers={"Forwarded": "for=192.0.2.1"})
        assert answer.status_code == 400
        assert "X-Forwarded-For and Forwarded name different clients" in answer.text


def test_nobody_but_a_trusted_proxy_is_believed(program: Program) -> None:
    """Neither the address, nor the scheme, the host or the path (K14)."""
    said = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil",
            "X-Forwarded-Host": "evil.example", "Forwarded": "for=192.0.2.9;proto=https"}  # fmt: skip
    with browser(f"http://127.0.0.1:{program.www_port}", "127.0.0.4", **said) as client:
        answer = client.get("/queue")
        assert answer.headers["location"] == "/login?redirect_to=%2Fqueue"
        assert "strict-transport-security" not in answer.headers
        assert "/evil" not in client.get("/login").text
        assert log_in(client, Origin="http://evil.example").status_code == 403


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, int, ssl.SSLContext]]:
    """The nginx.conf of `deploy/`, and a program with the keys that it names."""
    folder = tmp_path_factory.mktemp("shipped")
    options = {"www_trusted_proxies": "127.0.0.1", "www_url": "https://mail-console.example.com"}
    with (
        Program(folder, www_password=PASSWORD, api_token=TOKEN, **options) as running,
        shipped(folder / "nginx", running.www_port) as port,
    ):
        yield running, port, ssl.create_default_context(cafile=folder / "nginx" / "cert.pem")


def over_tls(example: tuple[Program, int, ssl.SSLContext], **headers: str) -> httpx.Client:
    """A browser that asks for the console by its name, and has found it on this machine."""
    _, port, context = example
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        headers={"Host": "mail-console.example.com", **headers},
        verify=context,
        event_hooks={"request": [lambda request: request.extensions.update(sni_hostname="mail-console.example.com")]},
    )


def test_the_shipped_file_lets_people_log_in(example: tuple[Program, int, ssl.SSLContext]) -> None:
    """Over TLS, with secure cookies, and addresses without the port of the console."""
    with over_tls(example, Origin="https://mail-console.example.com") as client:
        assert client.get("/queue").headers["location"] == "/login?redirect_to=%2Fqueue"
        answer = log_in(client)
        assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
        assert all("Secure" in value for value in answer.headers.get_list("set-cookie"))
        assert "strict-transport-security" in answer.headers


def test_the_shipped_file_hands_on_no_address_that_a_client_claims(
    example: tuple[Program, int, ssl.SSLContext],
) -> None:
    """Neither in X-Forwarded-For nor in Forwarded: the audit has the address that nginx saw (K14)."""
    claims = {"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "192.0.2.2", "X-Forwarded-Prefix": "/evil"}
    with over_tls(example, Authorization=f"Bearer {TOKEN}", **claims) as client:
        answer = client.post("/api/v1/dns", json={"name": "b.example", "addresses": ["192.0.2.1"]})
        assert answer.status_code == 201, answer.text
        assert client.get("/api/v1/audit?limit=1").json()[0]["origin"] == "127.0.0.1"
        assert "/evil" not in client.get("/login").text


def test_the_shipped_file_holds_no_event_back(example: tuple[Program, int, ssl.SSLContext]) -> None:
    """The event stream of the API comes as it happens."""
    program, _, _ = example
    with (
        over_tls(example, Authorization=f"Bearer {TOKEN}") as client,
        client.stream("GET", "/api/v1/events") as stream,
    ):
        Api(program).create("pauses", tag="never", reason="an event")
        with smtplib.SMTP("127.0.0.1", program.smtp_port) as sender:
            sender.sendmail("a@example.com", ["b@no.invalid"], "Subject: x\r\n\r\nx\r\n")
        data = next(line for line in stream.iter_lines() if line.startswith("data:"))
        assert json.loads(data.removeprefix("data:"))
