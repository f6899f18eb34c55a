"""OpenAPI description of the routes of Prompt Studio's API."""

from __future__ import annotations

from gateway.api.openapi.responses import RUN_HEADERS, OpenApiNode, json_content, response

_SECURITY: tuple[dict[str, list[str]], ...] = ({"studio": []}, {"bearer": []}, {"key": []})
SECURITY_SCHEMES: OpenApiNode = {
    "studio": {
        "type": "apiKey",
        "in": "header",
        "name": "API_KEY",
        "description": "A gateway key, in the header field of Prompt Studio's API.",
    }
}
"""Further security scheme of these routes."""

_STATUS_DESCRIPTIONS = {
    400: "Malformed JSON or HTTP, or an invalid Idempotency-Key.",
    401: "A valid gateway key is required.",
    402: "A budget is exhausted; nothing was run.",
    403: "The client's scope does not include this workflow.",
    404: "Workflow not found.",
    408: "The request body was not received in time.",
    409: "The first request with this Idempotency-Key is in progress, or there is no room to return its response now.",
    413: "The request body is too large.",
    415: "The request body is not JSON.",
    422: "The gateway or the provider rejected the request.",
    429: "A limit is exceeded; nothing was run.",
    431: "The request line or a header field is too large.",
    500: "The run failed, its outcome is unknown, or internal server error; see `Runward-Outcome`.",
    503: "Nothing was run; the same request may succeed later.",
}


def paths() -> OpenApiNode:
    """Path Items of the routes."""
    return {
        "/v1/workflows/{deployment_id}/run": {"post": _run_operation("runStudioWorkflow", "result", "Run a workflow")},
        "/api/v1/instructions/{deployment_id}/run": {
            "post": _run_operation("runStudioInstruction", "completion", "Run a workflow (newer API)")
        },
        "/api/v1/deployments": {"get": _list_deployments_operation()},
    }


def _run_operation(name: str, member: str, summary: str) -> OpenApiNode:
    input_schema: OpenApiNode = {"type": "object", "properties": {"input": {"type": "object"}}}
    result: OpenApiNode = {"type": "object", "properties": {member: {}}, "required": [member]}
    path = {"name": "deployment_id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        **_operation(name, summary, path),
        "description": "Responds when the run has ended. Every run is stored: `GET /runs/{id}` returns it.",
        "requestBody": {"required": True, "content": json_content(input_schema)},
        "responses": {
            "200": response("The run succeeded.", json_content(result), "Runward-Run-Id", *RUN_HEADERS),
            **_error_responses(*_STATUS_DESCRIPTIONS),
        },
    }


def _list_deployments_operation() -> OpenApiNode:
    page: OpenApiNode = {
        "type": "object",
        "properties": {"deployments": {"type": "array"}},
        "required": ["deployments"],
    }
    return {
        **_operation("listStudioDeployments", "List the workflows that you may run"),
        "responses": {
            "200": response("The workflows.", json_content(page)),
            **_error_responses(400, 401, 429, 500, 503),
        },
    }


def _operation(name: str, summary: str, *parameters: OpenApiNode) -> OpenApiNode:
    return {
        "operationId": name,
        "tags": ["Prompt Studio"],
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}, *parameters],
        "security": _SECURITY,
    }


def _error_responses(*statuses: int) -> OpenApiNode:
    empty_object = json_content({"type": "object", "maxProperties": 0})
    headers = ("Runward-Problem", "Runward-Outcome", "Runward-Run-Id", "Retry-After")
    return {str(status): response(_STATUS_DESCRIPTIONS[status], empty_object, *headers) for status in statuses}
