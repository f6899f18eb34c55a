"""OpenAPI description of the routes of PromptLayer's API."""

from __future__ import annotations

from gateway.api.openapi.responses import OpenApiNode, json_content, response

_SECURITY: tuple[dict[str, list[str]], ...] = ({"key": []}, {"bearer": []})
_STATUS_DESCRIPTIONS = {
    400: "Malformed JSON or HTTP, or an invalid Idempotency-Key.",
    401: "A valid gateway key is required.",
    402: "A budget is exhausted; nothing was run.",
    403: "The client's scope does not include this workflow.",
    404: "Workflow, execution or route not found.",
    405: "Method not allowed.",
    408: "The request body was not received in time.",
    409: "A request with the same key or `channel_name_suffix` is in progress, or the run may have been accepted.",
    413: "The request body is too large.",
    415: "The request body is not JSON.",
    422: "The request is invalid; `detail` lists the errors.",
    429: "Too many requests with invalid keys from this address.",
    431: "The request line or a header field is too large.",
    500: "Internal server error.",
    503: "Nothing was stored or run; the same request may succeed later.",
}
_COMMON_STATUSES = (400, 401, 429, 500, 503)

_STRING: OpenApiNode = {"type": "string"}
_ANY_JSON: OpenApiNode = {"description": "Any JSON."}
_ID: OpenApiNode = {
    "type": ["integer", "string"],
    "description": "A number; the name if the workflow is not configured.",
}
_DETAIL: OpenApiNode = {
    "type": "object",
    "properties": {"loc": {"type": "array", "items": {"type": ["string", "integer"]}}, "msg": _STRING, "type": _STRING},
    "required": ["loc", "msg", "type"],
}
_ERROR: OpenApiNode = {
    "type": "object",
    "properties": {
        "success": {"const": False},
        "message": _STRING,
        "error": _STRING,
        "code": {"type": "string", "description": "A `code` of `ProblemAnswer`."},
        "request_id": _STRING,
        "detail": {"type": "array", "items": _DETAIL},
    },
    "required": ["success", "message", "error", "code", "request_id"],
}
_STARTED: OpenApiNode = {
    "type": "object",
    "properties": {
        "success": {"const": True},
        "message": _STRING,
        "warning": {"type": ["string", "null"]},
        "workflow_version_execution_id": {"type": "integer", "minimum": 1, "maximum": 2**52},
    },
    "required": ["success", "message", "warning", "workflow_version_execution_id"],
}
_LABELS: OpenApiNode = {"type": "array", "items": _STRING}
_ITEM: OpenApiNode = {
    "type": "object",
    "properties": {
        "id": _ID,
        "name": _STRING,
        "latest_version_number": {
            "type": ["integer", "null"],
            "description": "Version that the configuration pins, if any.",
        },
        "release_labels": _LABELS,
    },
    "required": ["id", "name", "latest_version_number", "release_labels"],
}
_WORKFLOW: OpenApiNode = {
    "type": "object",
    "properties": {
        "success": {"const": True},
        "workflow": {"type": "object", "properties": {"id": _ID, "name": _STRING}, "required": ["id", "name"]},
        "workflow_id": _ID,
        "workflow_name": _STRING,
        "version": {"type": ["integer", "null"]},
        "release_labels": _LABELS,
    },
    "required": ["success", "workflow", "workflow_id", "workflow_name"],
}
_TOKEN: OpenApiNode = {
    "type": "object",
    "properties": {
        "success": {"const": True},
        "messaging_backend": {"const": "centrifugo"},
        "token_details": {"type": "object", "properties": {"token": _STRING}, "required": ["token"]},
    },
    "required": ["success", "messaging_backend", "token_details"],
}
_PAGE: OpenApiNode = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": _ITEM}, "total": {"type": "integer"}},
    "required": ["items", "page", "per_page", "pages", "total", "has_next", "has_prev", "next_num", "prev_num"],
}


def paths() -> OpenApiNode:
    """Path Items of the routes."""
    name = _parameter("workflow_name", "path", _STRING, required=True)
    return {
        "/workflows/{workflow_name}/run": {"post": _run_operation(name)},
        "/workflow-version-execution-results": {"get": _results_operation()},
        "/workflows/{workflow_name}": {
            "get": _operation("getPromptLayerWorkflow", "Look up the id of a workflow", name)
            | {
                "responses": {
                    "200": response("The workflow.", json_content(_WORKFLOW)),
                    **_error_responses(403, 404, 422),
                }
            }
        },
        "/workflows": {
            "get": _operation(
                "listPromptLayerWorkflows",
                "List the workflows that you may run",
                _integer_parameter("page"),
                _integer_parameter("per_page", 100),
            )
            | {"responses": {"200": response("A page of workflows.", json_content(_PAGE)), **_error_responses(422)}}
        },
    }


def realtime_paths() -> OpenApiNode:
    """Path Items of the WebSocket and its token route."""
    channel = _parameter("capability", "query", _STRING, required=True)
    server_errors = {status: _error_responses()[status] for status in ("500", "503")}
    return {
        "/ws-token-request-library": {
            "post": _operation("getPromptLayerTicket", "Issue a token for the WebSocket", channel)
            | {
                "responses": {
                    "201": response("The token, valid for an hour.", json_content(_TOKEN)),
                    **_error_responses(422),
                }
            }
        },
        "/connection/websocket": {
            "get": _operation("waitForPromptLayerRun", "WebSocket on which the official SDKs wait for their runs")
            | {
                "description": "Centrifugo's client protocol in JSON, as far as the SDKs use it. Requires a token.",
                "security": [],
                "responses": {
                    "101": {"description": "A WebSocket."},
                    "400": _error_responses(400)["400"],
                    **server_errors,
                },
            }
        },
    }


def _run_operation(name: OpenApiNode) -> OpenApiNode:
    header_names = ("Runward-Run-Id", "Location", "Idempotent-Replayed")
    key = _parameter("Idempotency-Key", "header", _STRING)
    return {
        **_operation("runPromptLayerWorkflow", "Run a workflow (PromptLayer's API)", name, key),
        "description": "The run is stored and starts after the response. `GET /runs/{id}` returns it too.",
        "requestBody": {"required": True, "content": json_content({"$ref": "#/components/schemas/RunWorkflow"})},
        "responses": {
            "201": response("The run is stored.", json_content(_STARTED), *header_names),
            "202": response(
                "The run is stored; its results are delivered to `callback_url`.", json_content(_STARTED), *header_names
            ),
            **_error_responses(*_STATUS_DESCRIPTIONS),
        },
    }


def _results_operation() -> OpenApiNode:
    execution_id: OpenApiNode = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
    return {
        **_operation(
            "getPromptLayerResults",
            "Results of a run (PromptLayer's API)",
            _parameter("workflow_version_execution_id", "query", execution_id, required=True),
            _parameter("return_all_outputs", "query", {"type": "boolean", "default": False}),
        ),
        "responses": {
            "200": response(
                "The run has ended: every node, or the value of the first output node.",
                json_content(_ANY_JSON),
                "Runward-Run-Id",
            ),
            "202": response("The run is in progress.", json_content({"type": "object"}), "Runward-Run-Id"),
            **_error_responses(404, 422),
        },
    }


def _operation(name: str, summary: str, *parameters: OpenApiNode) -> OpenApiNode:
    return {
        "operationId": name,
        "tags": ["PromptLayer"],
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}, *parameters],
        "security": _SECURITY,
    }


def _parameter(name: str, location: str, schema: OpenApiNode, *, required: bool = False) -> OpenApiNode:
    return {"name": name, "in": location, "required": required, "schema": schema}


def _integer_parameter(name: str, maximum: int = 2**53) -> OpenApiNode:
    return _parameter(name, "query", {"type": "integer", "minimum": 1, "maximum": maximum})


def _error_responses(*statuses: int) -> OpenApiNode:
    headers_by_status = {401: ("WWW-Authenticate",), 405: ("Allow",), 409: ("Retry-After",), 429: ("Retry-After",)}
    headers_by_status[503] = ("Retry-After",)
    return {
        str(status): response(_STATUS_DESCRIPTIONS[status], json_content(_ERROR), *headers_by_status.get(status, ()))
        for status in sorted({*statuses, *_COMMON_STATUSES})
    }
