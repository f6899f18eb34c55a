"""Schemas of an OpenAPI document, generated from models, and references to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, SkipJsonSchema, models_json_schema
from pydantic_core import core_schema

from gateway.api.openapi.responses import OpenApiNode, json_content

NotRequired: TypeAlias = SkipJsonSchema[None]
"""In a union with the type of a member that may be absent, but is never null."""


def component_schemas(requests: Iterable[type[BaseModel]], responses: Iterable[type[BaseModel]]) -> OpenApiNode:
    """Schemas by the names of the models, and of those within them."""
    _, definitions = models_json_schema(
        [*((model, "validation") for model in requests), *((model, "serialization") for model in responses)],
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    schemas: OpenApiNode = definitions["$defs"]
    return schemas


def model_content(name: str) -> OpenApiNode:
    """Content of a JSON response whose schema is that of a model."""
    return json_content({"$ref": f"#/components/schemas/{name}"})


class _SchemaGenerator(GenerateJsonSchema):
    """Compact schemas: no titles derived from names, no null defaults, no `anyOf` for nullable types."""

    def field_title_should_be_set(self, _schema: object) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str) and not {"enum", "const"} & inner.keys():
            return {**inner, "type": [inner["type"], "null"]}
        return super().nullable_schema(schema)
