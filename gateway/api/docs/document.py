"""OpenAPI 3.1 document of the public port, generated from the validation models and the table of problems."""

from __future__ import annotations

from importlib.metadata import version

from gateway.api.openapi import examples
from gateway.api.openapi.component_schemas import component_schemas, model_content
from gateway.api.openapi.list_parameters import list_parameters, query_parameter
from gateway.api.openapi.operation import REQUEST_ID, operation
from gateway.api.openapi.response_schemas import (
    ProblemAnswer,
    RunAnswer,
    RunNotCancelled,
    RunShown,
    RunsPage,
    RunTimeline,
)
from gateway.api.openapi.responses import HEADERS, RUN_HEADERS, OpenApiNode, json_content, problem_responses, response
from gateway.api.openapi.usage_schemas import CSV_CONTENT, UsageReport, usage_description, usage_parameters
from gateway.api.prompt_studio import openapi as studio
from gateway.api.promptlayer import openapi as promptlayer
from gateway.api.promptlayer.requests import RunWorkflow
from gateway.api.replay_run import ReplayRequest
from gateway.api.run_lookup import MAX_WAIT
from gateway.api.run_request import RunRequest
from gateway.api.usage_query import MAX_CLIENT_DAYS
from gateway.problems import PROBLEMS

_DESCRIPTION = """\
Runs prompt workflows at PromptLayer and Prompt Studio: one endpoint, one key.

Starting a run costs money and cannot be undone. A start that may have reached a provider is not sent again, and every
response states the outcome of the run:

| `outcome` | meaning |
|---|---|
| (status 200) | The run succeeded. |
| `not_run` | Nothing was run, and nothing will be. |
| `failed` | The run was executed and failed. |
| `unknown` | The run may have been executed, or may still be running. Repeating it may cost a second run. |

`retryable: true`: the same request may succeed later and cannot cause a second run."""
_TAGS = (
    ("Runs", "Run workflows."),
    ("Usage", "Your runs by day, and what they cost."),
    ("PromptLayer", "Run workflows through PromptLayer's API."),
    ("Prompt Studio", "Run workflows through Prompt Studio's API."),
    ("Health", "Liveness and readiness, for load balancers."),
    ("Documentation", "This document."),
)
_SECURITY: tuple[dict[str, list[str]], ...] = ({"bearer": []}, {"key": []})

_RUN_CODES = tuple(code for code in PROBLEMS if code != "client_closed_request")  # its client has disconnected
_PUBLIC_CODES = ("malformed_request", "internal")
_AUTHENTICATED_CODES = (*_PUBLIC_CODES, "unauthorized", "too_many_failures", "overloaded", "draining")


def openapi_document() -> OpenApiNode:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runward",
            "version": version("runward"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "paths": {
            "/run": {"post": _run_operation()},
            "/runs": {"get": _list_runs_operation()},
            "/runs/{id}": {"get": _get_run_operation()},
            "/runs/{id}/timeline": {"get": _timeline_operation()},
            "/runs/{id}/cancel": {"post": _cancel_run_operation()},
            "/runs/{id}/replay": {"post": _replay_run_operation()},
            "/usage": {"get": _usage_operation()},
            **promptlayer.paths(),
            **promptlayer.realtime_paths(),
            **studio.paths(),
            "/healthz": {"get": _healthz_operation()},
            "/readyz": {"get": _readyz_operation()},
            "/openapi.json": {"get": _openapi_operation()},
            "/docs": {"get": _docs_operation()},
        },
        "components": {
            "schemas": component_schemas((RunRequest, ReplayRequest, RunWorkflow), _RESPONSE_MODELS),
            "headers": HEADERS,
            "parameters": {"RequestId": REQUEST_ID},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A gateway key."},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "A gateway key."},
                **studio.SECURITY_SCHEMES,
            },
        },
    }


def _run_operation() -> OpenApiNode:
    request = {"schema": {"$ref": "#/components/schemas/RunRequest"}, "examples": examples.request_examples()}
    run = {"schema": {"$ref": "#/components/schemas/RunAnswer"}, "examples": examples.run_examples()}
    succeeded = response("The run succeeded.", {"application/json": run}, *RUN_HEADERS)
    accepted = response("The run is stored and continues in the background.", model_content("RunShown"), "Location")
    return {
        **operation("run", "Runs", "Run a workflow", _IDEMPOTENCY_KEY, _PREFER),
        "description": "Responds when the run has ended; with `callback_url` or `Prefer: respond-async`, 202 at once.",
        "security": _SECURITY,
        "requestBody": {"required": True, "content": {"application/json": request}},
        "responses": {"200": succeeded, "202": accepted, **problem_responses(_RUN_CODES)},
    }


def _list_runs_operation() -> OpenApiNode:
    page = response("A page of runs.", model_content("RunsPage"))
    return {
        **operation("listRuns", "Runs", "List and search your runs, newest first", *list_parameters()),
        "description": "Recorded runs that meet all conditions. A list has no outputs: `GET /runs/{id}` returns the "
        "output of a run.",
        "security": _SECURITY,
        "responses": {
            "200": page,
            **problem_responses((*_AUTHENTICATED_CODES, "invalid_request", "store_unavailable")),
        },
    }


def _get_run_operation() -> OpenApiNode:
    content = {**model_content("RunShown"), "text/event-stream": {"schema": {"type": "string"}}}
    run = response(
        "The run. As `text/event-stream` (by `Accept`), one event for each status until it has ended, an event `node` "
        "for each status of a node that a poll has shown, and a comment after 15 s without an event. A request with "
        "`Last-Event-ID` gets what followed that event.",
        content,
    )
    resumed = {"description": "An event stream whose `Last-Event-ID` is that of the end of the run: nothing follows."}
    return {
        **operation(
            "showRun",
            "Runs",
            "Look up a run",
            _RUN_ID,
            query_parameter("wait", {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0}),
        ),
        "description": (
            "With `wait` (long polling), responds when the run has ended or after that many seconds; a larger value "
            f"counts as {MAX_WAIT}."
        ),
        "security": _SECURITY,
        "responses": {
            "200": run,
            "204": resumed,
            **problem_responses((*_AUTHENTICATED_CODES, "not_found", "invalid_request", "store_unavailable")),
        },
    }


def _timeline_operation() -> OpenApiNode:
    timeline = response("The events of the run.", model_content("RunTimeline"))
    return {
        **operation("showTimeline", "Runs", "Look up what happened to a run", _RUN_ID),
        "description": "Waits, calls of the provider, fallbacks, the end, deliveries of the callback. Empty if "
        "the gateway keeps no history.",
        "security": _SECURITY,
        "responses": {
            "200": timeline,
            **problem_responses((*_AUTHENTICATED_CODES, "not_found", "store_unavailable")),
        },
    }


def _cancel_run_operation() -> OpenApiNode:
    cancelled = response(
        "The run was cancelled before a start was sent: nothing was run, and nothing will be. A repeated request gets "
        "the same response.",
        model_content("RunShown"),
    )
    too_late = response(
        "A start was sent, or is being sent: the run ends as the provider reports. The provider was asked to stop it, "
        "if it can; `cancel.state` says what came of that. "
        "Should the provider refuse this start, no other one follows, unless the replica that sends it stops or cannot "
        "be reached.",
        model_content("RunNotCancelled"),
        "Location",
    )
    codes = (*_AUTHENTICATED_CODES, "not_found", "run_ended", "store_unavailable")
    return {
        **operation("cancelRun", "Runs", "Cancel a run", _RUN_ID),
        "description": "Ends a stored run that waits for its start as `not_run` with the code `cancelled`. A client "
        "that waits for the run gets the problem `cancelled`; a callback is delivered. The body is ignored.",
        "security": _SECURITY,
        "responses": {"200": cancelled, "202": too_late, **problem_responses(codes)},
    }


def _replay_run_operation() -> OpenApiNode:
    accepted = response(
        "The replay is stored and continues in the background. A repeated request gets the same response, with "
        "`Idempotent-Replayed: true`.",
        model_content("RunShown"),
        "Location",
        "Idempotent-Replayed",
    )
    return {
        **operation("replayRun", "Runs", "Run again what has ended", _RUN_ID, _IDEMPOTENCY_KEY),
        "description": "Starts a new run, in the background, with the input of a stored run that has ended. A run that "
        "`failed` or `succeeded` is paid for once more; `not_run` had cost nothing. A run is replayed once, however "
        "often the request is repeated; with an Idempotency-Key, once for each key.",
        "security": _SECURITY,
        "requestBody": {"required": False, "content": model_content("ReplayRequest")},
        "responses": {"202": accepted, **problem_responses(_REPLAY_CODES)},
    }


_REPLAY_CODES = (
    *_AUTHENTICATED_CODES,
    *("malformed_json", "unsupported_media_type", "payload_too_large", "request_timeout", "invalid_request"),
    *("invalid_idempotency_key", "idempotency_in_flight", "idempotency_mismatch", "callback_url_refused"),
    *("not_found", "run_unfinished", "outcome_unknown", "input_not_kept", "workflow_not_found", "forbidden"),
    "store_unavailable",
)
_RUN_ID: OpenApiNode = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_IDEMPOTENCY_KEY: OpenApiNode = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "1 to 255 printable ASCII characters. For 24 hours, a repeated key and body get the same response.",
}
_PREFER: OpenApiNode = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "`respond-async`: respond at once with 202 (RFC 7240).",
}


def _usage_operation() -> OpenApiNode:
    return {
        **operation("showUsage", "Usage", "Sum up your runs", *usage_parameters(days=MAX_CLIENT_DAYS, clients=False)),
        "description": usage_description("Your runs that were created on the days from `from` to `to`, in UTC."),
        "security": _SECURITY,
        "responses": {
            "200": response("The report.", {**model_content("UsageReport"), **CSV_CONTENT}),
            **problem_responses((*_AUTHENTICATED_CODES, "invalid_request", "store_unavailable")),
        },
    }


def _healthz_operation() -> OpenApiNode:
    alive = response("The process is alive.", _status_content("alive"))
    return {
        **operation("healthz", "Health", "Liveness"),
        "security": [],
        "responses": {"200": alive, **problem_responses(_PUBLIC_CODES)},
    }


def _readyz_operation() -> OpenApiNode:
    ready = response(
        "The replica accepts requests. `store` is present while the store fails: runs that must be stored are refused.",
        _ready_content(),
    )
    draining = response("The replica is shutting down.", _status_content("draining"), "Retry-After")
    return {
        **operation("readyz", "Health", "Readiness"),
        "security": [],
        "responses": {"200": ready, "503": draining, **problem_responses(_PUBLIC_CODES)},
    }


def _openapi_operation() -> OpenApiNode:
    document = response("The document.", json_content({"type": "object"}))
    return {
        **operation("openapi", "Documentation", "This document"),
        "description": "With `server.open_docs`, no key is required. On the operations port: `/openapi-public.json`.",
        "security": _SECURITY,
        "responses": {"200": document, **problem_responses(_AUTHENTICATED_CODES)},
    }


def _docs_operation() -> OpenApiNode:
    page = response("The page.", {"text/html": {"schema": {"type": "string"}}})
    return {
        **operation("docs", "Documentation", "A page that displays this document"),
        "security": [],
        "responses": {"200": page, **problem_responses(_PUBLIC_CODES)},
    }


def _status_content(status: str) -> OpenApiNode:
    return json_content({"type": "object", "properties": {"status": {"const": status}}, "required": ["status"]})


def _ready_content() -> OpenApiNode:
    properties = {"status": {"const": "ready"}, "store": {"const": "unavailable"}}
    return json_content({"type": "object", "properties": properties, "required": ["status"]})


_RESPONSE_MODELS = (RunAnswer, RunShown, RunNotCancelled, RunTimeline, RunsPage, UsageReport, ProblemAnswer)
