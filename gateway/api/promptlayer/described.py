"""PromptLayer's routes as the API's own description (OpenAPI) has them."""

from __future__ import annotations

from gateway.api.responses import Node, answer, json_of

_SECURITY: tuple[dict[str, list[str]], ...] = ({"key": []}, {"bearer": []})
_MEANINGS = {
    400: "Not JSON, not HTTP, or no acceptable Idempotency-Key.",
    401: "No valid gateway key.",
    403: "The key may not run this workflow.",
    404: "There is no such thing.",
    405: "The route has other methods.",
    408: "The body did not arrive in time.",
    409: "A request with the same key or `channel_name_suffix` is just being taken.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "Something in the request is wrong; `detail` says where.",
    429: "Too many bad keys came from this address.",
    500: "Runward made a mistake.",
    503: "Nothing was kept or run, and the same request may succeed later.",
}
_ALWAYS = (400, 401, 429, 500, 503)

_TEXT: Node = {"type": "string"}
_ANY: Node = {"description": "Any JSON."}
_ID: Node = {"type": ["integer", "string"], "description": "A number; the name, where it is not configured."}
_DETAIL: Node = {
    "type": "object",
    "properties": {"loc": {"type": "array", "items": {"type": ["string", "integer"]}}, "msg": _TEXT, "type": _TEXT},
    "required": ["loc", "msg", "type"],
}
_ERROR: Node = {
    "type": "object",
    "properties": {
        "success": {"const": False},
        "message": _TEXT,
        "error": _TEXT,
        "code": {"type": "string", "description": "A `code` of `ProblemAnswer`."},
        "request_id": _TEXT,
        "detail": {"type": "array", "items": _DETAIL},
    },
    "required": ["success", "message", "error", "code", "request_id"],
}
_STARTED: Node = {
    "type": "object",
    "properties": {
        "success": {"const": True},
        "message": _TEXT,
        "warning": {"type": ["string", "null"]},
        "workflow_version_execution_id": {"type": "integer", "minimum": 1, "maximum": 2**52},
    },
    "required": ["success", "message", "warning", "workflow_version_execution_id"],
}
_LABELS: Node = {"type": "array", "items": _TEXT}
_ITEM: Node = {
    "type": "object",
    "properties": {
        "id": _ID,
        "name": _TEXT,
        "latest_version_number": {"type": ["integer", "null"], "description": "Where the configuration pins one."},
        "release_labels": _LABELS,
    },
    "required": ["id", "name", "latest_version_number", "release_labels"],
}
_WORKFLOW: Node = {
    "type": "object",
    "properties": {
        "success": {"const": True},
        "workflow": {"type": "object", "properties": {"id": _ID, "name": _TEXT}, "required": ["id", "name"]},
        "workflow_id": _ID,
        "workflow_name": _TEXT,
        "version": {"type": ["integer", "null"]},
        "release_labels": _LABELS,
    },
    "required": ["success", "workflow", "workflow_id", "workflow_name"],
}
_TICKET: Node = {
    "type": "object",
    "properties": {
        "success": {"const": True},
        "messaging_backend": {"const": "centrifugo"},
        "token_details": {"type": "object", "properties": {"token": _TEXT}, "required": ["token"]},
    },
    "required": ["success", "messaging_backend", "token_details"],
}
_PAGE: Node = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": _ITEM}, "total": {"type": "integer"}},
    "required": ["items", "page", "per_page", "pages", "total", "has_next", "has_prev", "next_num", "prev_num"],
}


def paths() -> Node:
    """The routes, by path."""
    name = _parameter("workflow_name", "path", _TEXT, required=True)
    return {
        "/workflows/{workflow_name}/run": {"post": _run(name)},
        "/workflow-version-execution-results": {"get": _results()},
        "/workflows/{workflow_name}": {
            "get": _operation("getPromptLayerWorkflow", "Look a workflow's id up", name)
            | {"responses": {"200": answer("The workflow.", json_of(_WORKFLOW)), **_refusals(403, 404, 422)}}
        },
        "/workflows": {
            "get": _operation(
                "listPromptLayerWorkflows",
                "List the workflows that you may run",
                _count("page"),
                _count("per_page", 100),
            )
            | {"responses": {"200": answer("A page of them.", json_of(_PAGE)), **_refusals(422)}}
        },
    }


def realtime_paths() -> Node:
    """The routes that the SDKs' WebSocket needs."""
    channel = _parameter("capability", "query", _TEXT, required=True)
    met = {status: _refusals()[status] for status in ("500", "503")}
    return {
        "/ws-token-request-library": {
            "post": _operation("getPromptLayerTicket", "A ticket to wait for a run on the WebSocket", channel)
            | {"responses": {"201": answer("The ticket, good for an hour.", json_of(_TICKET)), **_refusals(422)}}
        },
        "/connection/websocket": {
            "get": _operation("waitForPromptLayerRun", "The WebSocket on which the official SDKs wait for their runs")
            | {
                "description": "It speaks Centrifugo's protocol in JSON, as far as the SDKs do. The ticket is its key.",
                "security": [],
                "responses": {"101": {"description": "A WebSocket."}, "400": _refusals(400)["400"], **met},
            }
        },
    }


def _run(name: Node) -> Node:
    started = ("Runward-Run-Id", "Location", "Idempotent-Replayed")
    key = _parameter("Idempotency-Key", "header", _TEXT)
    return {
        **_operation("runPromptLayerWorkflow", "Run a workflow, as PromptLayer's API has it", name, key),
        "description": "The run is kept, and starts after the answer. It can be looked up at `/runs/{id}` too.",
        "requestBody": {"required": True, "content": json_of({"$ref": "#/components/schemas/RunWorkflow"})},
        "responses": {
            "201": answer("The run is kept.", json_of(_STARTED), *started),
            "202": answer("The run is kept, and `callback_url` is told its end.", json_of(_STARTED), *started),
            **_refusals(*_MEANINGS),
        },
    }


def _results() -> Node:
    number: Node = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
    return {
        **_operation(
            "getPromptLayerResults",
            "How a run ended, as PromptLayer's API has it",
            _parameter("workflow_version_execution_id", "query", number, required=True),
            _parameter("return_all_outputs", "query", {"type": "boolean", "default": False}),
        ),
        "responses": {
            "200": answer(
                "The run has ended: every node, or the first output's value.", json_of(_ANY), "Runward-Run-Id"
            ),
            "202": answer("The run goes on.", json_of({"type": "object"}), "Runward-Run-Id"),
            **_refusals(404, 422),
        },
    }


def _operation(name: str, summary: str, *parameters: Node) -> Node:
    return {
        "operationId": name,
        "tags": ["PromptLayer"],
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}, *parameters],
        "security": _SECURITY,
    }


def _parameter(name: str, where: str, schema: Node, *, required: bool = False) -> Node:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _count(name: str, most: int = 2**53) -> Node:
    return _parameter(name, "query", {"type": "integer", "minimum": 1, "maximum": most})


def _refusals(*statuses: int) -> Node:
    named = {401: ("WWW-Authenticate",), 405: ("Allow",), 409: ("Retry-After",), 429: ("Retry-After",)}
    named[503] = ("Retry-After",)
    return {
        str(status): answer(_MEANINGS[status], json_of(_ERROR), *named.get(status, ()))
        for status in sorted({*statuses, *_ALWAYS})
    }
