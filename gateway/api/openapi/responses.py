"""What a route may answer, as OpenAPI has it: responses with their headers, and the table of problems by status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from gateway.api.openapi import examples
from gateway.problems import CONTENT_TYPE, PROBLEMS

OpenApiNode: TypeAlias = dict[str, object]
"""A part of the document."""

_STRING: OpenApiNode = {"type": "string"}
_INTEGER_SECONDS: OpenApiNode = {"type": "integer", "minimum": 0}
HEADERS: OpenApiNode = {
    "X-Request-Id": {
        "description": "The request's id: the one that was sent where it is acceptable, else a new one.",
        "schema": _STRING,
    },
    "Retry-After": {
        "description": "Whole seconds after which the same request may succeed.",
        "schema": _INTEGER_SECONDS,
    },
    "WWW-Authenticate": {"description": "How to present a key.", "schema": _STRING},
    "Location": {"description": "Where the run can be looked up.", "schema": _STRING},
    "Idempotent-Replayed": {"description": "`true` where the answer is an earlier one.", "schema": _STRING},
    "Allow": {"description": "The methods that the route has.", "schema": _STRING},
    "Runward-Run-Id": {"description": "The run, to be looked up at `/runs/{id}`.", "schema": _STRING},
    "Runward-Problem": {"description": "What went wrong: a `code` of `ProblemAnswer`.", "schema": _STRING},
    "Runward-Outcome": {"description": "What became of the run: its `outcome`.", "schema": _STRING},
    "RateLimit": {
        "description": "What is left of the client's own limits: items of `r` requests, more in `t` seconds.",
        "schema": _STRING,
    },
    "RateLimit-Policy": {
        "description": "The client's own limits: items of `q` requests in a window of `w` seconds.",
        "schema": _STRING,
    },
}
"""Every header of an answer that says something of its own, for the document's `components`."""

_HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def response(description: str, content: OpenApiNode, *headers: str) -> OpenApiNode:
    """A response: `content` is by media type; every response has X-Request-Id, and these `headers`."""
    header_refs = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)}
    return {"description": description, "headers": header_refs, "content": content}


def json_content(schema: OpenApiNode) -> OpenApiNode:
    """The content of a JSON response."""
    return {"application/json": {"schema": schema}}


def problem_responses(codes: Iterable[str]) -> OpenApiNode:
    """A response for each status, with the codes that it may carry."""
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
    return response("\n".join(_code_description(code) for code in codes), content, *_HEADERS_BY_STATUS.get(status, ()))


def _code_description(code: str) -> str:
    problem_type = PROBLEMS[code]
    return f"- `{code}`: {problem_type.title}{' (retryable)' if problem_type.retryable else ''}."
