"""JSON schema of the configuration file, for editors and charts."""

from __future__ import annotations

import json
from typing import Any

from gateway.settings.model import Settings


def json_schema() -> dict[str, Any]:
    """Generate the schema of the YAML file (JSON Schema 2020-12) from the model."""
    schema = Settings.model_json_schema()
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Configuration of Runward",
    }


def render_schema() -> str:
    """JSON text of the schema, as stored in `config/gateway.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


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
