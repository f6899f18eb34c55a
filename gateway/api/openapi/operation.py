"""OpenAPI Operation Objects: the members that every operation has."""

from __future__ import annotations

from gateway.api.openapi.responses import OpenApiNode

REQUEST_ID: OpenApiNode = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Request id for logs: 1 to 128 characters of `A-Z a-z 0-9 . _ : / + = -`.",
}
"""Parameter of every operation, for `components` of the document."""


def operation(name: str, tag: str, summary: str, *parameters: OpenApiNode) -> OpenApiNode:
    """Operation Object without its responses. `name`: its `operationId`."""
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}, *parameters],
    }
