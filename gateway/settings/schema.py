"""JSON schema of the configuration file, for editors and charts."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gateway.settings.model import Settings
from gateway.settings.sections import Section


def json_schema() -> dict[str, Any]:
    """Generate the schema of the YAML file (JSON Schema 2020-12) from the model."""
    schema = Settings.model_json_schema()
    for model in _subclasses(Section):
        described = schema if model is Settings else schema["$defs"].get(model.__name__, {})
        _add_descriptions(described.get("properties", {}), model)
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Configuration of Runward",
    }


def render_schema() -> str:
    """JSON text of the schema, as stored in `config/gateway.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _subclasses(model: type[Section]) -> Iterator[type[Section]]:
    for subclass in model.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _add_descriptions(properties: dict[str, Any], model: type[Section]) -> None:
    """Add the docstring of each field. pydantic's `use_attribute_docstrings` would parse the source at every start."""
    for base in reversed(model.__mro__):
        if issubclass(base, Section):
            for attribute, docstring in _attribute_docstrings(base):
                name = model.model_fields[attribute].alias or attribute
                properties[name] = dict(sorted({**properties[name], "description": docstring}.items()))


def _attribute_docstrings(model: type[Section]) -> Iterator[tuple[str, str]]:
    """Yield the name of each field that the class body defines, and the text below it."""
    [definition] = ast.parse(inspect.getsource(model)).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)


def _tidy(node: object) -> None:
    """Forbid other keys in mappings keyed by names; remove titles, and defaults that mean the own name."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        if node.get("default") == "":
            del node["default"]
        node.pop("title", None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _tidy(child)
