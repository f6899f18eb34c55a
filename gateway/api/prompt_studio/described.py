"""Prompt Studio's routes as the API's own description (OpenAPI) has them."""

from __future__ import annotations

from gateway.api.responses import Node, answer, json_of

_SECURITY: tuple[dict[str, list[str]], ...] = ({"studio": []}, {"bearer": []}, {"key": []})
SCHEMES: Node = {
    "studio": {
        "type": "apiKey",
        "in": "header",
        "name": "API_KEY",
        "description": "A gateway key, where Prompt Studio's own API has its key.",
    }
}
"""How else a key may be presented to these routes."""

_MEANINGS = {
    400: "Not JSON, or not HTTP.",
    401: "No valid gateway key.",
    403: "The key may not run this workflow.",
    404: "The workflow was not found.",
    408: "The body did not arrive in time.",
    409: "The first request with this Idempotency-Key is still running.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The input is not acceptable, here or to the provider.",
    429: "A limit is reached: nothing was run.",
    500: "The run failed, or nobody knows how it ended; `Runward-Outcome` says which.",
    503: "Nothing was run, and the same request may succeed later.",
}


def paths() -> Node:
    """The routes, by path."""
    return {
        "/v1/workflows/{deployment_id}/run": {"post": _run("runStudioWorkflow", "result", "Run a workflow")},
        "/api/v1/instructions/{deployment_id}/run": {
            "post": _run("runStudioInstruction", "completion", "Run a workflow, as the newer API has it")
        },
        "/api/v1/deployments": {"get": _deployments()},
    }


def _run(name: str, member: str, summary: str) -> Node:
    input_schema: Node = {"type": "object", "properties": {"input": {"type": "object"}}}
    result: Node = {"type": "object", "properties": {member: {}}, "required": [member]}
    path = {"name": "deployment_id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        **_operation(name, summary, path),
        "description": "Answers when the run has ended. Every run can be looked up at `/runs/{id}` then.",
        "requestBody": {"required": True, "content": json_of(input_schema)},
        "responses": {
            "200": answer("The run succeeded.", json_of(result), "Runward-Run-Id", "RateLimit", "RateLimit-Policy"),
            **_refusals(*_MEANINGS),
        },
    }


def _deployments() -> Node:
    page: Node = {"type": "object", "properties": {"deployments": {"type": "array"}}, "required": ["deployments"]}
    return {
        **_operation("listStudioDeployments", "List the workflows that you may run"),
        "responses": {"200": answer("The workflows.", json_of(page)), **_refusals(400, 401, 429, 500, 503)},
    }


def _operation(name: str, summary: str, *parameters: Node) -> Node:
    return {
        "operationId": name,
        "tags": ["Prompt Studio"],
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}, *parameters],
        "security": _SECURITY,
    }


def _refusals(*statuses: int) -> Node:
    empty = json_of({"type": "object", "maxProperties": 0})
    headers = ("Runward-Problem", "Runward-Outcome", "Runward-Run-Id", "Retry-After")
    return {str(status): answer(_MEANINGS[status], empty, *headers) for status in statuses}
