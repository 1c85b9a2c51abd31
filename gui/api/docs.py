"""`/api/docs` and `/api/openapi.json`: the API's documentation, as one page from our own server.

The page is made here, from the OpenAPI document, without script: the usual viewers come from elsewhere, which the
console's Content-Security-Policy forbids, and those that are packaged for Python know only OpenAPI 3.0.
"""

from __future__ import annotations

import html
from collections import defaultdict
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse

from gui.api.answers import Json
from gui.api.schema import REF, Schemas, answer

TEXT = (
    "Send a token with each request: `Authorization: Bearer ...`. Tokens are made under Settings, or set by "
    "`api-token`. Errors are RFC 9457 problem details. Times are epoch seconds (UTC) in figures, ISO 8601 in rules "
    "and logs."
)
METHODS = ("get", "post", "put", "delete")


def describe(app: FastAPI, schemas: Schemas) -> dict[str, Any]:
    """The OpenAPI document of this application."""
    document = get_openapi(title="Mailrace", version="1", description=TEXT, routes=app.routes)
    components = document.setdefault("components", {})
    components["schemas"] = dict(sorted(schemas.components.items()))
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    wrong = answer({"$ref": f"{REF}Problem"}, "What is wrong", media="application/problem+json")[200]
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's own form of errors, which is not ours
            operation["responses"]["default"] = wrong
    return document


def routes(app: FastAPI, schemas: Schemas) -> APIRouter:
    """The two routes; made last, and in no document themselves."""
    router = APIRouter(include_in_schema=False)

    @router.get("/api/openapi.json")
    async def document() -> Response:
        return Json(describe(app, schemas))

    @router.get("/api/docs")
    async def docs() -> Response:
        return HTMLResponse(page(describe(app, schemas)))

    return router


def page(document: dict[str, Any]) -> str:
    """The document as HTML."""
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                by_tag[operation.get("tags", [""])[0]].append(_operation(method, path, operation))
    sections = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(parts)}" for tag, parts in by_tag.items())
    models = "".join(_model(name, schema) for name, schema in document["components"]["schemas"].items())
    intro = html.escape(document["info"]["description"])
    link = '<a href="openapi.json">openapi.json</a>'
    return f"{_HEAD}<h1>Mailrace API</h1><p>{intro}</p><p>{link}</p>{sections}<h2>Schemas</h2>{models}</main>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    title = f"<b class={method}>{method.upper()}</b> <code>{html.escape(path)}</code>"
    parts = [f"<details><summary>{title} {html.escape(operation.get('summary', ''))}</summary>"]
    if parameters := operation.get("parameters"):
        rows = "".join(_row(p["name"], {**p["schema"], **_text(p)}, p["in"]) for p in parameters)
        parts.append(f"<h4>Parameters</h4><table>{rows}</table>")
    if sent := operation.get("requestBody"):
        bodies = (f"{html.escape(kind)}: {_type(one.get('schema', {}))}" for kind, one in sent["content"].items())
        parts.append(f"<h4>Body</h4><p>{', '.join(bodies)}</p>")
    for status, response in operation["responses"].items():
        kinds = ", ".join(_type(content.get("schema", {})) for content in response.get("content", {}).values())
        parts.append(f"<p><code>{html.escape(status)}</code> {html.escape(response['description'])} {kinds}</p>")
    return "".join(parts) + "</details>"


def _model(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(_row(field, each) for field, each in schema.get("properties", {}).items())
    text = html.escape(schema.get("description", ""))
    return (
        f"<details id={html.escape(name)!r}><summary><code>{html.escape(name)}</code></summary>"
        f"<p>{text}</p><table>{rows}</table></details>"
    )


def _row(name: str, schema: dict[str, Any], where: str = "") -> str:
    notes = [where, "read only" if schema.get("readOnly") else "", "write only" if schema.get("writeOnly") else ""]
    text = " ".join(part for part in (schema.get("description", ""), schema.get("unit", "")) if part)
    note = ", ".join(filter(None, notes))
    cells = (f"<code>{html.escape(name)}</code>", _type(schema), html.escape(text), html.escape(note))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in a word, with a link where it has a name."""
    if ref := schema.get("$ref"):
        name = html.escape(ref.removeprefix(REF))
        return f'<a href="#{name}">{name}</a>'
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(option) for option in options)
    if "enum" in schema:
        return html.escape(", ".join(map(str, schema["enum"])))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("format") or schema.get("type", "")
    return html.escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _text(parameter: dict[str, Any]) -> dict[str, str]:
    return {"description": parameter["description"]} if "description" in parameter else {}


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mailrace API</title>
<meta name="viewport" content="width=device-width"><style>
:root { color-scheme: light dark } body { font: 15px/1.5 system-ui, sans-serif; margin: 0 }
main { max-width: 62rem; margin: 0 auto; padding: 1rem } summary { cursor: pointer; padding: .25rem 0 }
details > *:not(summary) { margin-left: 1.25rem } table { border-collapse: collapse }
td { padding: .15rem .75rem .15rem 0; vertical-align: top } code { font-family: ui-monospace, monospace }
b { display: inline-block; width: 4.5rem } b.get { color: #2a7 } b.post { color: #27c } b.put { color: #a60 }
b.delete { color: #c33 } </style><main>"""
