"""Calls of the REST API made from its own OpenAPI document, well formed and odd: none is answered with 500.

Run as a command: `python -m tests.system.fuzz --only rest`. It starts a program of its own, whose mail
goes nowhere, and says what it found; the exit code is 1 where a call failed. The same seed makes the same calls.
"""

from __future__ import annotations

import collections
import json
import random
import string
from collections.abc import Callable
from typing import Any

import httpx

from tests.support.api import TOKEN
from tests.support.program import Program
from tests.system.progress import Progress

REF = "#/components/schemas/"
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, "", " ", "\0", "a\r\nb", "\ud800",
    "é" * 300, "x" * 5000, "%00", "../../etc/passwd", "<b>", "{{7*7}}", "0", "-1", "1e999", "NaN", "null", "*",
    "(a+)+$", "[", "\\", "a@b", "127.0.0.1", "::1", "fe80::1%lo", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59+99:99",
    [], {}, [[]], {"": None}, {"a": {"a": {"a": 1}}},
)  # fmt: skip
LEAST_GROWTH = 20_000_000  # octets: what a program that has just started takes for its first calls of each kind
GROWTH = 0.1
ENDLESS = "/api/v1/events"
JUNK: tuple[bytes, ...] = (
    b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"nul", b'"' + b"\\" * 1001 + b'"', b"1" * 10_000,
    b'{"a":1,"a":2}', b"[1e99999]", b"\xef\xbb\xbf{}", b'{"\\ud800":1}',
)  # fmt: skip


class Found:
    """What the calls gave.

    Attributes:
        statuses: how often each was answered.
        wrong: a line for each call that failed.
    """

    def __init__(self) -> None:
        self.statuses: collections.Counter[int] = collections.Counter()
        self.wrong: list[str] = []


class Fuzz:
    """Makes calls from an OpenAPI document.

    Args:
        client: of the API, with a token.
        seed: the same makes the same calls.
    """

    def __init__(self, client: httpx.Client, seed: int, progress: Progress | None = None) -> None:
        self._progress = progress or Progress()
        self._client, self._dice = client, random.Random(seed)
        document = client.get("/api/openapi.json").json()
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        self._operations = [
            (method.upper(), path, operation)
            for path, operations in sorted(document["paths"].items())
            for method, operation in sorted(operations.items())
            if path != ENDLESS
        ]

    def run(self, count: int) -> Found:
        """So many calls."""
        found = Found()
        for number in range(count):
            method, path, operation = self._dice.choice(self._operations)
            self._progress(f"call {number} of {count}: {method} {path}")
            if self._dice.random() < 0.05:
                method = self._dice.choice(("HEAD", "OPTIONS", "PATCH", "PUT", "DELETE", "TRACE"))
            self._call(found, number, method, self._filled(path), operation)
        return found

    def _call(self, found: Found, number: int, method: str, path: str, operation: dict[str, Any]) -> None:
        query = {p["name"]: self._value(p["schema"]) for p in operation.get("parameters", ()) if p["in"] == "query"}
        asked = "&".join(f"{name}={_quoted(value)}" for name, value in query.items() if self._dice.random() < 0.5)
        url, body = path + (f"?{asked}" if asked else ""), self._body(operation)
        try:
            answer = self._client.request(method, url, content=body, headers=self._headers())
        except httpx.HTTPError as error:
            found.wrong.append(f"{number}: {method} {url[:200]}: {type(error).__name__} {error}")
            return
        found.statuses[answer.status_code] += 1
        problem = answer.headers.get("content-type") == "application/problem+json"
        if answer.status_code == 500 or (answer.status_code >= 400 and not problem and method != "HEAD"):
            found.wrong.append(f"{number}: {method} {url[:200]} {(body or b'')[:200]!r}: {answer.status_code}")

    def _headers(self) -> list[tuple[bytes, bytes]]:
        odd: tuple[tuple[bytes, bytes], ...] = (
            (b"If-Match", b'"x", W/"y", *'), (b"Idempotency-Key", self._dice.choice((b"k", b"", b"\xff", b"x" * 300))),
            (b"Range", b"bytes=5-1,-,a"), (b"Content-Type", b"text/plain; charset=x"), (b"Accept", b";;q=,"),
            (b"Accept-Encoding", b"gzip;q=x"), (b"X-Forwarded-For", b"a, b"), (b"Content-Encoding", b"gzip"),
        )  # fmt: skip
        return [pair for pair in odd if self._dice.random() < 0.1]

    def _filled(self, path: str) -> str:
        parts = path.split("{")
        ids: Callable[[], Any] = lambda: self._dice.choice((1, 2, 0, 10**6, *ODD))  # noqa: E731
        return parts[0] + "".join(_quoted(ids()) + part.partition("}")[2] for part in parts[1:])

    def _body(self, operation: dict[str, Any]) -> bytes | None:
        if "requestBody" not in operation:
            return None if self._dice.random() < 0.9 else b"{}"
        if self._dice.random() < 0.1:
            return self._dice.choice(JUNK)
        ((kind, content),) = operation["requestBody"]["content"].items()
        value = self._value(content["schema"])
        if kind == "application/json" or not isinstance(value, str):
            return json.dumps(value, allow_nan=True).encode()
        return value.encode("utf-8", "surrogatepass")

    def _value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """One that fits, mostly."""
        if self._dice.random() < 0.12 or depth > 5:
            return self._dice.choice(ODD)
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].removeprefix(REF)], depth + 1)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self._value(self._dice.choice(options), depth + 1)
        if "enum" in schema:
            return self._dice.choice(schema["enum"])
        kind = schema.get("type", "string")
        return self._of(self._dice.choice(kind) if isinstance(kind, list) else kind, schema, depth)

    def _of(self, kind: str, schema: dict[str, Any], depth: int) -> Any:
        if kind == "object":
            names = schema.get("properties", {})
            return {name: self._value(each, depth + 1) for name, each in names.items() if self._dice.random() < 0.6}
        if kind == "array":
            return [self._value(schema.get("items", {}), depth + 1) for _ in range(self._dice.randint(0, 3))]
        if kind in ("integer", "number"):
            return self._dice.randint(int(schema.get("minimum", 0)), int(schema.get("maximum", 1000)))
        if kind == "boolean":
            return self._dice.random() < 0.5
        words = ("example.com", "127.0.0.1", "you@example.com", "substring", "x", self._letters())
        return None if kind == "null" else self._dice.choice(words)

    def _letters(self) -> str:
        return "".join(self._dice.choice(string.printable) for _ in range(self._dice.randint(0, 30)))


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(f"%{octet:02x}" for octet in text.encode("utf-8", "surrogatepass")[:4000])


def fuzz(program: Program, count: int, seed: int, progress: Progress | None = None) -> tuple[Found, int, int]:
    """Fuzz a running program; what was found, and its memory after a fifth of the calls and in the end."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{program.www_port}", headers=headers, timeout=60) as client:
        made = Fuzz(client, seed, progress)
        first = made.run(count // 5)
        before = program.resident()
        rest = made.run(count - count // 5)
    rest.wrong[:0] = first.wrong
    rest.statuses += first.statuses
    return rest, before, program.resident()


def grew(before: int, after: int) -> bool:
    """Whether memory grew more than it may."""
    return after - before > max(GROWTH * before, LEAST_GROWTH)


def options() -> dict[str, object]:
    """Of the program that is fuzzed: its mail is not sent anywhere."""
    return {"api_token": TOKEN, "delivery_sink": "127.0.0.1:9", "rabbitmq_qos": 10, "smtp_maxsize": "1MB"}
