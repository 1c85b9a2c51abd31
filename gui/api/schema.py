"""The OpenAPI document: schemas from the rules' models and from the structs that are answered; no second definition."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from settings.rules.models import MODELS, Rule

REF = "#/components/schemas/"
PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


class Schemas:
    """Collects the schemas that routes refer to."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {"Problem": PROBLEM}

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a struct, or of any type that msgspec knows."""
        (schema,), components = msgspec.json.schema_components([kind], ref_template=REF + "{name}")
        self.components |= components
        return schema

    def rule(self, kind: str, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
        """The schema of a rule, as it is sent (validation) or answered."""
        model = MODELS[kind]
        name = model.__name__ + ("New" if mode == "validation" else "")
        if name not in self.components:
            schema = model.model_json_schema(ref_template=REF + "{model}", mode=mode)
            self.components |= schema.pop("$defs", {})
            self.components[name] = _marked(schema, model, mode)
        return {"$ref": REF + name}


def answer(schema: dict[str, Any] | None, text: str, status: int = 200, media: str = "application/json") -> Any:
    """What a route answers, for its `responses`."""
    content = {"content": {media: {"schema": schema}}} if schema is not None else {}
    return {status: {"description": text, **content}}


def body(schema: dict[str, Any]) -> dict[str, Any]:
    """What a route takes, for its `openapi_extra`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def queries(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The query parameters that a struct is made of, for its route's `openapi_extra`."""
    (_,), components = msgspec.json.schema_components([kind], ref_template=REF + "{name}")
    properties = components[kind.__name__]["properties"]
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
    return {"parameters": parameters}


def _marked(schema: dict[str, Any], model: type[Rule], mode: str) -> dict[str, Any]:
    """With OpenAPI's words for what is read or written only, and with the live figures in answers."""
    for field in schema["properties"].values():
        field.pop("group", None)
        for ours, theirs in (("read_only", "readOnly"), ("write_only", "writeOnly")):
            if field.pop(ours, False):
                field[theirs] = True
    if mode == "serialization":
        schema["properties"] |= {name: {"readOnly": True, "description": text} for name, text in model.live.items()}
    return schema
