"""What goes wrong is said as RFC 9457 problem details, each time with what is wrong and what is allowed."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from gui.api import application
from tests.gui.api.world import World

FORBIDDEN = "is no field of this rule; allowed are name, addresses"

# Method, path, body, status, detail, errors as (field, message).
BAD: list[tuple[str, str, Any, int, str, list[tuple[str, str]]]] = [
    ("GET", "/nothing", None, 404, "There is nothing at /api/v1/nothing; /api/docs lists what there is.", []),
    ("PATCH", "/status", None, 405, "PATCH is not for /api/v1/status; allowed is GET.", []),
    ("GET", "/throttles/77", None, 404, "there is no rule 77 among the throttles", []),
    (
        "GET",
        "/throttles/x",
        None,
        422,
        "A parameter cannot be used.",
        [("id", "input should be a valid integer, unable to parse string as an integer")],
    ),
    ("POST", "/throttles", b"{", 400, "The body is not JSON: Input data was truncated.", []),
    ("POST", "/throttles", b"\xff", 400, "", []),
    ("POST", "/throttles", b"[" * 200_000, 400, "The body is nested too deep.", []),
    ("POST", "/throttles", [1], 422, "The body must be a JSON object.", []),
    (
        "POST",
        "/throttles",
        {"queue": -1},
        422,
        "The rule cannot be used.",
        [("queue", "is too small; allowed is 0 or more")],
    ),
    (
        "POST",
        "/throttles",
        {"queue": "many"},
        422,
        "The rule cannot be used.",
        [("queue", "must be a whole number")],
    ),
    (
        "POST",
        "/dns",
        {"name": "a.example", "addresses": ["192.0.2.1"], "x": 1},
        422,
        "The rule cannot be used.",
        [("x", FORBIDDEN)],
    ),
    (
        "POST",
        "/floods/try",
        {"type": "regex", "pattern": "("},
        422,
        "The pattern cannot be tried.",
        [("pattern", "")],
    ),
    (
        "POST",
        "/floods/try",
        {"type": "glob", "pattern": "a"},
        422,
        "The pattern cannot be tried.",
        [("type", "is none of these: exact, substring, wildcard, regex")],
    ),
    ("POST", "/floods/try", {}, 422, "A field cannot be used.", [("", "object missing required field `pattern`")]),
    ("POST", "/messages", [], 422, "There are 0 messages; allowed are 1 to 10000.", []),
    ("POST", "/messages", 7, 422, "Some messages cannot be sent; none is queued.", []),
    ("GET", "/messages/77", None, 404, "There is no message 77 in the queue.", []),
    ("GET", "/messages/99999999999999999999", None, 422, "A parameter cannot be used.", []),
    ("POST", "/messages/77/retry", None, 404, "There is no message 77 in the queue to retry.", []),
    ("DELETE", "/messages/77", None, 404, "There is no message 77 in the queue to delete.", []),
    (
        "GET",
        "/messages?state=lost",
        None,
        422,
        "A field cannot be used.",
        [("state", "invalid enum value 'lost'")],
    ),
    ("GET", "/messages?after=x", None, 422, "A parameter cannot be used.", []),
    ("GET", "/messages/actions/77", None, 404, "There is no bulk action 77, or it is forgotten.", []),
    (
        "POST",
        "/messages/actions",
        {"action": "burn", "selection": {}},
        422,
        "A field cannot be used.",
        [("action", "invalid enum value 'burn'")],
    ),
    (
        "POST",
        "/messages/actions",
        {"action": "delete", "selection": {"colour": 1}},
        422,
        "A field cannot be used.",
        [("selection", "object contains unknown field `colour`")],
    ),
    ("GET", "/lanes/192.0.2.1/x", None, 404, "There is no lane '192.0.2.1/x', and none is remembered.", []),
    ("POST", "/lanes/192.0.2.1/x/retry", None, 404, "There is no lane '192.0.2.1/x', and none is remembered.", []),
    ("DELETE", "/lanes/a/b/flood", None, 404, "There is no lane 'a/b', and none is remembered.", []),
    ("GET", "/domains?sort=colour", None, 422, "A parameter cannot be used.", []),
    ("GET", "/logs?colour=red", None, 422, "A filter cannot be used.", []),
    ("GET", "/logs?code=red", None, 422, "A field cannot be used.", [("code", "expected `int | null`, got `str`")]),
    ("GET", "/logs?log=received&code=250", None, 422, "", []),
    (
        "GET",
        "/logs?after=x",
        None,
        422,
        "A parameter cannot be used.",
        [("after", "is no place; allowed is the `next` of a page")],
    ),
    ("GET", "/logs/counts?by=colour", None, 422, "A parameter cannot be used.", []),
    ("GET", "/logs/story", None, 422, "A parameter cannot be used.", [("message_id", "field required")]),
    ("GET", "/events?type=colour", None, 422, "A parameter cannot be used.", []),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "detail", "errors"), BAD)
async def test_a_bad_request_gets_its_problem(
    world: World, method: str, path: str, body: Any, status: int, detail: str, errors: list[tuple[str, str]]
) -> None:
    """Status, media type, and the exact words."""
    sent = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    answer = await world.client.request(method, path, **sent)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert set(found) <= {"type", "title", "status", "detail", "errors"}
    assert found["status"] == status
    assert detail in (found["detail"], "")
    for field, message in errors:
        assert any(e["field"] == field and message in (e["message"], "") for e in found["errors"]), found


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
    wrong: list[dict[str, str]] = [
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {world.token}"}, {"Authorization": "Bearer"},
    ]  # fmt: skip
    for method, path in [
        *routes,
        ("GET", "/api"),
        ("GET", "/api/"),
        ("POST", "/api/v1/none"),
        ("OPTIONS", "/api/v1/x"),
    ]:
        for headers in wrong:
            answer = await world.stranger.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (await world.stranger.get("/elsewhere")).text == "the console"


def walk(app: Any) -> list[tuple[str, list[str]]]:
    """Every route of the application, from its own document and the two of the documentation."""
    from gui.api.docs import describe
    from gui.api.schema import Schemas

    paths = describe(app, Schemas())["paths"]
    found = [(path, [method.upper() for method in operations]) for path, operations in paths.items()]
    return [*found, ("/api/docs", ["GET"]), ("/api/openapi.json", ["GET"])]


@pytest.fixture
def options() -> dict[str, object]:
    return {"smtp-maxsize": "2MB", "api-token": "t0k3n"}


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
    async with httpx.AsyncClient(base_url=world.url, headers={"Authorization": "Bearer t0k3n"}) as other:
        assert (await other.post("/api/v1/locals", json={"pattern": "a@b.example"})).status_code == 201
    assert (await world.get("/audit", limit=1))[0]["who"] == "api-token"


def test_every_route_has_its_summary_and_its_tag(world: World) -> None:
    """So that the documentation has no gap."""
    from gui.api.docs import describe
    from gui.api.schema import Schemas

    for operations in describe(application(world.facade), Schemas())["paths"].values():
        assert all(operation["summary"] and operation["tags"] for operation in operations.values())
