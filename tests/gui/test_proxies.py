"""What is believed of a reverse proxy."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from gui.access.proxies import Proxies, prefix

TRUSTED = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "2001:db8::/32")]


async def told(scope: Any, receive: Any, send: Any) -> None:
    """Answers what it sees."""
    request = Request(scope)
    seen = {"client": scope["client"][0], "scheme": scope["scheme"], "host": request.headers["host"],
            "prefix": prefix(scope), "path": scope["path"]}  # fmt: skip
    await JSONResponse(seen)(scope, receive, send)


def ask(headers: dict[str, str], peer: str = "10.0.0.1", path: str = "/queue") -> Any:
    """The answer to a request through a peer."""
    browser = TestClient(Proxies(told, TRUSTED), base_url="http://inside", client=(peer, 1))
    return browser.get(path, headers=headers)


@pytest.mark.parametrize(("headers", "client"), [
    ({"X-Forwarded-For": "192.0.2.1"}, "192.0.2.1"),
    ({"X-Forwarded-For": "198.51.100.9, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"),  # the first is what a client said itself
    ({"X-Forwarded-For": "192.0.2.1:4711"}, "192.0.2.1"),
    ({"X-Forwarded-For": "[2001:db9::1]:4711"}, "2001:db9::1"),
    ({"X-Forwarded-For": "::ffff:192.0.2.1"}, "192.0.2.1"),
    ({"X-Forwarded-For": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
    ({"X-Forwarded-For": "192.0.2.1, unknown"}, "10.0.0.1"),
    ({"X-Forwarded-For": "192.0.2.1, nonsense, 10.0.0.2"}, "10.0.0.2"),
    ({"X-Forwarded-For": ""}, "10.0.0.1"),
    ({"X-Real-IP": "192.0.2.1"}, "192.0.2.1"),
    ({"Forwarded": "for=192.0.2.1"}, "192.0.2.1"),
    ({"Forwarded": 'for=198.51.100.9, For="[2001:db9::1]:4711";proto=https;by=10.0.0.1'}, "2001:db9::1"),
    ({"Forwarded": "for=192.0.2.1, for=_hidden"}, "10.0.0.1"),
    ({"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "192.0.2.1"}, "192.0.2.1"),
])  # fmt: skip
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(headers: dict[str, str], client: str) -> None:
    """What stands before it may be invented (K14; RFC 7239 5.2, 8.1)."""
    assert ask(headers).json()["client"] == client


def test_scheme_host_and_path_are_those_that_the_browser_used() -> None:
    """From either kind of header; a proxy may leave its path in the request (K14)."""
    legacy = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "c.example", "X-Forwarded-Port": "8443"}
    seen = ask({**legacy, "X-Forwarded-Prefix": "/mail/"}, path="/mail/queue").json()
    assert seen == {
        "client": "10.0.0.1",
        "scheme": "https",
        "host": "c.example:8443",
        "prefix": "/mail",
        "path": "/queue",
    }
    seen = ask({"Forwarded": 'proto=https;host="c.example:8443"'}).json()
    assert (seen["scheme"], seen["host"]) == ("https", "c.example:8443")


@pytest.mark.parametrize("headers", [
    {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.2"},
    {"X-Forwarded-Prefix": '/"><script>'}, {"X-Forwarded-Prefix": "//evil.example"}, {"X-Forwarded-Prefix": "mail"},
    {"X-Forwarded-Proto": "javascript"}, {"X-Forwarded-Host": "a/b"}, {"X-Forwarded-Host": "a@b"},
    {"Forwarded": "for"}, {"Forwarded": 'for="192.0.2.1'}, {"Forwarded": "for=192.0.2.1 by=x"},
    {"Host": "a b"}, {"Host": "evil.example/x"}, {"Host": "a:b"},
])  # fmt: skip
def test_what_cannot_be_believed_is_refused_with_one_line(headers: dict[str, str]) -> None:
    """It says which header, and what is allowed (K14)."""
    answer = ask(headers)
    assert answer.status_code == 400
    assert answer.text.count("\n") == 1


def test_nobody_else_is_believed() -> None:
    """And nothing behind sees the headers (K14)."""
    said = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    seen = ask({**said, "X-Forwarded-Prefix": "/x", "Forwarded": "for=192.0.2.2"}, peer="192.0.2.77").json()
    assert seen == {"client": "192.0.2.77", "scheme": "http", "host": "inside", "prefix": "", "path": "/queue"}
