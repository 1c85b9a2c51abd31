"""The door, the bounds of bodies, and what is said when something of ours fails."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from gui.access.tries import MOST_TRIES, Tries
from gui.api import application
from tests.gui.api.world import ACCESS, World


async def test_a_fault_of_ours_says_nothing_of_its_cause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, in general words."""

    def broken(*_: object) -> None:
        raise RuntimeError("amqp://user:password@host")

    monkeypatch.setattr(world.machine.telemetry, "top_errors", broken)
    answer = await world.client.get("/status")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "password" not in answer.text


async def test_nothing_is_reached_without_a_token(world: World) -> None:
    """Every route and every path beside them: 401, as a problem, whatever the key."""
    routes = [(method, re.sub(r"\{.*?\}", "1", path)) for path, methods in walk(world.app) for method in methods]
    assert len(routes) > 60
    beside = [("GET", "/api"), ("GET", "/api/"), ("POST", "/api/v1/none"), ("OPTIONS", "/api/v1/status")]
    for method, path in [*routes, *beside]:
        answer = await world.stranger.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer wrong", f"Basic {world.token}", "Bearer", world.token):
        ACCESS.tries = Tries()
        answer = await world.stranger.get("/api/v1/status", headers={"Authorization": wrong})
        assert answer.status_code == 401, wrong
    assert (await world.stranger.get("/elsewhere")).text == "the console"


async def test_a_wrong_token_costs_who_gives_it_and_a_right_one_is_always_let_in(world: World) -> None:
    """From the same address, as often as it likes; whoever sends none is not meant (S3, K15)."""
    ACCESS.tries = Tries(lambda: 1000.0)
    codes = []
    for _ in range(5):
        answer = await world.stranger.get("/api/v1/status", headers={"Authorization": "Bearer wrong"})
        codes.append(answer.status_code)
        assert (await world.client.get("/status")).status_code == 200
    assert codes == [401, 401, 401, 429, 429]
    for _ in range(MOST_TRIES):
        ACCESS.tries.failed("127.0.0.1")
    answer = await world.stranger.get("/api/v1/status", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "901")
    assert answer.json()["detail"] == "The token is not known. Too many failed tries. Try again in 15 minutes."
    assert (await world.stranger.get("/api/v1/status")).status_code == 401
    assert (await world.client.get("/status")).status_code == 200
    ACCESS.tries = Tries()


def walk(app: Any) -> list[tuple[str, list[str]]]:
    """Every route of the application, from its own document and the two of the documentation."""
    from gui.api.docs import describe
    from gui.api.schema import Schemas

    paths = describe(app, Schemas())["paths"]
    found = [(path, [method.upper() for method in operations]) for path, operations in paths.items()]
    return [*found, ("/api/docs", ["GET"]), ("/api/openapi.json", ["GET"])]


@pytest.fixture
def options() -> dict[str, object]:
    return {"smtp-maxsize": "2MB", "api-token": "t0k3n-of-16-chars"}


async def test_a_body_is_no_larger_than_a_message_may_be(world: World) -> None:
    """And one that is no message is small; what is left of memory comes back."""
    large = await world.client.post("/messages", content=b" " * 2_000_001)
    assert (large.status_code, large.json()["detail"]) == (413, "The body is too large; allowed are 2000000 octets.")
    rule = await world.client.post("/throttles", content=b" " * 1_000_001)
    assert rule.json()["detail"] == "The body is too large; allowed are 1000000 octets."
    for _ in range(5):
        assert (await world.client.post("/messages", content=b" " * 1_900_000)).status_code == 400


async def test_the_token_of_the_configuration_works_too(world: World) -> None:
    """And in the audit it is `api-token`."""
    async with httpx.AsyncClient(base_url=world.url, headers={"Authorization": "Bearer t0k3n-of-16-chars"}) as other:
        assert (await other.post("/api/v1/locals", json={"pattern": "a@b.example"})).status_code == 201
    assert (await world.get("/audit", limit=1))[0]["who"] == "api-token"


def test_every_route_has_its_summary_and_its_tag(world: World) -> None:
    """So that the documentation has no gap."""
    from gui.api.docs import describe
    from gui.api.schema import Schemas

    for operations in describe(application(world.facade, world.tokens), Schemas())["paths"].values():
        assert all(operation["summary"] and operation["tags"] for operation in operations.values())
