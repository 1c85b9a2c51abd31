"""What is wrong with a request is said as RFC 9457 problem details: what is wrong, and what is allowed."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gui.api.world import World, running
from tests.support.mailbox import Mailbox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One machine for all of them: a bad request changes nothing."""
    with Mailbox("127.4.0.1") as mailbox:
        async with running(tmp_path_factory.mktemp("bad"), mailbox) as made:
            yield made


FORBIDDEN = "is no field of this rule; allowed are name, addresses"

# Method, path, body, status, detail, errors as (field, message).
BAD: list[tuple[str, str, Any, int, str, list[tuple[str, str]]]] = [
    ("GET", "/nothing", None, 404, "There is nothing at /api/v1/nothing; /api/docs lists what there is.", []),
    ("PATCH", "/status", None, 405, "PATCH is not for /api/v1/status; allowed are GET, HEAD, OPTIONS.", []),
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
    shared: World, method: str, path: str, body: Any, status: int, detail: str, errors: list[tuple[str, str]]
) -> None:
    """Status, media type, and the exact words."""
    sent = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    answer = await shared.client.request(method, path, **sent)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert set(found) <= {"type", "title", "status", "detail", "errors"}
    assert found["status"] == status
    assert detail in (found["detail"], "")
    for field, message in errors:
        assert any(e["field"] == field and message in (e["message"], "") for e in found["errors"]), found


async def test_a_body_that_is_packed_is_told_and_a_mark_before_it_is_read(shared: World) -> None:
    """K6: gzip is 415, with what is taken (RFC 9110 15.5.16); the mark of UTF-8 is of no meaning (RFC 8259 8.1)."""
    body = b'{"name": "a.example", "addresses": ["192.0.2.1"]}'
    packed = {"Content-Encoding": "gzip"}
    answer = await shared.client.post("/dns", content=gzip.compress(body), headers=packed)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    answer = await shared.client.post("/dns", content=b"\xef\xbb\xbf" + body, headers={"Content-Encoding": "identity"})
    assert answer.status_code == 201, answer.text
    assert (await shared.client.delete(f"/dns/{answer.json()['id']}")).status_code == 204
