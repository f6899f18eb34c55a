"""The configuration file's JSON schema, for editors and for whoever writes a chart."""

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
        "title": "Runward's configuration",
    }


def render_schema() -> str:
    """Write the schema as `config/gateway.schema.json` holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: object) -> None:
    """Close the mappings whose keys are names; drop titles, and defaults that only stand for "the own name"."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        if node.get("default") == "":
            del node["default"]
        node.pop("title", None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _tidy(child)
