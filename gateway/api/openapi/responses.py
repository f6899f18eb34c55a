"""OpenAPI Response Objects: responses with their headers, and problem responses by status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from gateway.api.openapi import examples
from gateway.problems import CONTENT_TYPE, PROBLEMS

OpenApiNode: TypeAlias = dict[str, object]
"""A node of the OpenAPI document."""

_STRING: OpenApiNode = {"type": "string"}
_INTEGER_SECONDS: OpenApiNode = {"type": "integer", "minimum": 0}
HEADERS: OpenApiNode = {
    "X-Request-Id": {
        "description": "Request id: that of the request if it is valid, else a new one.",
        "schema": _STRING,
    },
    "Retry-After": {
        "description": "Whole seconds after which the same request may succeed.",
        "schema": _INTEGER_SECONDS,
    },
    "WWW-Authenticate": {"description": "Authentication scheme.", "schema": _STRING},
    "Location": {"description": "URL of the run.", "schema": _STRING},
    "Idempotent-Replayed": {"description": "`true` if the response is that of an earlier request.", "schema": _STRING},
    "Allow": {"description": "Methods of the route.", "schema": _STRING},
    "Runward-Run-Id": {"description": "Id of the run, for `/runs/{id}`.", "schema": _STRING},
    "Runward-Problem": {"description": "Error code: a `code` of `ProblemAnswer`.", "schema": _STRING},
    "Runward-Outcome": {"description": "Outcome of the run.", "schema": _STRING},
    "Runward-Cost": {
        "description": "What the run cost, in the unit of its price, if it has one; with `; certainty=unknown` if it "
        "may have been paid.",
        "schema": _STRING,
    },
    "Runward-Budget-Remaining": {
        "description": "What remains of the client's tightest budget after the run was reserved, and its window in "
        "UTC: `3.96; window=2026-11`.",
        "schema": _STRING,
    },
    "RateLimit": {
        "description": "Remaining quota of the client's limits: `r` requests left, more in `t` seconds.",
        "schema": _STRING,
    },
    "RateLimit-Policy": {
        "description": "Limits of the client: `q` requests in a window of `w` seconds.",
        "schema": _STRING,
    },
}
"""Response headers, for `components` of the document."""

RUN_HEADERS = ("Runward-Cost", "Runward-Budget-Remaining", "RateLimit", "RateLimit-Policy")
"""Header fields of the response to a run that succeeded."""

_HEADERS_BY_STATUS = {
    402: ("Retry-After", "Runward-Cost"),
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def response(description: str, content: OpenApiNode, *headers: str) -> OpenApiNode:
    """Response Object. `content`: by media type. `headers`: names beside X-Request-Id, which every response has."""
    header_refs = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)}
    return {"description": description, "headers": header_refs, "content": content}


def json_content(schema: OpenApiNode) -> OpenApiNode:
    """Content of a JSON response."""
    return {"application/json": {"schema": schema}}


def problem_responses(codes: Iterable[str]) -> OpenApiNode:
    """One Response Object for each status of these error codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {str(status): _problem_response(status, by_status[status]) for status in sorted(by_status)}


def _problem_response(status: int, codes: list[str]) -> OpenApiNode:
    restriction = {
        "type": "object",
        "properties": {"status": {"type": "integer", "const": status}, "code": {"type": "string", "enum": codes}},
    }
    schema = {"allOf": [{"$ref": "#/components/schemas/ProblemAnswer"}, restriction]}
    content: OpenApiNode = {CONTENT_TYPE: {"schema": schema, "examples": examples.problem_examples(codes)}}
    headers = _HEADERS_BY_STATUS.get(status, ())
    if not any(PROBLEMS[code].retryable for code in codes):
        headers = tuple(name for name in headers if name != "Retry-After")
    return response("\n".join(_code_description(code) for code in codes), content, *headers)


def _code_description(code: str) -> str:
    problem_type = PROBLEMS[code]
    return f"- `{code}`: {problem_type.title}{' (retryable)' if problem_type.retryable else ''}."
